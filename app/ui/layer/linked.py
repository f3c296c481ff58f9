"""The four charts of a layer in one component of ours, where a row under the pointer lights up in all of them.

One message to the browser holds everything: the drawings, and the place of each row in each chart.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from weakref import WeakKeyDictionary

import numpy as np
import streamlit as st

from app.services.layer.shipped import Gains
from app.services.runs.layer import LayerView
from app.services.server.lru import SharedCache
from app.ui.common.parts import go_to_layer, rerun_control
from app.ui.common.selection import select
from app.ui.common.studio import open_studio
from app.ui.layer import linked_text
from app.ui.layer.why import why
from diagnostics.figures.theme import METHOD_STYLES, PALETTES, SCORE_STYLES, Style, series_styles
from diagnostics.panel_parts import LayerNumbers
from diagnostics.panels import CosineAxis, Panels, linked_panels

KEY = "linked"
_HERE = Path(__file__).parent
# Plotly's names for dashes as SVG dash arrays.
_DASHES = {
    "solid": "",
    "dash": "7 4",
    "dot": "2 3",
    "dashdot": "8 3 2 3",
    "longdash": "11 4",
    "longdashdot": "11 3 2 3",
}
PANELS_CACHE_SIZE = 8  # panels of one layer
MAX_UNCOMPRESSED_BYTES = 200_000  # of arrays; more are sent compressed
# Weak keys: the panels of a layer are dropped with the layer.
_drawn: WeakKeyDictionary[LayerView, SharedCache[tuple, tuple[Panels, list[dict]]]] = WeakKeyDictionary()
_mount = st.components.v2.component(
    "trim_linked_charts",
    html='<div class="trim-linked"></div>',
    css=(_HERE / "linked.css").read_text(encoding="utf-8"),
    js=(_HERE / "linked.js").read_text(encoding="utf-8"),
    isolate_styles=False,
)


def linked_charts(
    view: LayerView,
    whole: LayerView,
    rows: list[int],
    *,
    pinned: LayerView | None = None,
    pinned_label: str = "",
    charts: bool = True,
    file_name: str = "layer",
    gains: Gains | None = None,
    live: bool = False,
) -> None:
    """Show the line of numbers and, if they are open, the four charts.

    Args:
        view: the layer with the shown allocations.
        whole: the layer with all allocations, for the numbers.
        rows: the selected rows.
        pinned: a second layer, drawn into the same charts.
        pinned_label: how the pinned layer differs.
        charts: whether the charts are open.
        file_name: name of saved files, without suffix.
        gains: the gains of all layers of the model, if they are known.
        live: whether another layer of the model can be opened from here.
    """
    if "go_to_layer" in st.session_state:
        st.rerun()  # all of the page: the controls of the layer are not in this part
    st.session_state["linked_rows"] = view.rows
    cosine_axis: CosineAxis = "linear" if st.query_params.get("cosine") == "linear" else "logarithmic"
    panels, drawn = _panels(view, whole, pinned, cosine_axis) if charts else (None, [])
    content: dict[str, object] = {
        "dark": st.context.theme.type == "dark",
        "numbers": _headline(view, whole, pinned),
        "pinned": f"pinned: {pinned_label}" if pinned is not None else "",
        "meanings": linked_text.meanings(whole),
        "why": why(whole, gains, live),
        "selected": rows,
        "styles": _styles(view, pinned),
        "methods": [
            [each.method, style.symbol, each.label]
            for each, style in zip(view.allocations, _series(view), strict=True)
        ],
        "panels": drawn,
        "rows": view.rows,
        "samples": [],
        "rateOrder": [],
    }
    if panels is not None:
        content["samples"], content["rateOrder"] = panels.samples, panels.rate_order
        content["units"] = panels.units
    result = _mount(
        key=KEY,
        data=encode(content, {} if panels is None else panels.arrays),
        on_rows_change=_selected,
        on_opened_change=_opened,
        on_axis_change=_other_axis,
        on_layer_change=_other_layer,
        on_saved_change=lambda: None,
    )
    if panels is not None and result.saved in {panel.name for panel in panels.panels if not panel.note}:
        from app.ui.layer.cards import linked_view  # imports Plotly

        open_studio(
            lambda: linked_view(result.saved, view, rows, pinned is not None), f"{file_name}-{result.saved}"
        )


def _panels(
    view: LayerView, whole: LayerView, pinned: LayerView | None, cosine_axis: CosineAxis
) -> tuple[Panels, list[dict]]:
    """Return the four panels and their JSON; without a pinned layer, cached for all readers."""

    def make() -> tuple[Panels, list[dict]]:
        panels = linked_panels(_numbers(view), None if pinned is None else _numbers(pinned), cosine_axis)
        findings = linked_text.findings(view)
        other = {"cosine": "linear" if cosine_axis == "logarithmic" else "logarithmic"}
        drawn = [
            {
                **vars(panel),
                "finding": findings[panel.name],
                "legend": linked_text.legend(panel),
                "otherAxis": other.get(panel.name, ""),
            }
            for panel in panels.panels
        ]
        return panels, drawn

    if pinned is not None:
        return make()
    shared = _drawn.setdefault(whole, SharedCache(PANELS_CACHE_SIZE))
    return shared.get((tuple(each.method for each in view.allocations), cosine_axis), make)


def encode(content: Mapping[str, object], arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return one message: the length of the JSON, the JSON padded to whole words, and the arrays, packed if large."""
    table: dict[str, tuple[str, int, int]] = {}
    parts: list[bytes] = []
    offset = 0
    for name, array in arrays.items():
        data = np.ascontiguousarray(array).tobytes()
        table[name] = (array.dtype.name, offset, array.size)
        data += b"\0" * (-len(data) % 4)
        parts.append(data)
        offset += len(data)
    is_packed = offset > MAX_UNCOMPRESSED_BYTES
    header = json.dumps(
        {**content, "arrays": table, "packed": is_packed},
        separators=(",", ":"),
        allow_nan=False,
        default=vars,
    ).encode()
    header += b" " * (-len(header) % 4)
    body = b"".join(parts)
    return len(header).to_bytes(4, "little") + header + (zlib.compress(body) if is_packed else body)


