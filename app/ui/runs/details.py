"""One run of the store: what it is, where to look at it, its name, its files, its end."""

import json
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st

from app.services.results.compared import Pick
from app.services.results.report import run_report
from app.services.results.tables import model_map, row_columns
from app.services.runs.commands import reproduce
from app.services.runs.facts import RunFacts
from app.services.runs.files import delete, exported, rename
from app.services.runs.store import StoredRun
from app.services.server.access import SEMINAR
from app.ui.common.cards import fact, fact_columns
from app.ui.common.continuations import continuations_card
from app.ui.common.guard import guarded
from app.ui.common.present import kept
from app.ui.common.seminar import presenter_only
from app.ui.common.slots import add_to_compare
from app.ui.common.text import plain
from app.ui.runs.table import state_text
from diagnostics.export import arrays_npz, table_csv
from trim import TrimError
from trim.evaluation.entries import format_perplexity
from trim.names import format_bytes
from trim.runs.folder import Run
from trim.runs.shapes import MAX_NAME_LENGTH, MAX_NOTE_LENGTH

MODEL_PAGE, STORED_PAGE = "views/model.py", "views/stored_layer.py"
MAX_LAYERS_IN_REPORT = 8
_MAKING = threading.Lock()  # one file at a time for all readers


def show_run(entry: StoredRun, facts: RunFacts) -> None:
    """Show everything below the table."""
    st.subheader(plain(facts.name))
    if facts.note:
        st.markdown(plain(facts.note))
    if entry.run is None:
        st.error(plain(facts.problem), icon=":material/broken_image:")
    else:
        with guarded():
            _show(entry, entry.run, facts)
    _delete(entry, facts)


def _show(entry: StoredRun, run: Run, facts: RunFacts) -> None:
    st.caption(plain(" · ".join(filter(None, [facts.model, facts.method, state_text(facts), facts.id]))))
    _numbers(run, facts)
    if run.structure.dense:
        st.caption(plain(f"Stays dense: {'; '.join(run.structure.dense)}."))
    _ways_on(run, facts)
    continuations_card(run)
    left, right = st.columns(2)
    with left:
        _name_and_note(entry, facts)
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
        "unknown" if facts.sparsity is None else f"{facts.sparsity:.2%}",
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


def _name_and_note(entry: StoredRun, facts: RunFacts) -> None:
    if entry.shipped:
        st.info(
            "It came with the app and stays as it is. Export and import it to have a copy of your own.",
            icon=":material/lock:",
        )
        return
    if not presenter_only("Changing its name"):
        return
    with st.form(f"names-{facts.id}"):
        name = st.text_input("Name", facts.name, max_chars=MAX_NAME_LENGTH, key=f"name-{facts.id}")
        note = st.text_area("Note", facts.note, max_chars=MAX_NOTE_LENGTH, height=96, key=f"note-{facts.id}")
        if st.form_submit_button("Save name and note", icon=":material/edit:"):
            try:
                rename(entry, name or facts.id, note)
            except TrimError as error:
                st.error(plain(error), icon=":material/error:")
            else:
                st.rerun()


@dataclass(frozen=True)
class Prepared:
    """A file that was made for a reader; one at a time is kept for each session."""

    run_id: str
    words: str
    file_name: str
    mime: str
    content: bytes


def _first_layers(run: Run) -> list[str]:
    """Return the layer whose charts a report holds unless others are chosen: the one that gains most."""
    return [max(model_map(run).layers, key=lambda layer: layer.quality_gain).name]


def _files(run: Run, facts: RunFacts) -> None:
    """Report, zip and numbers: made when they are asked for, which takes a moment, then offered."""

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
    with st.container(border=True):
        wanted = st.selectbox("Export", list(makers), key="export_kind")
        ending, mime, make = makers[wanted]
        if ending == "report.html":
            st.multiselect(
                "Layers whose charts it holds",
                run.layers,
                default=_first_layers(run),
                max_selections=MAX_LAYERS_IN_REPORT,
                key=f"report_layers_{facts.id}",
            )
        if st.button("Make the file", icon=":material/build:", key="make_file"):
            try:
                with st.spinner("Making the file"), _MAKING:
                    content = make()
            except TrimError as error:
                st.error(plain(error), icon=":material/error:")
            else:
                st.session_state["prepared"] = Prepared(
                    facts.id, wanted, f"{facts.id}.{ending}", mime, content
                )
        ready: Prepared | None = st.session_state.get("prepared")
        if ready is not None and (ready.run_id, ready.words) == (facts.id, wanted):
            st.download_button(
                f"Save {ready.file_name} ({format_bytes(len(ready.content))})".replace(".", "\\."),
                ready.content,
                ready.file_name,
                ready.mime,
                on_click="ignore",
                type="primary",
                icon=":material/download:",
            )


def _delete(entry: StoredRun, facts: RunFacts) -> None:
    if entry.shipped or not presenter_only("Deleting it"):
        return
    with st.popover("Delete", icon=":material/delete:"):
        st.markdown(
            f"Remove **{plain(facts.name)}** ({format_bytes(facts.size_bytes)}) from the disk? This cannot be undone."
        )
        if st.button("Delete it", type="primary", key="delete"):
            try:
                delete(entry)
            except TrimError as error:
                st.error(plain(error), icon=":material/error:")
            else:
                st.session_state["deleted"] = facts.name
                st.rerun()
