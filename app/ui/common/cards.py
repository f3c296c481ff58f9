"""Charts in frames: the figure, its finding, and its formula and numbers one click away."""

import dataclasses
import json
import re
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas  # noqa: F401  Plotly uses it once it is in sys.modules, where another thread may be half way through it
import plotly.graph_objects as go
import streamlit as st

from app.services.server.access import SEMINAR
from app.services.server.lru import SharedCache
from app.ui.common.address import Bind
from app.ui.common.present import LARGER, presenting
from app.ui.common.segments import segments
from app.ui.common.selection import forget_selection
from app.ui.common.studio import save_button, theme
from app.ui.common.text import literal
from diagnostics.figures.frame import enlarged
from diagnostics.format import plain_text

TOP_MARGIN = 28
DRAWN_CACHE_SIZE = 64
_CONFIG = {
    "displaylogo": False,
    "showSendToCloud": False,
    "displayModeBar": "hover",
    "modeBarButtonsToRemove": ["toImage", "autoScale2d", "zoomIn2d", "zoomOut2d"],
}
# The explanation in brackets after an axis's name; units are kept.
_DEFINITION = re.compile(r"(<br>| )\((share|count|index|dimensionless|0 = |in units)[^)]*\)$")
_drawn: SharedCache[Hashable, "_Drawn"] = SharedCache(DRAWN_CACHE_SIZE)


@dataclass(frozen=True)
class View:
    """The contents of a card.

    Attributes:
        figure: the chart.
        finding: one sentence on what the chart shows, plain text.
        formula: Markdown.
        alt: what is drawn, for readers who cannot see the chart; they read the finding after it.
        numbers: the columns behind the chart; called only when they are downloaded.
        has_key: whether the figure's subtitle explains its marks, so that a brief card shows it too.
    """

    figure: go.Figure
    finding: str
    formula: str
    alt: str
    numbers: Callable[[], Mapping[str, np.ndarray]]
    has_key: bool = False


def card(
    key: str,
    variants: Mapping[str, Callable[[], View]],
    *,
    file_name: str,
    on_select: Callable[[], None] | None = None,
    selectable: frozenset[str] = frozenset(),
    clickable: bool = False,
    shared: Hashable = None,
    missing: str | None = None,
    bind: Bind = None,
    brief: bool = False,
    title: str | None = None,
) -> None:
    """Show a framed view; with several variants, a control says which.

    Args:
        key: prefix of the keys of the card's widgets; the chart's own key is `key` itself.
        variants: functions that make the views on demand.
        file_name: name of downloads, without suffix.
        on_select: called when bars or points are selected in a selectable variant.
        selectable: the names of the variants whose bars or points can be selected.
        clickable: whether a click selects, and the box tool has to be chosen above the chart; otherwise a drag selects
            bars by where they are, however high they are.
        shared: a key of everything that the views depend on, so that they are drawn once for all readers.
        missing: the views that do not exist, and why.
        bind: "query-params" if the address holds the shown variant.
        brief: whether to leave out the figure's subtitle, unless it is a key to the marks, and the explanations of its
            axes, because the page defines its terms once; a saved figure has them.
        title: Markdown; None: the figure's own.
    """
    with st.container(border=True, height="stretch", key=f"card-{key}"):
        chosen = next(iter(variants))
        if len(variants) > 1:
            chosen = segments("View", variants, f"{key}_view", bind=bind)

        def draw() -> _Drawn:
            drag = None if chosen not in selectable else "pan" if clickable else "select"
            return _draw(variants[chosen](), drag, brief)

        drawn = draw() if shared is None else _shared((key, chosen, shared), draw)
        view, height = drawn.view, drawn.height
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"signs-{key}"):
            st.markdown(f"**{literal(drawn.title)}**" if title is None else title)
            with st.popover("Formula", type="tertiary", icon=":material/function:"):
                st.markdown(view.formula)
            save_button(variants[chosen], f"{file_name}-{key.removeprefix(f'{file_name}_')}", key)
        if drawn.subtitle and (view.has_key or not brief):
            st.caption(literal(drawn.subtitle))
        selects = on_select if chosen in selectable else None
        if selects is None:
            forget_selection(key)
        st.plotly_chart(
            drawn.figure,
            key=f"{key}_{chosen}" if selects is None else key,
            theme=None,
            height=height,
            config=_CONFIG,
            alt=SEMINAR.without_paths(f"{view.alt}. {view.finding}"),
            on_select=selects or "ignore",
            selection_mode=("points", "box"),
        )
        st.caption(literal(view.finding))
        if missing is not None:
            st.caption(missing)


@dataclass(frozen=True)
class _Drawn:
    """A view ready for the page, immutable so that readers can share it.

    Attributes:
        title, subtitle: the figure's, as text of the page, which wraps where Plotly would cut.
        figure: the chart without title and subtitle.
        height: the chart's height in pixels.
    """

    view: View
    title: str
    subtitle: str
    figure: go.Figure
    height: int


def _draw(view: View, drag: str | None, brief: bool) -> _Drawn:
    figure = enlarged(view.figure, LARGER) if presenting() else view.figure
    title = figure.layout.title
    heading = plain_text(title.text), plain_text(title.subtitle.text or "")
    height = round(figure.layout.height - figure.layout.margin.t + TOP_MARGIN)
    layout = figure.layout
    layout.title, layout.margin.t, layout.height = None, TOP_MARGIN, height
    if brief:
        for axis in (*figure.select_xaxes(), *figure.select_yaxes()):
            axis.title.text = _DEFINITION.sub("", axis.title.text or "")
    if drag is not None:
        # While a drag selects, Streamlit lets no click select.
        layout.dragmode, layout.selectdirection = drag, "any" if drag == "pan" else "h"
    return _Drawn(view, *heading, figure, height)


def _shared(key: Hashable, draw: Callable[[], _Drawn]) -> _Drawn:
    """Return a view that was drawn before in the same theme for the same kind of reader, or draw it now."""
    key = (key, theme(), presenting(), SEMINAR.may())

    def draw_for_all() -> _Drawn:
        drawn = draw()
        return dataclasses.replace(drawn, figure=_Sent(drawn.figure))

    return _drawn.get(key, draw_for_all)


class _Sent(go.Figure):
    """An immutable figure that is sent to many pages, converted to plain JSON once."""

    def __init__(self, figure: go.Figure) -> None:
        """Take the content of a figure."""
        super().__init__()
        self._content: dict = json.loads(figure.to_json())

    def to_dict(self) -> dict:
        """Return the content; Streamlit asks for it at each run of a page."""
        return self._content


def show_facts(*facts: tuple[str, str, str | None] | tuple[str, str, str | None, str]) -> None:
    """Show up to four facts side by side, on a narrow page in two lines.

    A fact has a label, a value, and a note below it; a fourth text appears on hover.
    """
    with st.container(key="facts"):
        st.html(
            "<style>.st-key-facts [data-testid=stMetricDelta] * { white-space: normal; }"
            "@media (max-width: 640px) {"
            ".st-key-facts [data-testid=stHorizontalBlock] { flex-wrap: wrap; }"
            ".st-key-facts [data-testid=stColumn] { flex: 1 1 40%; min-width: 40%; } }</style>"
        )
        for column, (label, value, note, *more) in zip(st.columns(4), facts, strict=False):
            column.metric(
                label,
                value,
                note,
                delta_color="off",
                delta_arrow="off",
                border=True,
                height="stretch",
                help=next(iter(more), None),
            )
