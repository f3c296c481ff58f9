"""Whether the page shows the shipped layer or the live one, and the loading of the live model."""

from __future__ import annotations

from functools import partial

import streamlit as st

from app.services.layer.array_layer import ArrayLayer
from app.services.layer.background import Cancelled, Job
from app.services.layer.keys import StudyKey
from app.services.layer.shipped import shipped_layer
from app.services.layer.study import Study
from app.ui.common.address import repeat_notices
from app.ui.common.open_figure import rerun_page
from app.ui.common.text import literal
from app.ui.common.waiting import laboratory
from diagnostics.format import percent

POLL_SECONDS = 1.0


def is_live(study: Study) -> bool:
    """Return whether a study is of a model in memory, not of the shipped layer."""
    return not isinstance(study.layer, ArrayLayer)


def show_live_status(study: Study) -> None:
    """Show in one line whether the live model is shown; until it is, load it without moving the page."""
    shipped = shipped_layer()
    with st.container(horizontal=True, vertical_alignment="center", gap="medium", key="seen"):
        if is_live(study):
            compute = study.origin.compute
            st.caption(f":material/bolt: Live: computed on {compute.device} in {compute.dtype}.")
        else:
            st.fragment(partial(_load_model, study.key), run_every=POLL_SECONDS)()
    if isinstance(shipped, str) and study.key.model.source == "demo":
        st.caption(
            f":material/warning: {literal(shipped)} The page was empty until the live model was loaded."
        )


def _load_model(key: StudyKey) -> None:
    shipped = ":material/inventory_2: This layer came with the app."
    first = "pictured" not in st.session_state
    if first:  # loading torch would slow down the first picture
        st.session_state["pictured"] = True
        st.caption(f"{shipped} The live model is loaded next.")
        return
    job_key, job = laboratory().next_step(key)
    if not job.done:
        share = "" if job.progress.fraction is None else f" ({percent(job.progress.fraction, 0)})"
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key="coming"):
            st.caption(f"{shipped} Live model: {literal(f'{job.progress}{share}')}.")
            if st.button("Cancel", icon=":material/cancel:", type="tertiary"):
                job.cancel()
                st.rerun(scope="fragment")
        return
    if not job.failed:
        repeat_notices()
        rerun_page()
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="coming"):
        st.caption(f"{shipped} The live model could not be loaded: {_reason(job)}")
        if st.button("Try again", icon=":material/refresh:", type="tertiary"):
            laboratory().forget(job_key)
            st.rerun(scope="fragment")


def _reason(job: Job) -> str:
    try:
        job.result()
    except Cancelled:
        return "it was cancelled."
    except Exception as error:
        return literal(error)
    return ""
