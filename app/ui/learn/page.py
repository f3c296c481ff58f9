"""A lesson on the reader's own page: words, a picture with its control, and a question."""

import streamlit as st

from app.services.runs.store import STORE
from app.ui.common.cards import View
from app.ui.common.guard import guarded
from app.ui.common.present import link
from app.ui.common.studio import open_studio, set_caption_settings, theme
from app.ui.common.text import literal
from app.ui.learn.lesson import lesson
from app.ui.learn.step import Check, Picture, Step
from diagnostics.figures.drawn_figure import drawn_figure

ONWARDS = (
    ("layer", "Run TRIM on a layer yourself"),
    ("compare", "Compare TRIM with the optimum"),
    ("paper", "See the paper's figures"),
)


def first_frame(picture: Picture | None) -> int:
    """Return the frame that the address asks for; report a value that the control does not have."""
    if picture is None or picture.control is None:
        return 0
    control = picture.control
    value = st.query_params.get(control.key)
    frame = control.frame(value)
    if frame is None:
        st.warning(
            f"The address asks for {literal(f'{control.key}={value}'[:60])}, which this step cannot show; it shows "
            "its own value instead.",
            icon=":material/link_off:",
        )
        return control.start
    return frame


def choose_run(run_id: str | None) -> None:
    """Choose the stored run that the last lessons show, which the address holds."""
    runs = [entry.id for entry in STORE.runs() if entry.run is not None]
    names = {entry.id: entry.run.name for entry in STORE.runs() if entry.run is not None}

    def choose() -> None:
        if st.session_state["lesson_run"] is None:
            st.query_params.pop("run", None)
        else:
            st.query_params["run"] = st.session_state["lesson_run"]

    st.session_state["lesson_run"] = run_id if run_id in names else None
    st.selectbox(
        "Stored run",
        runs,
        format_func=lambda each: names.get(each, each),
        placeholder="the demo's",
        key="lesson_run",
        on_change=choose,
    )


def show(number: int, step: Step, last: bool, picture: Picture | None) -> None:
    """Show the words on the left, the picture with its control on the right, the question below."""
    frame = first_frame(picture)
    left, shown = st.columns([2, 3], gap="large")
    with left:
        st.markdown(step.words)
        st.markdown(f"**What to notice.** {step.notice}")
        with st.popover("Formula", type="tertiary", icon=":material/function:"):
            st.markdown(step.formula)
    with shown, st.container(border=True, key="lesson-picture"), guarded():
        if picture is None:
            st.info(step.empty, icon=":material/info:")
        else:
            if picture.missing:
                st.warning(literal(picture.missing), icon=":material/info:")
            name = step.name.lower()
            request = lesson("page", [(number, step, picture)], frame=frame, key=f"lesson_{name}")
            saved = request.saved
            if type(saved) is int and 0 <= saved < picture.drawing.frames:
                set_caption_settings(f"Learn, step {number}")
                open_studio(lambda: _view(step, picture, saved), f"learn-{name}")
    st.fragment(ask)(step.name, step.check)
    if last:
        with st.container(horizontal=True, key="onwards"):
            for page, label in ONWARDS:
                link(page, label, "arrow_forward")


def _view(step: Step, picture: Picture, frame: int) -> View:
    """Return a frame of a picture as a chart for the studio."""
    return View(
        drawn_figure(picture.drawing, frame, step.title, theme()),
        picture.findings[frame],
        step.formula,
        picture.alt,
        picture.numbers,
    )


def ask(name: str, check: Check) -> None:
    """Ask the question of a step, and explain the chosen answer."""
    with st.container(border=True, key="self-check"):
        answer = st.radio(
            f"**Check yourself.** {check.question}",
            range(len(check.answers)),
            index=None,
            format_func=check.answers.__getitem__,
            key=f"check_{name.lower()}",
        )
        if answer is None:
            st.caption("Choose an answer to see the reason.")
        elif answer == check.right:
            st.success(f"Yes. {check.reason}", icon=":material/check_circle:")
        else:
            st.info(f"Not quite. {check.reason}", icon=":material/lightbulb:")
