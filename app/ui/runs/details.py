"""One stored run: its description, links to other pages, its name, files and deletion."""

import json
import math
from collections.abc import Callable

import streamlit as st

from app.services.results.picks import Pick
from app.services.results.report import run_report
from app.services.results.tables import layer_that_gains_most, row_columns
from app.services.runs.commands import reproduce
from app.services.runs.facts import RunFacts
from app.services.runs.files import exported
from app.services.runs.store import StoredRun
from app.services.server.access import SEMINAR
from app.ui.common.cards import show_facts
from app.ui.common.continuations import continuations_card
from app.ui.common.present import link
from app.ui.common.slots import add_to_compare
from app.ui.common.text import literal
from app.ui.runs.own import name_and_note, offer_files, show_entry
from app.ui.runs.table import state_text
from diagnostics.export import arrays_npz, table_csv
from diagnostics.format import counted, percent
from trim.evaluation.entries import format_perplexity
from trim.names import format_bytes
from trim.runs.folder import Run

MAX_LAYERS_IN_REPORT = 8


def show_run(entry: StoredRun, facts: RunFacts) -> None:
    """Show everything below the table."""
    run = entry.run
    show_entry(entry, facts, None if run is None else lambda: _show(entry, run, facts))


def _show(entry: StoredRun, run: Run, facts: RunFacts) -> None:
    st.caption(literal(" · ".join(filter(None, [facts.model, facts.method, state_text(facts), facts.id]))))
    _numbers(run, facts)
    if run.structure.dense:
        st.caption(literal(f"Stays dense: {'; '.join(run.structure.dense)}."))
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
    of = "kept layer" if facts.kind == "layer" else "model"
    dense, blocks = facts.dense_perplexity, facts.blocks or facts.blocks_done
    show_facts(
        (
            f"Sparsity of the {of}",
            "unknown" if facts.sparsity is None else percent(facts.sparsity, 2),
            "of its weights pruned" if run.complete else "requested",
        ),
        (
            "Perplexity",
            "not measured" if facts.perplexity is None else format_perplexity(facts.perplexity),
            None if dense is None or not math.isfinite(dense) else f"dense: {format_perplexity(dense)}",
            "On the text that was measured last; lower is better.",
        ),
        ("Layers", f"{len(run.layers):,}", f"in {facts.blocks_done:,} of {counted(blocks, 'block')}"),
        ("On the disk", format_bytes(facts.size_bytes), facts.created[:16].replace("T", " ") + " UTC"),
    )


def _ways_on(run: Run, facts: RunFacts) -> None:
    with st.container(horizontal=True, gap="small"):
        if facts.kind == "model":
            link("model", "Open its maps", "grid_on", run=facts.id)
            if not run.complete:
                label = "Watch it" if facts.state == "being written" else "Resume it"
                link("model", label, "play_arrow", run=facts.id)
            link("model", "New run with its settings", "content_copy", **{"from": facts.id})
    if run.layers:
        with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
            layer = st.selectbox(
                "Layer", run.layers, index=len(run.layers) // 2, key=f"layer_of_{facts.id}", width=320
            )
            link("stored_layer", "Open this layer", "layers", run=facts.id, layer=layer)
            add_to_compare(lambda: [Pick(facts.id, layer)], f"add_{facts.id}")


def _files(run: Run, facts: RunFacts) -> None:
    """Offer report, zip and numbers, made on demand."""

    def zipped(masks: bool) -> bytes:
        with exported(run, masks=masks) as file:
            return file.read()

    def report() -> bytes:
        return run_report(
            run, st.session_state.get(f"report_layers_{facts.id}", [layer_that_gains_most(run)])
        )

    makers: dict[str, tuple[str, Callable[[], bytes]]] = {
        "The run as a zip, without masks": ("zip", lambda: zipped(False)),
        "The run as a zip, complete": ("zip", lambda: zipped(True)),
    }
    if run.layers:
        makers = {
            "Report: one HTML file that opens without network": ("report.html", report),
            **makers,
            "Every row of every layer, NPZ for NumPy": ("rows.npz", lambda: arrays_npz(row_columns(run))),
            "Every row of every layer, CSV for a spreadsheet": (
                "rows.csv",
                lambda: table_csv(row_columns(run)),
            ),
        }

    def layers_of_the_report(ending: str) -> None:
        if ending == "report.html":
            st.multiselect(
                "Layers whose charts it holds",
                run.layers,
                default=[layer_that_gains_most(run)],
                max_selections=MAX_LAYERS_IN_REPORT,
                key=f"report_layers_{facts.id}",
            )

    offer_files(facts, makers, layers_of_the_report)
