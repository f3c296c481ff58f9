"""One stored run: its description, links to other pages, its name, files and deletion."""

import json
import math
from collections.abc import Callable

import streamlit as st

from app.services.results.picks import Pick
from app.services.results.report import run_report
from app.services.results.tables import model_map, row_columns
from app.services.runs.commands import reproduce
from app.services.runs.facts import RunFacts
from app.services.runs.files import exported
from app.services.runs.store import StoredRun
from app.services.server.access import SEMINAR
from app.ui.common.cards import fact, fact_columns
from app.ui.common.continuations import continuations_card
from app.ui.common.present import kept
from app.ui.common.slots import add_to_compare
from app.ui.common.text import plain
from app.ui.runs.own import name_and_note, offer_files, show_entry
from app.ui.runs.table import state_text
from diagnostics.export import arrays_npz, table_csv
from diagnostics.format import percent
from trim.evaluation.entries import format_perplexity
from trim.names import format_bytes
from trim.runs.folder import Run

MODEL_PAGE, STORED_PAGE = "views/model.py", "views/stored_layer.py"
MAX_LAYERS_IN_REPORT = 8


def show_run(entry: StoredRun, facts: RunFacts) -> None:
    """Show everything below the table."""
    run = entry.run
    show_entry(entry, facts, None if run is None else lambda: _show(entry, run, facts))


def _show(entry: StoredRun, run: Run, facts: RunFacts) -> None:
    st.caption(plain(" · ".join(filter(None, [facts.model, facts.method, state_text(facts), facts.id]))))
    _numbers(run, facts)
    if run.structure.dense:
        st.caption(plain(f"Stays dense: {'; '.join(run.structure.dense)}."))
    _ways_on(run, facts)
    continuations_card(run)
    left, right = st.columns(2)
    with left:
        name_and_note(entry, facts)
    with right:
        _files(run, facts)
    st.markdown("**The command that makes this run again**")
    st.code(SEMINAR.without_paths(reproduce(run)), language="bash", wrap_lines=True)
    with st.expander("Every setting, and the versions it was made with", icon=":material/settings:"):
        st.json(SEMINAR.without_paths(json.dumps(run.settings)), expanded=2)


def _numbers(run: Run, facts: RunFacts) -> None:
    columns = fact_columns()
    of = "kept layer" if facts.kind == "layer" else "model"
    fact(
        columns[0],
        f"Sparsity of the {of}",
        "unknown" if facts.sparsity is None else percent(facts.sparsity, 2),
        "of its weights pruned" if run.complete else "asked for",
    )
    fact(
        columns[1],
        "Perplexity",
        "not measured" if facts.perplexity is None else format_perplexity(facts.perplexity),
        None
        if facts.dense_perplexity is None or not math.isfinite(facts.dense_perplexity)
        else f"dense: {format_perplexity(facts.dense_perplexity)}",
        help="On the text that was measured last; lower is better.",
    )
    fact(
        columns[2],
        "Layers",
        f"{len(run.layers):,}",
        f"in {facts.blocks_done:,} of {facts.blocks or facts.blocks_done:,} blocks",
    )
    fact(
        columns[3],
        "On the disk",
        format_bytes(facts.size_bytes),
        facts.created[:16].replace("T", " ") + " UTC",
    )


def _ways_on(run: Run, facts: RunFacts) -> None:
    with st.container(horizontal=True, gap="small"):
        if facts.kind == "model":
            st.page_link(
                MODEL_PAGE,
                label="Open its maps",
                icon=":material/grid_on:",
                query_params={"run": facts.id, **kept()},
            )
            if not run.complete:
                st.page_link(
                    MODEL_PAGE,
                    label="Watch it" if facts.state == "being written" else "Resume it",
                    icon=":material/play_arrow:",
                    query_params={"run": facts.id, **kept()},
                )
            st.page_link(
                MODEL_PAGE,
                label="New run with its settings",
                icon=":material/content_copy:",
                query_params={"from": facts.id, **kept()},
            )
    if run.layers:
        with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
            layer = st.selectbox(
                "Layer", run.layers, index=len(run.layers) // 2, key=f"layer_of_{facts.id}", width=320
            )
            st.page_link(
                STORED_PAGE,
                label="Open this layer",
                icon=":material/layers:",
                query_params={"run": facts.id, "layer": layer, **kept()},
            )
            add_to_compare(lambda: [Pick(facts.id, layer)], f"add_{facts.id}")


def _first_layers(run: Run) -> list[str]:
    """Return the default layer of a report's charts: the one that gains most."""
    return [max(model_map(run).layers, key=lambda layer: layer.quality_gain).name]


def _files(run: Run, facts: RunFacts) -> None:
    """Offer report, zip and numbers, made on demand."""

    def zipped(masks: bool) -> bytes:
        with exported(run, masks=masks) as file:
            return file.read()

    makers: dict[str, tuple[str, str, Callable[[], bytes]]] = {}
    if run.layers:
        makers["Report: one HTML file that opens without network"] = (
            "report.html",
            "text/html",
            lambda: run_report(run, st.session_state.get(f"report_layers_{facts.id}", _first_layers(run))),
        )
    makers["The run as a zip, without masks"] = ("zip", "application/zip", lambda: zipped(False))
    makers["The run as a zip, complete"] = ("zip", "application/zip", lambda: zipped(True))
    if run.layers:
        makers["Every row of every layer, NPZ for NumPy"] = (
            "rows.npz",
            "application/octet-stream",
            lambda: arrays_npz(row_columns(run)),
        )
        makers["Every row of every layer, CSV for a spreadsheet"] = (
            "rows.csv",
            "text/csv",
            lambda: table_csv(row_columns(run)),
        )

    def layers_of_the_report(ending: str) -> None:
        if ending == "report.html":
            st.multiselect(
                "Layers whose charts it holds",
                run.layers,
                default=_first_layers(run),
                max_selections=MAX_LAYERS_IN_REPORT,
                key=f"report_layers_{facts.id}",
            )

    offer_files(facts, makers, layers_of_the_report)
