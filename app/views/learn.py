"""The method step by step, on layers small enough to read: no model is needed."""

import streamlit as st

from app.ui.common.present import kept, listen_to_clickers, presenting
from app.ui.common.text import plain
from app.ui.learn.course import STEPS
from app.ui.learn.step import show

PAGE = "views/learn.py"
PLAY_SECONDS = 0.5


def chosen_step() -> int:
    """Return the number of the step, from 1, that the address asks for; a wrong one is reported."""
    asked = st.query_params.get("step", "1")
    if asked.isascii() and asked.isdigit() and 1 <= int(asked) <= len(STEPS):
        return int(asked)
    st.warning(
        f"The address asks for step {plain(asked[:40])}; there are the steps 1 to {len(STEPS)}.",
        icon=":material/link_off:",
    )
    return 1


def go_to(number: int) -> None:
    """Another step, from a button; what the address held of this one goes."""
    st.query_params.from_dict(kept() | {"step": str(number)})


def contents(current: int) -> None:
    """Show a link to every step."""
    with st.container(horizontal=True, gap="small", key="steps"):
        for number, step in enumerate(STEPS, 1):
            st.page_link(
                PAGE,
                label=f"{number} {step.name}",
                icon=":material/radio_button_checked:" if number == current else None,
                query_params=kept() | {"step": str(number)},
            )


def turn_pages(current: int) -> None:
    """Previous and next, also by the arrow keys, and in or out of presenter mode."""
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        st.button(
            "Previous",
            icon=":material/arrow_back:",
            key="previous_step",
            shortcut="Left",
            disabled=current == 1,
            on_click=go_to,
            args=(current - 1,),
        )
        mode = {} if presenting() else {"present": "1"}
        st.page_link(
            PAGE,
            label="Leave presenter mode" if presenting() else "Presenter mode",
            icon=":material/close_fullscreen:" if presenting() else ":material/slideshow:",
            query_params={"step": str(current)} | mode,
        )
        st.button(
            "Next",
            key="next_step",
            shortcut="Right",
            disabled=current == len(STEPS),
            on_click=go_to,
            args=(current + 1,),
        )


current = chosen_step()
# A link within a page brings its parameters but leaves the address as it was: write them into it.
st.query_params["step"] = str(current)
step = STEPS[current - 1]
if not presenting():
    st.caption(
        "A language model can be made smaller by setting most of its weights to zero: zeros need not be stored. TRIM "
        f"decides how many each row of a layer may lose. {len(STEPS)} steps, about fifteen minutes; "
        "every number is computed as you look."
    )
st.title(f"{current}. {step.title}")
contents(current)
if step.name != "Iterations":
    st.session_state["playing"] = False
st.fragment(show, run_every=PLAY_SECONDS if st.session_state.get("playing") else None)(step)
turn_pages(current)
if presenting():
    listen_to_clickers()
