"""A run that is not complete: how far it is, and what can be done with it."""

import time

import streamlit as st

from app.services.jobs.manager import JOBS
from app.services.jobs.records import JobState
from app.services.runs.store import STORE
from app.ui.common.seminar import presenter_only
from app.ui.common.text import plain
from trim import TrimError
from trim.names import format_bytes

POLL_SECONDS = 1.0
REDRAW_SECONDS = 3.0  # heat maps fill in no more often than this, however quick the blocks


def watch(run_id: str, state: JobState) -> None:
    """Progress while something runs, and the way to resume where it stopped."""
    if state.active:
        st.session_state["watched"] = (run_id, _blocks(run_id), time.monotonic())
        _live(run_id)
    elif state.status == "failed":
        st.error(plain(state.message), icon=":material/error:")
    elif state.status == "stopped":
        _stopped(run_id, state)
    elif state.message:
        st.warning(f"The run is complete; after it: {plain(state.message)}", icon=":material/warning:")


@st.fragment(run_every=POLL_SECONDS)
def _live(run_id: str) -> None:
    state = JOBS.state(run_id)
    watched, blocks, drawn = st.session_state.get("watched", ("", 0, 0.0))
    if not state.active or (
        watched == run_id and _blocks(run_id) != blocks and time.monotonic() - drawn > REDRAW_SECONDS
    ):
        st.rerun()
    with st.container(border=True, key="run-progress"):
        progress = state.progress
        measuring = progress is not None and progress.ended == "finished"
        if progress is None:
            st.progress(0.0, text="Starting: the model is loaded, which takes some seconds")
        else:
            words = "Measuring perplexity" if measuring else progress.stage
            if progress.block is not None and progress.blocks and not measuring:
                words += f" · block {progress.block} (of 0 to {progress.blocks - 1})"
            if progress.layer and not measuring:
                words += f" · {progress.layer} done"
            st.progress(progress.fraction, text=plain(words))
            for note in progress.notes:
                st.caption(plain(note))
        _numbers(state)
        if not state.ours:
            st.caption("Another program is writing this run; it can be stopped there.")
            return
        stopping = state.status == "stopping"
        if presenter_only("Stopping it") and st.button(
            "Stop at once" if stopping else "Cancel",
            icon=":material/cancel:",
            key="cancel_run",
            help="Finished blocks stay, and the run can be resumed.",
        ):
            JOBS.cancel(run_id)
            st.rerun(scope="fragment")
        if stopping:
            st.caption("Stopping at the end of what is being computed; finished blocks stay.")


def _numbers(state: JobState) -> None:
    progress = state.progress
    said = []
    if progress is not None and progress.ended != "finished":
        left = progress.seconds_left
        said.append("time left: not known yet" if left is None else f"about {in_minutes(left)} left")
    if state.memory_bytes is not None:
        said.append(f"{format_bytes(state.memory_bytes)} of memory")
    if said:
        st.caption(plain(" · ".join(said)))


def in_minutes(seconds: float) -> str:
    """Format a duration: "45 s", "3 min", "2.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _stopped(run_id: str, state: JobState) -> None:
    with st.container(border=True, key="run-progress"):
        done = f"{state.progress.fraction:.0%} is done" if state.progress is not None else "nothing is lost"
        st.markdown(f"**This run stopped: {done}.** {plain(state.message)}")
        st.caption(
            "It resumes at the first block that is not complete, and ends bit for bit as if it had not been stopped."
        )
        if presenter_only("Going on with it") and st.button(
            "Resume", type="primary", icon=":material/resume:", key="resume_run"
        ):
            try:
                JOBS.resume(run_id)
            except (TrimError, OSError) as error:
                st.error(plain(error), icon=":material/error:")
            else:
                st.rerun()


def _blocks(run_id: str) -> int:
    try:
        return len(STORE.open(run_id).blocks)
    except TrimError:
        return 0
