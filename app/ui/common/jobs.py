"""The boxes of a running and of a stopped job: a run, recovery or diagnosis."""

import streamlit as st

from app.services.jobs.manager import JOBS
from app.services.jobs.records import JobState
from app.ui.common.guard import errors_shown
from app.ui.common.seminar import presenter_only
from app.ui.common.text import literal
from trim.names import format_bytes
from trim.progress import Progress


def running_job(job_id: str, state: JobState, kind: str, *, first: str, kept: str, ending: str = "") -> None:
    """Show the progress of a job and a button to cancel it; called inside a fragment.

    Args:
        job_id: id of the run, recovery or diagnosis.
        state: the job's state.
        kind: "run", "recovery" or "diagnosis", for texts and keys.
        first: the step before the first reported progress.
        kept: what is kept when the job is cancelled.
        ending: how a cancelled job ends; "": at once.
    """
    with st.container(border=True, key=f"{kind}-progress"):
        progress = state.progress
        now = Progress(f"Starting: {first}") if progress is None else progress.now
        st.progress(now.fraction or 0.0, text=literal(now))
        for note in () if progress is None else progress.notes:
            st.caption(literal(note))
        if state.memory_bytes is not None:
            st.caption(f"{format_bytes(state.memory_bytes)} of memory")
        if not state.ours:
            st.caption(f"Another program is writing this {kind}; it can be stopped there.")
            return
        stopping = state.status == "stopping"
        if presenter_only("Stopping it") and st.button(
            "Stop at once" if stopping else "Cancel",
            icon=":material/cancel:",
            key=f"cancel_{kind}",
            help=kept,
        ):
            JOBS.cancel(job_id)
            st.rerun()
        if stopping and ending:
            st.caption(ending)


def stopped_job(job_id: str, kind: str, *, title: str, resumed: str) -> None:
    """Show that a job stopped, and a button to resume it.

    Args:
        job_id: id of the run or recovery.
        kind: "run" or "recovery", for keys.
        title: Markdown that says that the job stopped, and why.
        resumed: where the job resumes.
    """
    with st.container(border=True, key=f"{kind}-progress"):
        st.markdown(title)
        st.caption(resumed)
        if presenter_only("Resuming it") and st.button(
            "Resume", type="primary", icon=":material/resume:", key=f"resume_{kind}"
        ):
            with errors_shown():
                JOBS.resume(job_id)
                st.rerun()
