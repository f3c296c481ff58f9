"""Recover a run: a button, the progress, and the results."""

import streamlit as st

from app.services.jobs.continuations import has_masks
from app.services.jobs.manager import JOBS
from app.services.runs.commands import text_options
from app.services.runs.recoveries import recoveries_of
from app.ui.common.diagnosis import without_masks
from app.ui.common.guard import errors_shown
from app.ui.common.recovery import recovery_views, watch_recovery
from app.ui.common.seminar import presenter_only
from app.ui.common.text import distinct
from trim.runs.folder import Run
from trim.runs.options import options
from trim.runs.recover_settings import RecoverSettings


def recover_views(run: Run) -> None:
    """Offer to train the run's pruned model, and show the existing recoveries of it."""
    found = {recovery.id: recovery for recovery in recoveries_of(run)}
    st.subheader("Recover it")
    st.caption(
        "The kept weights are trained to predict what the dense model predicts; every zero stays. A part of the text "
        "is held out, and the model that does best on it is kept next to the run."
    )
    if has_masks(run):
        _form(run)
    elif not found:
        without_masks(run)
    started = st.session_state.get("recovering")
    if started is not None and started not in found and JOBS.record(started) is not None:
        watch_recovery(started)
    if not found:
        return
    chosen = next(iter(found))
    if len(found) > 1:
        names = distinct({key: each.name for key, each in found.items()})
        chosen = st.selectbox(
            "Recovery", list(found), format_func=names.__getitem__, key=f"recovery_of_{run.id}"
        )
    recovery_views(found[chosen])


def _form(run: Run) -> None:
    if not presenter_only("Recovering a model"):
        return
    option = options(RecoverSettings)["minutes"]
    least, most = option.limits or (0.1, 10_000.0)
    with st.container(horizontal=True, vertical_alignment="bottom", key="recover-form"):
        minutes = st.number_input(
            option.label,
            float(least),
            float(most),
            5.0,
            1.0,
            key="recover_minutes",
            help=option.sentence,
            width=160,
        )
        pressed = st.button("Recover", icon=":material/healing:", key="recover")
    if not pressed:
        return
    entries = run.metrics.get("perplexities", [])
    with errors_shown():
        started = JOBS.recover(run, minutes, text_options(entries[-1]) if entries else None)
        st.session_state["recovering"] = started
        st.rerun()
