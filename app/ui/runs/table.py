"""The table of all runs, and the choice of one."""

import datetime
import math
from collections.abc import Sequence

import streamlit as st
from streamlit.elements.lib.column_types import ColumnConfig

from app.services.runs.facts import RunFacts
from app.ui.common.segments import segments
from app.ui.common.text import literal
from diagnostics.format import counted

KINDS = {"All": "", "Whole models": "model", "Single layers": "layer", "Recovered": "recovery"}
ROW_PIXELS = 35
SCROLLBAR_PIXELS = 14
MAX_ROWS = 12  # shown at once; the table scrolls


def choose_run(facts: Sequence[RunFacts]) -> str | None:
    """Show search, table and list; return the id of the chosen run, which the address follows; None: there is none."""
    with st.container(horizontal=True, vertical_alignment="bottom"):  # one below the other on narrow pages
        search = st.text_input(
            "Search",
            key="search",
            bind="query-params",
            placeholder="name, note, model, method, state: every word must be somewhere",
            max_chars=200,
            icon=":material/search:",
        )
        kind = segments("Kind", KINDS, "kind", default="All", bind="query-params", labelled=True)
    found = [
        each
        for each in facts
        if each.matches(search or "") and (not KINDS[kind] or each.kind in (KINDS[kind], ""))
    ]
    if not found:
        st.info(
            f"Of {counted(len(facts), 'run')} here none matches “{literal(search)}”. Search for fewer words."
            if search
            else f"Of {counted(len(facts), 'run')} here none is of this kind.",
            icon=":material/search_off:",
        )
        return None
    ids = [each.id for each in found]
    _follow_address([each.id for each in facts], ids)

    # Streamlit cannot move the selection of a table, so that another selection needs a new key.
    key = f"table-{st.session_state.get('table_round', 0)}-{hash(tuple(ids))}"

    def picked() -> None:
        if rows := st.session_state[key]["selection"]["rows"]:
            st.session_state["run_shown_here"] = ids[rows[0]]

    st.dataframe(
        table_columns(found),
        hide_index=True,
        key=key,
        on_select=picked,
        selection_mode="single-row-required",
        selection_default={"selection": {"rows": [ids.index(st.session_state["run_shown_here"])]}},
        row_height=ROW_PIXELS,
        placeholder="",
        height=ROW_PIXELS * (min(len(found), MAX_ROWS) + 1) + SCROLLBAR_PIXELS,
        column_config=_column_config(),
        alt=f"Table of {counted(len(found), 'run')}",
    )
    part = "" if len(found) == len(facts) else f"{len(found):,} of "
    st.caption(f"{part}{counted(len(facts), 'run')}. Tick a line, or choose below.")
    labels = {each.id: f"{each.name} ({each.id})" if each.name != each.id else each.id for each in found}
    chosen = st.selectbox(
        "Run", ids, format_func=labels.__getitem__, key="run_shown_here", on_change=_move_tick
    )
    if st.query_params.get("run") != chosen:
        st.session_state["run_asked_here"] = chosen
        st.query_params["run"] = chosen
    return chosen


def _move_tick() -> None:
    st.session_state["table_round"] = st.session_state.get("table_round", 0) + 1


def _follow_address(all_ids: Sequence[str], ids: Sequence[str]) -> None:
    """Select the run of the address, or else one in the list; to be called before the list is shown."""
    requested = st.session_state.pop("run_brought", None) or st.query_params.get("run")
    if requested is not None and requested != st.session_state.get("run_asked_here"):
        st.session_state["run_asked_here"] = requested
        if requested in ids:
            st.session_state["run_shown_here"] = requested
            _move_tick()
        elif requested not in all_ids:
            st.warning(
                f"There is no run {literal(requested[:60])} here (any more): it may have been deleted or moved.",
                icon=":material/link_off:",
            )
    if st.session_state.get("run_shown_here") not in ids:
        st.session_state["run_shown_here"] = requested if requested in ids else ids[0]


def table_columns(facts: Sequence[RunFacts]) -> dict[str, list]:
    """Return the columns of the table, a value for each run."""
    return {
        "Name": [each.name for each in facts],
        "Method": [each.method for each in facts],
        "Sparsity": [None if each.sparsity is None else 100 * each.sparsity for each in facts],
        "Perplexity": [_short(each.perplexity) for each in facts],
        "State": [state_text(each) for each in facts],
        "Kind": [each.kind for each in facts],
        "Model": [each.model for each in facts],
        "Created": [_time(each.created) for each in facts],
        "Size": [each.size_bytes / 1e6 for each in facts],
        "Note": [each.note for each in facts],
    }


def _column_config() -> dict[str, ColumnConfig | str | None]:
    column = st.column_config
    return {
        "Name": column.TextColumn(width=200),
        "Method": column.TextColumn(width=220),
        "State": column.TextColumn(width=170),
        "Kind": column.TextColumn(
            width=70,
            help="A whole model, a single layer that was kept from the Layer page, or a pruned model that was trained.",
        ),
        "Model": column.TextColumn(width=200),
        "Sparsity": column.NumberColumn(
            "Sparsity (%)",
            format="%.2f",
            help="Of the whole model, or of the kept layer, as the column Kind says: the share of its weights that is "
            "pruned. Where the run is not complete: as requested.",
        ),
        "Perplexity": column.NumberColumn(
            format="localized", help="On the text measured last; lower is better. Empty: not measured."
        ),
        "Created": column.DatetimeColumn("Created (UTC)", format="YYYY-MM-DD HH:mm"),
        "Size": column.NumberColumn("Size (MB)", format="%.1f", help="On the disk."),
    }


def state_text(facts: RunFacts) -> str:
    """Describe the state of a run in a few words."""
    if facts.state == "complete":
        return "came with the app" if facts.shipped else "complete"
    if facts.state == "damaged":
        return "cannot be read"
    if facts.kind == "recovery":
        return facts.state
    if not facts.blocks:
        return f"{facts.state}, {counted(facts.blocks_done, 'block')}"
    return f"{facts.state}, {facts.blocks_done} of {counted(facts.blocks, 'block')}"


def _short(value: float | None) -> float | None:
    """Format a number with four digits; the table shows None as an empty cell."""
    if value is None or not math.isfinite(value) or value <= 0:
        return None
    return round(value, max(0, 3 - math.floor(math.log10(value))))


def _time(created: str) -> datetime.datetime | None:
    if not created:
        return None
    return datetime.datetime.fromisoformat(created).astimezone(datetime.UTC).replace(tzinfo=None)
