"""Which of the two is seen, the layer that came with the app or that of the live model; and how the second comes."""

from __future__ import annotations

from functools import partial

import streamlit as st

from app.services.layer.array_layer import ArrayLayer
from app.services.layer.background import Cancelled, Job
from app.services.layer.keys import StudyKey
from app.services.layer.prepared import PreparedLayer
from app.services.layer.shipped import Gains, ShippedLayer, shipped_layer
from app.services.layer.study import Study
from app.ui.common.address import repeat_notices
from app.ui.common.text import plain
from app.ui.common.waiting import laboratory
from app.ui.layer import text

POLL_SECONDS = 1.0


def is_live(study: Study) -> bool:
    """Return whether a study is of a model in memory, not of the layer that came with the app."""
    return not isinstance(study.layer, ArrayLayer | PreparedLayer)


def which_is_seen(study: Study) -> None:
    """Say in one line whether the live model is seen; until it is, load it without moving the page."""
    shipped = shipped_layer()
    with st.container(horizontal=True, vertical_alignment="center", gap="medium", key="seen"):
        if is_live(study):
            compute = study.origin.compute
            st.caption(
                f":material/bolt: Live: computed from the model in memory, on {compute.device} in {compute.dtype}."
            )
        else:
            st.fragment(partial(_coming, study.key), run_every=POLL_SECONDS)()
        if isinstance(shipped, ShippedLayer):
            _why(study.key, shipped.gains)
    if isinstance(shipped, str) and study.key.model.source == "demo":
        st.caption(
            f":material/warning: {plain(shipped)} Until the live model was there, there was nothing to show."
        )


def _why(key: StudyKey, gains: Gains) -> None:
    """Explain, in the layers where TRIM gains most and nothing, why; each with the way to the other."""
    if key.model.source != "demo":
        return
    if key.layer == gains.most.layer:
        with st.popover(f"Best of {gains.layers} layers: why?", type="tertiary"):
            st.markdown(text.most_gained(gains))
            _go(gains.least.layer, "A layer in which TRIM changes nothing")
    elif key.layer == gains.least.layer:
        with st.popover("TRIM changes nothing here: why?", type="tertiary"):
            st.markdown(text.nothing_gained(gains))
            _go(gains.most.layer, "The layer in which TRIM gains most")


def _go(layer: str, words: str) -> None:
    def chosen() -> None:
        block, path = layer.split(".", 1)
        st.session_state["block"], st.session_state["layer"] = int(block), path

    st.button(f"{words}: {plain(layer)}", icon=":material/arrow_forward:", on_click=chosen)


def _coming(key: StudyKey) -> None:
    shipped = ":material/inventory_2: This layer came with the app."
    first = "pictured" not in st.session_state
    if first:  # loading torch would slow down the first picture
        st.session_state["pictured"] = True
        st.caption(f"{shipped} The live model is loaded next.")
        return
    job_key, job = laboratory().preparing(key)
    if not job.done:
        share = "" if job.progress.fraction is None else f" ({job.progress.fraction:.0%})"
        with st.container(horizontal=True, vertical_alignment="center", gap="small", key="coming"):
            st.caption(f"{shipped} Live model: {plain(f'{job.progress}{share}')}.")
            if st.button("Cancel", icon=":material/cancel:", type="tertiary"):
                job.cancel()
                st.rerun(scope="fragment")
        return
    if not job.failed:
        repeat_notices()
        st.rerun()
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="coming"):
        st.caption(f"{shipped} The live model is not here: {_reason(job)}")
        if st.button("Try again", icon=":material/refresh:", type="tertiary"):
            laboratory().forget(job_key)
            st.rerun(scope="fragment")


def _reason(job: Job) -> str:
    try:
        job.result()
    except Cancelled:
        return "its loading was cancelled."
    except Exception as error:
        return plain(error)
    return ""
