"""A run that is not complete: its progress, and how to cancel or resume it."""

import time

import streamlit as st

from app.services.jobs.manager import JOBS
from app.services.jobs.records import JobState
from app.services.runs.store import STORE
from app.ui.common.jobs import running_job, stopped_job
from app.ui.common.open_figure import rerun_page
from app.ui.common.text import literal
from diagnostics.format import percent
from trim import TrimError

POLL_SECONDS = 1.0
REDRAW_SECONDS = 3.0  # heat maps fill in no more often than this, however quick the blocks


def watch(run_id: str, state: JobState) -> None:
    """Show the progress of a running job, or how to resume a stopped one."""
    if state.active:
        st.session_state["watched"] = (run_id, _blocks(run_id), time.monotonic())
        _live(run_id)
    elif state.status == "failed":
        record = JOBS.record(run_id)
        if record is not None and record.cancelled:
            st.info(literal(state.message), icon=":material/cancel:")
        else:
            st.error(literal(state.message), icon=":material/error:")
    elif state.status == "stopped":
        _stopped(run_id, state)
    elif state.message:
        st.warning(f"The run is complete; after it: {literal(state.message)}", icon=":material/warning:")


@st.fragment(run_every=POLL_SECONDS)
def _live(run_id: str) -> None:
    state = JOBS.state(run_id)
    watched, blocks, drawn = st.session_state.get("watched", ("", 0, 0.0))
    if not state.active or (
        watched == run_id and _blocks(run_id) != blocks and time.monotonic() - drawn > REDRAW_SECONDS
    ):
        rerun_page()
        return
    running_job(
        run_id,
        state,
        "run",
        first="the model is loaded",
        kept="Finished blocks stay, and the run can be resumed.",
        ending="Stopping at the end of what is being computed; finished blocks stay.",
    )


def _stopped(run_id: str, state: JobState) -> None:
    fraction = state.progress.now.fraction if state.progress is not None else None
    done = "nothing is lost" if fraction is None else f"{percent(fraction, 0)} is done"
    stopped_job(
        run_id,
        "run",
        title=f"**This run stopped: {done}.** {literal(state.message)}",
        resumed="It resumes at the first block that is not complete, and ends bit for bit as if it had not been "
        "stopped.",
    )


def _blocks(run_id: str) -> int:
    try:
        return len(STORE.open(run_id).blocks)
    except TrimError:
        return 0
