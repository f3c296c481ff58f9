"""A job on a page: the box of a run, recovery or diagnosis that is being made, and of one that stopped."""

import streamlit as st

from app.services.jobs.manager import JOBS
from app.services.jobs.records import JobState
from app.ui.common.progress import progress_bar
from app.ui.common.seminar import presenter_only
from app.ui.common.text import plain
from trim import TrimError
from trim.names import format_bytes
from trim.progress import Progress


def running_job(job_id: str, state: JobState, kind: str, *, first: str, kept: str, ending: str = "") -> None:
    """Show how far a job is, and let it be cancelled; called inside a fragment.

    Args:
        job_id: the run, recovery or diagnosis.
        state: its state.
        kind: "run", "recovery" or "diagnosis", in texts and keys.
        first: what is done before the first progress is reported.
        kept: what stays when it is cancelled.
        ending: how a cancelled job ends; "": at once.
    """
    with st.container(border=True, key=f"{kind}-progress"):
        progress = state.progress
        progress_bar(Progress(f"Starting: {first}") if progress is None else progress.now)
        for note in () if progress is None else progress.notes:
            st.caption(plain(note))
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
    """Show that a job stopped, and let it be resumed.

    Args:
        job_id: the run or recovery.
        kind: "run" or "recovery", in keys.
        title: that it stopped, and why, as Markdown.
        resumed: where it resumes.
    """
    with st.container(border=True, key=f"{kind}-progress"):
        st.markdown(title)
        st.caption(resumed)
        if presenter_only("Going on with it") and st.button(
            "Resume", type="primary", icon=":material/resume:", key=f"resume_{kind}"
        ):
            try:
                JOBS.resume(job_id)
            except (TrimError, OSError) as error:
                st.error(plain(error), icon=":material/error:")
            else:
                st.rerun()
