"""The one laboratory of the server, and waiting for its jobs."""

from collections.abc import Hashable
from concurrent.futures import CancelledError
from typing import TypeVar

import streamlit as st

from app.services.layer.background import Cancelled, Job
from app.services.layer.laboratory import Laboratory
from app.ui.common.progress import progress_bar
from app.ui.common.text import plain
from trim import TrimError

R = TypeVar("R")


class NothingToShow(Exception):  # noqa: N818, the page says why by itself
    """A job ended without a result; the reader has seen why."""


@st.cache_resource(show_spinner=False)
def laboratory() -> Laboratory:
    """Shared by all sessions; its model and studies are bounded there."""
    return Laboratory()


def finished(job: Job[R], key: Hashable) -> R:
    """Return the job's result. While there is none the page shows its progress and stops there.

    Raises:
        NothingToShow: the job failed or was cancelled; the page says so and offers another try.
    """
    # A layer whose inputs are in the cache takes less than this: no progress flashes by for it.
    if not job.wait(timeout_seconds=0.8):
        _progress(job)
        st.stop()
    try:
        return job.result()
    except (Cancelled, CancelledError):
        st.info("Cancelled.", icon=":material/cancel:")
    except TrimError as error:
        st.error(plain(error), icon=":material/error:")
    except Exception:
        laboratory().forget(key)  # nobody foresaw it: a reload of the page tries again
        raise
    if st.button("Try again", icon=":material/refresh:"):
        laboratory().forget(key)
        st.rerun()
    raise NothingToShow


def meanwhile(job: Job[R], key: Hashable, title: str) -> R | None:
    """Return the job's result. Until then show its progress and go on; nor does a failure stop the page."""
    if not job.wait(timeout_seconds=0.8):
        _progress(job, title)
        return None
    try:
        return finished(job, key)
    except NothingToShow:
        return None


@st.fragment(run_every=0.4)
def _progress(job: Job, title: str = "Preparing the layer") -> None:
    if job.done:
        st.rerun()
    with st.container(border=True):
        st.markdown(f"**{title}**")
        progress_bar(job.progress)
        st.caption("Only the first time; after that everything comes from the cache.")
        if st.button("Cancel", icon=":material/cancel:"):
            job.cancel()
            st.rerun()
