"""One recovery of the store: what it is, how it went, where it goes on, its end."""

import dataclasses
import json
import shlex

import streamlit as st

from app.services.runs.facts import RunFacts
from app.services.runs.files import delete
from app.services.runs.recoveries import as_stored
from app.services.server.access import SEMINAR
from app.ui.common.cards import fact, fact_columns
from app.ui.common.guard import guarded
from app.ui.common.recovery import recovery_views
from app.ui.common.seminar import presenter_only
from app.ui.common.text import plain
from trim import TrimError
from trim.evaluation.entries import format_perplexity
from trim.names import format_bytes
from trim.runs.listing import FolderEntry
from trim.runs.recovery import Recovery


def show_recovery(entry: FolderEntry[Recovery], facts: RunFacts) -> None:
    """Everything below the table."""
    st.subheader(plain(facts.name))
    if entry.opened is None:
        st.error(plain(facts.problem), icon=":material/broken_image:")
    else:
        with guarded():
            _show(entry.opened, facts)
    _delete(entry, facts)


def _show(recovery: Recovery, facts: RunFacts) -> None:
    record, metrics = recovery.record, recovery.metrics
    st.caption(
        plain(f"{record.pruned.title}, trained to predict what {record.dense.title} predicts · {facts.id}")
    )
    columns = fact_columns()
    fact(
        columns[0],
        "Sparsity of the model",
        "not complete yet" if facts.sparsity is None else f"{facts.sparsity:.2%}",
        "every zero stayed",
    )
    curve = metrics.get("curve", [])
    fact(
        columns[1],
        "Held-out perplexity",
        format_perplexity(curve[metrics["best"]]["perplexity"]) if curve else "not measured yet",
        f"before: {format_perplexity(curve[0]['perplexity'])}" if curve else None,
        help="On windows of the calibration text that were not trained on.",
    )
    fact(
        columns[2],
        "Perplexity",
        "not measured" if facts.perplexity is None else format_perplexity(facts.perplexity),
        None,
        help="On the text that was measured last; lower is better.",
    )
    trained = f"{metrics.get('steps', 0):,} steps in {metrics.get('training_seconds', 0):,.0f} s"
    fact(columns[3], "On the disk", format_bytes(facts.size_bytes), trained)
    recovery_views(recovery)
    st.markdown("**A folder for transformers, and what it predicts**")
    path = shlex.quote(f"runs/{recovery.id}")
    st.code(f"python -m trim export {path} recovered\npython -m trim evaluate {path}", language="bash")
    with st.expander("Every setting, and the versions it was made with", icon=":material/settings:"):
        st.json(SEMINAR.without_paths(json.dumps(dataclasses.asdict(record))), expanded=2)


def _delete(entry: FolderEntry[Recovery], facts: RunFacts) -> None:
    if not presenter_only("Deleting it"):
        return
    with st.popover("Delete", icon=":material/delete:"):
        st.markdown(
            f"Remove **{plain(facts.name)}** ({format_bytes(facts.size_bytes)}) from the disk? This cannot be undone."
        )
        if st.button("Delete it", type="primary", key="delete_recovery"):
            try:
                delete(as_stored(entry))
            except TrimError as error:
                st.error(plain(error), icon=":material/error:")
            else:
                st.session_state["deleted"] = facts.name
                st.rerun()
