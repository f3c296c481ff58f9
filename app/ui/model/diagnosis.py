"""One diagnosis of a run: asked for, watched while it is made, and shown when it is there."""

from collections.abc import Callable, Sequence

import streamlit as st

from app.services.jobs.continuations import has_masks
from app.services.jobs.diagnoses import WHAT, begin_diagnosis, diagnosing, diagnosis_key
from app.services.jobs.manager import JOBS
from app.ui.common.guard import guarded
from app.ui.common.jobs import running_job
from app.ui.common.open_figure import rerun_page
from app.ui.common.present import kept
from app.ui.common.seminar import presenter_only
from app.ui.common.text import plain
from trim.errors import TrimError
from trim.evaluation.diagnose_text import format_text
from trim.runs.folder import Run
from trim.runs.shapes import MeasuredText

WINDOWS, LENGTH = 4, 256
POLL_SECONDS = 1.0


def diagnosis(
    run: Run,
    what: str,
    question: str,
    cost: str,
    show: Callable[[], None],
    patterns: Callable[[], Sequence[str]] | None = None,
) -> None:
    """Show a diagnosis of a run, where it was made; and the way to make it.

    Args:
        run: whose.
        what: which, of `DIAGNOSES`.
        question: what it answers.
        cost: what measuring it takes, in a sentence.
        show: draws it; called where it is there.
        patterns: asks which layers are measured; None: it is of the whole model.
    """
    made = False
    with guarded():
        made = what in run.diagnoses
    job = diagnosing(JOBS, diagnosis_key(run, what))
    if made:
        with guarded():
            show()
    if job is not None and job.active:
        _watch(diagnosis_key(run, what))
        return
    if job is not None and job.message:
        st.warning(plain(job.message), icon=":material/warning:")
    if not made:
        st.markdown(f"**{question}**")
    if not has_masks(run):
        if not made:
            _without_masks(run)
        return
    if not made:
        _ask(run, what, cost, patterns)
        return
    with st.expander("Measure again, on more or other text", icon=":material/refresh:"):
        _ask(run, what, cost, patterns)


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
        st.page_link(
            "views/model.py",
            label="Prune with these settings",
            icon=":material/add:",
            query_params={"run": run.id, "from": run.id, **kept()},
        )


def _ask(run: Run, what: str, cost: str, patterns: Callable[[], Sequence[str]] | None) -> None:
    st.caption(cost)
    if not presenter_only(WHAT):
        return
    layers = ("*",) if patterns is None else patterns()
    with st.container(horizontal=True, vertical_alignment="bottom"):
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
        asked = st.button("Measure", type="primary", icon=":material/speed:", key=f"measure_{what}")
    if asked:
        try:
            begin_diagnosis(JOBS, run, what, windows=windows, length=length, layers=layers)
        except (TrimError, OSError) as error:
            st.error(plain(error), icon=":material/error:")
        else:
            st.rerun()


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
    """Say on which text a diagnosis was made."""
    st.caption(plain(f"Measured on {format_text(text)}, {text['dtype']}."))
