"""One diagnosis of a run or of one of its layers: start it, watch it, show it."""

from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st

from app.services.jobs.continuations import has_masks
from app.services.jobs.diagnoses import WHAT, begin_diagnosis, diagnosing, diagnosis_key
from app.services.jobs.manager import JOBS
from app.ui.common.guard import guarded
from app.ui.common.jobs import running_job
from app.ui.common.live_link import prune_again
from app.ui.common.open_figure import rerun_page
from app.ui.common.seminar import presenter_only
from app.ui.common.text import plain
from trim.errors import TrimError
from trim.evaluation.diagnose_text import format_text
from trim.runs.folder import Run
from trim.runs.shapes import MeasuredText

WINDOWS, LENGTH = 4, 256
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Diagnosis:
    """A diagnosis of a run or of one of its layers.

    Attributes:
        what: one of `DIAGNOSES` or `LAYER_DIAGNOSES`.
        question: the question that it answers.
        cost: a sentence on the cost of measuring it.
        made: returns whether it was measured.
        show: draws a measured diagnosis.
        options: draws controls, and returns options of `python -m trim diagnose`; None: an input is still missing.
        layer: the layer; "": the run.
    """

    what: str
    question: str
    cost: str
    made: Callable[[], bool]
    show: Callable[[], None]
    options: Callable[[], list[str] | None] = list
    layer: str = ""


def diagnosis(run: Run, of: Diagnosis) -> None:
    """Show a diagnosis if it was measured, and a way to measure it."""
    made = False
    with guarded():
        made = of.made()
    key = diagnosis_key(run, of.what, of.layer)
    job = diagnosing(JOBS, key)
    if made:
        with guarded():
            of.show()
    if job is not None and job.active:
        _watch(key)
        return
    if job is not None and job.message:
        st.warning(plain(job.message), icon=":material/warning:")
    if not made:
        st.markdown(f"**{of.question}**")
    if not (has_masks(run) or (of.layer and run.kind == "layer")):
        if not made:
            _without_masks(run)
        return
    if not made:
        _ask(run, of)
        return
    with st.expander("Measure again, otherwise", icon=":material/refresh:"):
        _ask(run, of)


def _without_masks(run: Run) -> None:
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


def _ask(run: Run, of: Diagnosis) -> None:
    st.caption(of.cost)
    if not presenter_only(WHAT):
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        options = of.options()
        asked = st.button(
            "Measure",
            type="primary",
            icon=":material/speed:",
            key=f"measure_{of.what}",
            disabled=options is None,
        )
    if asked and options is not None:
        try:
            begin_diagnosis(JOBS, run, of.what, options, layer=of.layer)
        except (TrimError, OSError) as error:
            st.error(plain(error), icon=":material/error:")
        else:
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
    job = diagnosing(JOBS, key)
    if job is None or not job.active:
        rerun_page()
        return
    running_job(
        key, job, "diagnosis", first="the model is loaded", kept="Layers that were measured stay measured."
    )


def measured_on(text: MeasuredText) -> None:
    """Describe the text of a diagnosis."""
    st.caption(plain(f"Measured on {format_text(text)}, {text['dtype']}."))
