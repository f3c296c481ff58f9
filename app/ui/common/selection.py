"""The selected rows: one text, which charts, quick picks and the keyboard write to.

The text is in the address, so a shared view has its rows. Rows selected in one chart are highlighted in the others;
the chart itself is not redrawn while it shows the same, since that would end its selection.
"""

import functools
import re
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import numpy as np
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.services.runs.layer import LayerView
from app.ui.common.parts import rerun_control
from app.ui.common.text import literal

MAX_ROWS = 200
PICKS: dict[str, Callable[[LayerView], np.ndarray]] = {
    "score most concentrated": lambda view: -view.coefficients,
    "score most evenly spread": lambda view: view.coefficients,
    "pruned most": lambda view: -view.own.row_sparsity,
    "pruned least": lambda view: view.own.row_sparsity,
    "hurt most by uniform sparsity": lambda view: view.cosines[0].cosine,
}
GAP_PICKS: dict[str, Callable[[LayerView], np.ndarray]] = {
    "TRIM prunes too much, against the optimum": lambda whole: -_excess(whole),
    "TRIM prunes too little, against the optimum": lambda whole: _excess(whole),
}
PICKED_ROWS = 5


def _excess(whole: LayerView) -> np.ndarray:
    """Count the weights that TRIM prunes more than the optimum: counts, so that equal ones tie."""
    excess: np.ndarray = np.subtract(
        whole.allocation("trim").counts, whole.allocation("optimal").counts, dtype=np.int64
    )
    return excess


class RowsError(ValueError):
    """The typed rows cannot be read."""


def parse_rows(text: str, rows: int) -> list[int]:
    """Parse row numbers from text such as "3, 17, 20-25": ascending, each once.

    Raises:
        RowsError: something is not a number, or not a row of this layer.
    """
    chosen: set[int] = set()
    for part in filter(None, re.split(r"[,;\s]+", text.strip())):
        match = re.fullmatch(r"(\d{1,9})(?:[-–](\d{1,9}))?", part)
        if match is None:
            raise RowsError(f"Type row numbers such as 3, 17, 20-25; “{part[:20]}” is not a row number.")
        first = int(match[1])
        last = int(match[2] or first)
        if not first <= last < rows:
            raise RowsError(f"This layer has the rows 0 to {rows - 1}; “{part[:20]}” is not among them.")
        chosen.update(range(first, last + 1))
        if len(chosen) > MAX_ROWS:
            raise RowsError(f"Select at most {MAX_ROWS} rows.")
    return sorted(chosen)


def format_rows(rows: list[int]) -> str:
    """Return the shortest text that `parse_rows` reads as these rows, which ascend."""
    parts: list[list[int]] = []
    for row in rows:
        if parts and row == parts[-1][1] + 1:
            parts[-1][1] = row
        else:
            parts.append([row, row])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


@dataclass(frozen=True)
class SelectionSource:
    """A chart in which rows can be selected, and a key of everything that it shows."""

    chart: str
    shown: Hashable


def select(rows: np.ndarray | list[int], source: SelectionSource | None) -> None:
    """Select rows in a callback; `source` is the chart in which they were selected."""
    chosen = sorted({int(row) for row in rows})
    if len(chosen) > MAX_ROWS:
        st.toast(f"{len(chosen):,} rows selected; the first {MAX_ROWS} are shown.", icon=":material/info:")
    st.session_state["rows"] = format_rows(chosen[:MAX_ROWS])
    st.session_state["selected_in"] = source
    rerun_control("rows")


def on_chart(
    source: SelectionSource, marked: list[int], rows_of: Callable[[list[dict]], np.ndarray | list[int]]
) -> Callable[[], None]:
    """Return a callback for the chart; `rows_of` turns its selected points into rows.

    If rows were `marked` in it, it is redrawn with the marks of the new rows.
    """
    # Streamlit keeps the callback of every figure that a session has ever shown, so it must hold no study.
    st.session_state.setdefault("charts", {})[source.chart] = (source, marked, rows_of)
    return functools.partial(_selected, source.chart)


def _selected(chart: str) -> None:
    source, marked, rows_of = st.session_state["charts"][chart]
    points = st.session_state[chart]["selection"]["points"]
    if points:
        select(rows_of(points), None if marked else source)
    elif st.session_state.get("selected_in") == source:
        select([], None)


def chosen_data(points: list[dict]) -> list:
    """Return the first of the customdata of each chosen point, once each; points without any are left out."""
    data = [np.ravel(point["customdata"]) for point in points if point.get("customdata") is not None]
    return list(dict.fromkeys(each[0] for each in data if each.size))


def rows_for(source: SelectionSource, rows: list[int]) -> list[int]:
    """Return the rows to highlight in a chart: none in the chart in which they were selected, which shows them."""
    if st.session_state.get("selected_in") == source:
        return []
    forget_selection(source.chart)
    return rows


def forget_selection(chart: str) -> None:
    """Forget the selection in a chart that now shows something else or is not shown."""
    selected_in = st.session_state.get("selected_in")
    if selected_in is not None and selected_in.chart == chart:
        st.session_state["selected_in"] = None


def rows_label() -> str:
    """Name the selected rows, for the button that opens their controls."""
    text = " ".join(str(st.session_state.get("rows", st.query_params.get("rows", ""))).split())
    return f"Rows {text if len(text) <= 16 else text[:15] + '…'}" if text else "Select rows"


def choose_rows(
    count: int,
    view: Callable[[], LayerView],
    whole: Callable[[], LayerView] | None = None,
    messages: DeltaGenerator | None = None,
) -> list[int]:
    """Show the controls for selecting rows, and return the rows.

    Args:
        count: number of the layer's rows.
        view: returns the layer as it is shown.
        whole: returns it with all allocations, if rows can be picked by TRIM's distance from the optimum.
        messages: the place for errors in typed rows; None: below the box.
    """

    def typed() -> None:
        st.session_state["selected_in"] = None

    def picked() -> None:
        if pick := st.session_state["pick"]:
            if whole is not None and pick in GAP_PICKS:
                values = GAP_PICKS[pick](whole())
            else:
                values = PICKS[pick](view())
            order = np.argsort(np.where(np.isfinite(values), values, np.inf), kind="stable")
            select(order[:PICKED_ROWS], None)

    left, right = st.columns([3, 2])
    text = left.text_input(
        "Selected rows",
        key="rows",
        bind="query-params",
        max_chars=2000,
        on_change=typed,
        placeholder="such as 3, 17, 20-25",
    )
    right.selectbox(
        f"Pick the {PICKED_ROWS} rows …",
        [*PICKS, *(() if whole is None else GAP_PICKS)],
        index=None,
        key="pick",
        on_change=picked,
        placeholder="hurt most, …",
    )
    try:
        return parse_rows(text, count)
    except RowsError as error:
        (messages or left).markdown(f":red[{literal(error)}]")
        return []