def _numbers(view: LayerView) -> LayerNumbers:
    search = view.search
    has_rates = search is not None and np.isfinite(search.rate_sparsity).any()
    return LayerNumbers(
        view.target,
        view.coefficients,
        view.sparsity_grid,
        view.cosine_curves,
        view.cosine_bands,
        view.allocations,
        view.cosines,
        None if search is None else search.trace,
        search.rate_sparsity if search is not None and has_rates else None,
    )


def _series(view: LayerView) -> list[Style]:
    return series_styles([each.method for each in view.allocations])


def _styles(view: LayerView, pinned: LayerView | None) -> dict[str, dict[str, str]]:
    palette = PALETTES["dark" if st.context.theme.type == "dark" else "light"]
    score = SCORE_STYLES.get(view.score_name, SCORE_STYLES["wanda"])
    colours = {
        "ink": "var(--st-text-color)",
        "muted": "var(--muted)",
        "gain": palette.gain,
        "loss": palette.loss,
        "score": score.colour,
    }
    series = {"uniform": METHOD_STYLES["uniform"]}
    for side in filter(None, (pinned, view)):
        series |= {each.method: style for each, style in zip(side.allocations, _series(side), strict=True)}
    return {name: {"colour": colour, "dash": ""} for name, colour in colours.items()} | {
        name: {"colour": style.colour, "dash": _DASHES[style.dash]} for name, style in series.items()
    }


def _headline(view: LayerView, whole: LayerView, pinned: LayerView | None) -> list[tuple[str, ...]]:
    """Return the line of numbers; a method in the charts gets the line style that it has there."""
    drawn = {each.label: each.method for each in view.allocations}
    return [
        (*entry, drawn.get(entry[0].removeprefix(linked_text.QUALITY), ""))
        for entry in linked_text.headline(whole, pinned)
    ]


def _selected() -> None:
    """Select the rows that were clicked or boxed, after checking the browser's message."""
    sent = st.session_state[KEY]["rows"]
    count = st.session_state["linked_rows"]
    if isinstance(sent, list) and all(type(row) is int and 0 <= row < count for row in sent):
        select(sent, None)


def _opened() -> None:
    """Open the part of the page with more on a chart."""
    if (part := linked_text.PART_OF_CHART.get(st.session_state[KEY]["opened"])) is not None:
        st.session_state["part"] = part
        rerun_control("part")


def _other_layer() -> None:
    """Go to another layer of the model; the page checks that there is one of that name."""
    go_to_layer(st.session_state[KEY]["layer"])


def _other_axis() -> None:
    """Change the axis of the cosines; the address holds it."""
    if st.session_state[KEY]["axis"] == "linear":
        st.query_params["cosine"] = "linear"
    else:
        st.query_params.pop("cosine", None)
