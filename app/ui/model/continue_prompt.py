"""The reader's prompt, continued by the dense model and by the runs on the page, side by side."""

from collections.abc import Sequence

import streamlit as st

from app.services.jobs.continuations import (
    begin_continuations,
    continuation_key,
    has_masks,
    read_continuations,
)
from app.services.jobs.manager import JOBS
from app.ui.common.continuations import continuations_card
from app.ui.common.guard import errors_shown
from app.ui.common.live_link import prune_again
from app.ui.common.open_figure import rerun_page
from app.ui.common.seminar import presenter_only
from app.ui.common.text import literal
from trim.evaluation.settings import Sampling
from trim.runs.folder import Run
from trim.runs.recovery import Recovery

DEFAULT_PROMPT = "My fellow citizens, the state of our Union is"
NEW_TOKENS = 40
POLL_SECONDS = 1.0


def continue_prompt_views(runs: Sequence[Run], recovered: Sequence[Recovery]) -> None:
    """Show the stored continuations of the runs, and let models with masks and recoveries continue a new prompt."""
    for run in runs[:1]:
        continuations_card(run)
    weights = runs[0].model.weights
    able = [run for run in runs if has_masks(run) and run.model.weights == weights]
    unable = [run for run in runs if run not in able]
    with st.container(border=True, key="card-continue"):
        st.markdown("**What do they make of a prompt of yours?**")
        if not able:
            st.info(
                "A run needs its masks and its model to write. Those that came with the app have no masks; prune the "
                "model with the same settings, and the new run can.",
                icon=":material/edit_note:",
            )
            prune_again(runs[0])
            return
        _form([*able, *recovered])
        if unable:
            names = ", ".join(run.name for run in unable)
            st.caption(f"Without masks of this model, or incomplete, and so left out: {literal(names)}.")


@st.fragment
def _form(runs: Sequence[Run | Recovery]) -> None:
    if not presenter_only("Continuing a prompt"):
        return
    prompt = st.text_area("Prompt", DEFAULT_PROMPT, height=68, key="prompt")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        tokens = st.number_input("New tokens", 1, 512, NEW_TOKENS, key="new_tokens", width=160)
        temperature = st.number_input(
            "Temperature",
            0.0,
            5.0,
            0.0,
            0.1,
            key="temperature",
            width=160,
            help="0: always the most probable token. Above: drawn, the flatter the higher.",
        )
        seed = st.number_input("Seed", 0, 2**31 - 1, 0, key="prompt_seed", width=160)
        pressed = st.button("Continue it", icon=":material/edit_note:", key="continue_prompt")
    sampling = Sampling(tokens, temperature, seed)
    if pressed:
        key = continuation_key(prompt, sampling, runs)
        started = JOBS.record(key) is not None and not read_continuations(JOBS, key, runs).message
        st.session_state.pop("continuations", None)
        with errors_shown():
            st.session_state["continuations"] = (
                key if started else begin_continuations(JOBS, prompt, sampling, runs)
            )
    shown = st.session_state.get("continuations")
    if shown is None or JOBS.record(shown) is None:
        return
    if read_continuations(JOBS, shown, runs).active:
        _live(shown, runs)
    else:
        _texts(shown, runs)


@st.fragment(run_every=POLL_SECONDS)
def _live(key: str, runs: Sequence[Run | Recovery]) -> None:
    continuations = read_continuations(JOBS, key, runs)
    if not continuations.active:
        rerun_page()
        return
    done, of = len(continuations.texts), len(runs) + 1
    st.progress(done / of, text=f"Loading the model and writing: {done} of {of} are done")
    if st.button("Cancel", icon=":material/cancel:", key="cancel_writing"):
        JOBS.cancel(key)
    _texts(key, runs)


def _texts(key: str, runs: Sequence[Run | Recovery]) -> None:
    continuations = read_continuations(JOBS, key, runs)
    titles = {"dense": "Dense"} | {run.id: run.name for run in runs}
    if continuations.texts or continuations.active:
        for column, (target, title) in zip(st.columns(len(titles)), titles.items(), strict=True):
            column.markdown(f"**{literal(title)}**")
            text = continuations.texts.get(target)
            column.markdown(":gray[…]" if text is None else literal(text) or ":gray[nothing]")
    if continuations.message:
        st.error(literal(continuations.message), icon=":material/error:")
