"""The one laboratory of the server, and waiting for its jobs."""

import dataclasses
import functools
from collections.abc import Hashable
from typing import TypeVar

import streamlit as st

from app.services.layer.background import Cancelled, Job
from app.services.layer.keys import StudyKey
from app.services.layer.laboratory import Laboratory
from app.services.layer.shipped import ShippedLayer, shipped_layer
from app.services.layer.study import Study
from app.ui.common.open_figure import rerun_page
from app.ui.common.text import literal
from trim import TrimError

R = TypeVar("R")


class NothingToShow(Exception):  # noqa: N818, the page says why by itself
    """Raised when a job ended without a result; the reader has seen why."""


@functools.cache  # of the process: any session can empty the caches of Streamlit
def laboratory() -> Laboratory:
    """Return the laboratory, which all sessions share and whose caches are bounded."""
    return Laboratory()


def study_in_memory(key: StudyKey) -> Study | None:
    """Return a layer's study if it is in memory: the live one, or the shipped one."""
    if (live := laboratory().finished_study(key)) is not None:
        return live
    shipped = shipped_layer()
    if isinstance(shipped, ShippedLayer) and key == dataclasses.replace(shipped.key, score=key.score):
        return shipped.study(key.score)
    return None


def result_or_stop(job: Job[R], key: Hashable, title: str = "Preparing the layer") -> R:
    """Return the job's result or its preview; without either, show its progress and stop the page.

    Raises:
        NothingToShow: the job failed or was cancelled; the page says so and offers another try.
    """
    # A layer with cached inputs is ready within that time; its progress would only flash up.
    if job.preview is None:
        job.wait(timeout_seconds=0.8)
    if not job.done:
        preview = job.preview
        _progress(job, title if preview is None else "Refining what is below", preview)
        if preview is None:
            st.stop()
        return preview
    try:
        return job.result()
    except Cancelled:
        st.info("Cancelled.", icon=":material/cancel:")
    except TrimError as error:
        st.error(literal(error), icon=":material/error:")
    except Exception:
        laboratory().forget(key)  # unexpected: a reload of the page tries again
        raise
    if st.button("Try again", icon=":material/refresh:"):
        laboratory().forget(key)
        st.rerun()
    raise NothingToShow


def result_or_progress(job: Job[R], key: Hashable, title: str) -> R | None:
    """Return the job's result, or show its progress or failure without stopping the page."""
    if not job.wait(timeout_seconds=0.8):
        _progress(job, title)
        return None
    try:
        return result_or_stop(job, key)
    except NothingToShow:
        return None


@st.fragment(run_every=0.8)
def _progress(job: Job, title: str, shown: object = None) -> None:
    if job.done or job.preview is not shown:
        rerun_page()
        return
    with st.container(border=True):
        st.markdown(f"**{title}**")
        st.progress(job.progress.fraction or 0.0, text=literal(job.progress))
        st.caption("Only the first time; after that everything comes from the cache.")
        if st.button("Cancel", icon=":material/cancel:"):
            job.cancel()
            st.rerun()
