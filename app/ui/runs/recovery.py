"""One stored recovery: its description, its progress, links to other pages, and its deletion."""

import dataclasses
import json
import shlex

import streamlit as st

from app.services.layer.keys import XrayKey
from app.services.results.recovered import recovery_report
from app.services.runs.commands import recover_again
from app.services.runs.facts import RunFacts
from app.services.runs.files import exported_recovery
from app.services.runs.recoveries import as_stored
from app.services.runs.store import STORE
from app.services.server.access import SEMINAR
from app.ui.common.cards import show_facts
from app.ui.common.present import link, presenter_parameters
from app.ui.common.recovery import recovery_views
from app.ui.common.text import literal
from app.ui.runs.own import Makers, name_and_note, offer_files, show_entry
from diagnostics.export import arrays_npz
from diagnostics.format import percent
from trim.evaluation.entries import format_perplexity
from trim.names import format_bytes
from trim.runs.listing import FolderEntry
from trim.runs.recovery import Recovery


def show_recovery(entry: FolderEntry[Recovery], facts: RunFacts) -> None:
    """Show everything below the table."""
    recovery = entry.opened
    show_entry(as_stored(entry), facts, None if recovery is None else lambda: _show(entry, recovery, facts))


def _show(entry: FolderEntry[Recovery], recovery: Recovery, facts: RunFacts) -> None:
    record, metrics = recovery.record, recovery.metrics
    st.caption(
        literal(f"{record.pruned.title}, trained to predict what {record.dense.title} predicts · {facts.id}")
    )
    curve = metrics.get("curve", [])
    trained = f"{metrics.get('steps', 0):,} steps in {metrics.get('training_seconds', 0):,.0f} s"
    show_facts(
        (
            "Sparsity of the model",
            "not complete yet" if facts.sparsity is None else percent(facts.sparsity, 2),
            "every zero stayed",
        ),
        (
            "Held-out perplexity",
            format_perplexity(curve[metrics["best"]]["perplexity"]) if curve else "not measured yet",
            f"before: {format_perplexity(curve[0]['perplexity'])}" if curve else None,
            "On windows of the calibration text that were not trained on.",
        ),
        (
            "Perplexity",
            "not measured" if facts.perplexity is None else format_perplexity(facts.perplexity),
            None,
            "On the text that was measured last; lower is better.",
        ),
        ("On the disk", format_bytes(facts.size_bytes), trained),
    )
    run = next((each for each in STORE.runs() if each.run and each.run.fingerprint == record.run), None)
    _ways_on(recovery, run.id if run else None)
    recovery_views(recovery)
    left, right = st.columns(2)
    with left:
        name_and_note(as_stored(entry), facts)
    with right:
        _files(recovery, facts)
    if recovery.has_model:
        st.markdown("**A folder for transformers, and what it predicts**")
        path = shlex.quote(f"runs/{recovery.id}")
        st.code(f"python -m trim export {path} recovered\npython -m trim evaluate {path}", language="bash")
    elif recovery.complete:
        st.info(
            "Its model has stayed where it was made: a zip leaves it out. It cannot be measured or continued here.",
            icon=":material/inventory_2:",
        )
    st.markdown("**The command that makes it again**")
    st.code(SEMINAR.without_paths(recover_again(recovery)), language="bash", wrap_lines=True)
    with st.expander("Every setting, and the versions it was made with", icon=":material/settings:"):
        st.json(SEMINAR.without_paths(json.dumps(dataclasses.asdict(record))), expanded=2)


def _ways_on(recovery: Recovery, run: str | None) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if run is not None:
            link("model", "Open its run", "grid_on", run=run, model_part="Recover")
        if recovery.has_model and st.button("X-ray its model", icon=":material/radiology:", type="tertiary"):
            key = XrayKey(str(recovery.path.resolve()), recovery.record.parent)
            st.session_state.update(xray_asked=key, xray_checkpoint=key.checkpoint, xray_parent=key.parent)
            st.switch_page("views/xray.py", query_params=presenter_parameters())


def _files(recovery: Recovery, facts: RunFacts) -> None:
    makers: Makers = {
        "Report: one HTML file that opens without network": (
            "report.html",
            lambda: recovery_report(recovery),
        )
    }
    if recovery.complete:
        makers = {
            **makers,
            "The recovery as a zip, without its model": ("zip", lambda: exported_recovery(recovery)),
            "How far every row moved, NPZ for NumPy": (
                "moved.npz",
                lambda: arrays_npz(recovery.rows_moved()),
            ),
        }
    offer_files(facts, makers)
