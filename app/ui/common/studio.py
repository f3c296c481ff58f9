"""The figure studio: any chart as a figure for paper or slide, with its numbers and the code that draws it."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Callable
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

import plotly.graph_objects as go
import streamlit as st

from app.services.results.pictures import NO_BROWSER, PICTURES, PictureError, PictureFormat, browser_path
from app.ui.common.open_figure import figure_closed, figure_opened
from app.ui.common.segments import segments
from app.ui.common.text import literal
from diagnostics.export import arrays_npz, table_csv
from diagnostics.figures.printed import (
    INCH,
    MAX_TITLE_CHARACTERS,
    MIN_FONT_POINTS,
    PAGES,
    label_texts,
    printed,
)
from diagnostics.figures.theme import Theme
from diagnostics.format import plain_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from app.ui.common.cards import View

MAX_LABELS = 16  # labels of a figure that can be changed
MAX_LABEL_CHARACTERS, MAX_CAPTION_CHARACTERS = 120, 2000
PREVIEW_PIXELS = 640
_SETTINGS, _FAILED = "figure_settings", "figure_failed"
QUEUE_SECONDS = 2.0  # between two updates of an open studio's queue
_on_paper: ContextVar[bool] = ContextVar("on_paper", default=False)


def theme() -> Theme:
    """Return the reader's theme, light or dark; light while a figure is drawn for paper."""
    return "light" if _on_paper.get() else st.context.theme.type or "light"


@contextmanager
def _for_paper() -> Iterator[None]:
    token = _on_paper.set(True)
    try:
        yield
    finally:
        _on_paper.reset(token)


def set_caption_settings(*settings: object) -> None:
    """Set what the page's charts show, for captions of saved figures: model, layer, target, text."""
    st.session_state[_SETTINGS] = ", ".join(str(each) for each in settings if each not in (None, ""))


def save_button(make: Callable[[], View], file_name: str, key: str) -> None:
    """Show the button "Save", which opens a chart in the studio.

    Args:
        make: draws the chart; called when the studio is open, in the light theme.
        file_name: name of saved files, without suffix.
        key: the chart's key; the button's key is this with "_save".
    """
    if st.button("Save", type="tertiary", icon=":material/download:", key=f"{key}_save"):
        open_studio(make, file_name)


def open_studio(make: Callable[[], View], file_name: str) -> None:
    """Open a chart in the studio, with the arguments of `save_button`."""
    st.session_state[_FAILED] = []
    figure_opened()
    with _for_paper():
        view = make()
    _studio(view, re.sub(r"[^\w.-]+", "-", file_name).strip("-")[:80] or "figure")


@st.dialog("Save as a figure", width="large", icon=":material/download:", on_dismiss=figure_closed)
def _studio(view: View, file_name: str) -> None:
    left, right = st.columns([5, 4], gap="medium")
    with right:
        name = segments("Width", PAGES, "studio_page", labelled=True)
        page = PAGES[name]
        points = st.number_input(
            "Font size (points)", MIN_FONT_POINTS, 40, page.points, key=f"studio_points_{name}"
        )
        title = _text(
            st.text_input, "Title", plain_text(view.figure.layout.title.text or ""), MAX_TITLE_CHARACTERS
        )
        labels = _changed_labels(view.figure)
    figure = printed(view.figure, page, points, title, labels)
    with left:
        scale = min(1.0, PREVIEW_PIXELS / figure.layout.width)
        preview = figure if scale == 1 else printed(view.figure, page, points, title, labels, scale)
        with st.container(border=True, key="studio-preview"):
            st.plotly_chart(
                preview,
                theme=None,
                width=preview.layout.width,
                height=preview.layout.height,
                key="studio_preview",
                config={"displayModeBar": False, "staticPlot": True},
                alt=view.alt,
            )
        st.caption(
            f"{figure.layout.width / INCH:.2f} × {figure.layout.height / INCH:.2f} inches"
            + ("" if scale == 1 else f", shown at {scale:.0%}")
        )
        caption = _text(st.text_area, "Caption", _caption(view), MAX_CAPTION_CHARACTERS, height=110)
        _downloads(figure, view, caption, file_name)


def _caption(view: View) -> str:
    settings = st.session_state.get(_SETTINGS)
    title = view.figure.layout.title
    parts = [view.finding, plain_text(title.subtitle.text or "")]
    text = " ".join(dict.fromkeys(part for part in parts if part))
    return (text + (f" ({settings}.)" if settings else ""))[:MAX_CAPTION_CHARACTERS]


def _changed_labels(figure: go.Figure) -> dict[str, str]:
    texts = label_texts(figure)[:MAX_LABELS]
    with st.expander("Labels", icon=":material/edit:"):
        new = [
            _text(st.text_input, "Label", text, MAX_LABEL_CHARACTERS, label_visibility="collapsed")
            for text in texts
        ]
    return {old: text for old, text in zip(texts, new, strict=True) if text != old[:MAX_LABEL_CHARACTERS]}


def _text(widget: Callable[..., str | None], label: str, text: str, limit: int, **more: object) -> str:
    """Show an editable text of at most `limit` characters.

    Its key is made from the original text, so that an edited text is kept for this chart only.
    """
    key = f"studio_{label}_{hash(text)}"
    return (widget(label, text[:limit], max_chars=limit, key=key, **more) or "")[:limit]


def _downloads(figure: go.Figure, view: View, caption: str, file_name: str) -> None:
    drawable = browser_path() is not None
    if not drawable:
        st.info(NO_BROWSER, icon=":material/info:")
    else:
        st.fragment(_queue, run_every=QUEUE_SECONDS)()

    def button(label: str, make: Callable[[], bytes], ending: str, disabled: bool = False) -> None:
        name = f"{file_name}.{ending}"
        mime, key = mimetypes.guess_type(name)[0] or "application/octet-stream", f"studio_{ending}"
        st.download_button(label, make, name, mime, key=key, on_click="ignore", disabled=disabled)

    def packed() -> bytes:
        from diagnostics.figure_code import figure_zip

        return figure_zip(figure, caption, _table(view))

    failed: list[str] = st.session_state[_FAILED]  # a download is made outside of the page's script

    def picture(label: str, kind: PictureFormat) -> None:
        def made() -> bytes:
            failed.clear()
            try:
                return PICTURES.draw(figure, kind)
            except PictureError as error:
                failed.append(str(error))
                raise

        button(label, made, kind, not drawable)

    with st.container(horizontal=True, gap="small", key="studio-pictures"):
        picture("PDF", "pdf")
        picture("SVG", "svg")
        picture("PNG, 300 dpi", "png")
    with st.container(horizontal=True, gap="small", key="studio-numbers"):
        button("Code and data", packed, "zip")
        button("CSV", lambda: table_csv(view.numbers()), "csv")
        button("NPZ", lambda: arrays_npz(view.numbers()), "npz")
    st.caption(
        "Code and data: a zip of a Plotly and a matplotlib script, what they draw, the caption and the numbers."
    )


def _queue() -> None:
    """Show why the last picture failed, or how many others are ahead."""
    for reason in st.session_state[_FAILED]:
        st.error(literal(reason), icon=":material/error:")
    if (waiting := PICTURES.waiting) > 1:
        st.caption(f":material/hourglass_top: {waiting} pictures are being made; yours waits for its turn.")


def _table(view: View) -> bytes | None:
    try:
        return table_csv(view.numbers())
    except ValueError:  # arrays of several shapes, which a table cannot hold
        return None
