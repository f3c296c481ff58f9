"""One diagnosis of a run or of one of its layers: start it, watch it, show it."""

from collections.abc import Callable
from typing import Any

import streamlit as st

from app.services.jobs.continuations import has_masks
from app.services.jobs.diagnoses import ACTION, begin_diagnosis, diagnosis_key, diagnosis_state
from app.services.jobs.manager import JOBS
from app.ui.common.guard import errors_shown, guarded
from app.ui.common.jobs import running_job
from app.ui.common.live_link import prune_again
from app.ui.common.open_figure import rerun_page
from app.ui.common.seminar import presenter_only
from app.ui.common.text import literal
from trim.evaluation.diagnose_text import format_text
from trim.runs.diagnosis_files import read_layer_diagnoses
from trim.runs.diagnosis_shapes import MeasuredText
from trim.runs.folder import Run

WINDOWS, LENGTH = 4, 256
POLL_SECONDS = 1.0


def diagnosis(
    run: Run,
    what: str,
    question: str,
    cost: str,
    show: Callable[[Any], None],
    options: Callable[[], list[str] | None] = list,
    layer: str = "",
) -> None:
    """Show a diagnosis of a run or of one of its layers if it was measured, and a way to measure it.

    Args:
        run: the run.
        what: one of `DIAGNOSES` or `LAYER_DIAGNOSES`.
        question: the question that it answers.
        cost: a sentence on the cost of measuring it.
        show: draws a measured diagnosis from what is stored of it.
        options: draws controls, and returns options of `python -m trim diagnose`; None: an input is still missing.
        layer: the layer; "": the run.
    """
    found = None
    with guarded():
        found = (read_layer_diagnoses(run, layer) if layer else run.diagnoses).get(what)
    key = diagnosis_key(run, what, layer)
    job = diagnosis_state(JOBS, key)
    if found:
        with guarded():
            show(found)
    if job is not None and job.active:
        _watch(key)
        return
    if job is not None and job.message:
        st.warning(literal(job.message), icon=":material/warning:")
    if not found:
        st.markdown(f"**{question}**")
    if not (has_masks(run) or (layer and run.kind == "layer")):
        if not found:
            without_masks(run)
        return
    if not found:
        _ask(run, what, cost, options, layer)
        return
    with st.expander("Measure again, otherwise", icon=":material/refresh:"):
        _ask(run, what, cost, options, layer)


def without_masks(run: Run) -> None:
    """Tell why nothing can be computed of the run's model, and offer the run that has masks."""
    st.info(
        "This needs the run's masks and its model. "
        + (
            "Runs that came with the app have no masks; prune the model with the same settings, and the new run has."
            if run.complete
            else "The run is not complete yet."
        ),
        icon=":material/visibility_off:",
    )
    if run.complete:
        prune_again(run)


def _ask(run: Run, what: str, cost: str, asked_options: Callable[[], list[str] | None], layer: str) -> None:
    st.caption(cost)
    if not presenter_only(ACTION):
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        options = asked_options()
        pressed = st.button(
            "Measure",
            type="primary",
            icon=":material/speed:",
            key=f"measure_{what}",
            disabled=options is None,
        )
    if pressed and options is not None:
        with errors_shown():
            begin_diagnosis(JOBS, run, what, options, layer=layer)
            st.rerun()


def text_options(run: Run, what: str) -> list[str]:
    """Ask how much of the evaluation part of the run's text to read."""
    windows = st.number_input(
        "Windows",
        1,
        1024,
        WINDOWS,
        key=f"{what}_windows",
        width=140,
        help="Of the evaluation part of the calibration text.",
    )
    length = st.number_input("Tokens in each", 2, 8192, LENGTH, 64, key=f"{what}_length", width=160)
    return ["--corpus", run.request.corpus, "--windows", str(windows), "--length", str(length)]


@st.fragment(run_every=POLL_SECONDS)
def _watch(key: str) -> None:
    job = diagnosis_state(JOBS, key)
    if job is None or not job.active:
        rerun_page()
        return
    running_job(
        key, job, "diagnosis", first="the model is loaded", kept="Layers that were measured stay measured."
    )


def measured_on(text: MeasuredText) -> None:
    """Describe the text of a diagnosis."""
    st.caption(literal(f"Measured on {format_text(text)}, {text['dtype']}."))
