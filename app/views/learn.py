"""The method step by step, on layers small enough to read: no model is needed."""

from collections.abc import Sequence

import streamlit as st

from app.services.server.access import SEMINAR
from app.services.server.faults import explain
from app.services.server.room import ROOM
from app.ui.common.present import presenting
from app.ui.common.text import literal
from app.ui.learn.course import course
from app.ui.learn.lesson import lesson
from app.ui.learn.page import choose_run, first_frame, show
from app.ui.learn.room import (
    follow_or_look_around,
    follows,
    look_around,
    presenter_wire,
    read_place,
    reader_wire,
)
from app.ui.learn.step import Picture, Step

PAGE = "views/learn.py"


def number_in_address(name: str, lowest: int, highest: int) -> int:
    """Return the whole number in the address; `lowest` without one, and, after a warning, for an invalid one."""
    text = st.query_params.get(name, str(lowest))
    if text.isascii() and text.isdigit() and lowest <= int(text) <= highest:
        return int(text)
    st.warning(
        f"The address asks for {name} {literal(text[:40])}; there are the {name}s {lowest} to {highest}.",
        icon=":material/link_off:",
    )
    return lowest


def picture_of(step: Step) -> Picture | None:
    """Return the step's picture; if that fails, show why and return None."""
    try:
        return step.picture()
    except Exception as error:  # a damaged run must not stop the lecture
        st.error(literal(explain(error)), icon=":material/error:")
        return None


def go_to(number: int) -> None:
    """Go to another step from a button, and remove this step's values from the address."""
    st.query_params.from_dict(_run() | {"step": str(number)})


def _run() -> dict[str, str]:
    return {"run": st.query_params["run"]} if "run" in st.query_params else {}


def contents(steps: Sequence[Step], current: int) -> None:
    """Show a link to every step."""
    with st.container(horizontal=True, gap="small", key="steps"):
        for number, step in enumerate(steps, 1):
            st.page_link(
                PAGE,
                label=f"{number} {step.name}",
                icon=":material/radio_button_checked:" if number == current else None,
                query_params=_run() | {"step": str(number)},
            )


def turn_pages(steps: Sequence[Step], current: int) -> None:
    """Show buttons for the previous and next step, which also have arrow keys, and for presenter mode."""
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
        st.page_link(
            PAGE,
            label="Presenter mode",
            icon=":material/slideshow:",
            query_params=_run() | {"step": str(current), "present": "1"},
        )
        st.button(
            "Next",
            key="next_step",
            shortcut="Right",
            disabled=current == len(steps),
            on_click=go_to,
            args=(current + 1,),
        )


def slides(steps: Sequence[Step], current: int) -> None:
    """Show all steps as slides, sent once; turning the presenter's slides turns the room's."""
    st.query_params["present"] = "1"  # set again, as in `own_page`
    pictures = [picture_of(step) for step in steps]
    room_state = ""
    if SEMINAR.on:
        room_state = (
            "The room follows." if SEMINAR.may() else "The room does not follow: enter the code first."
        )
    request = lesson(
        "slides",
        numbered(steps, pictures),
        step=current - 1,
        frame=first_frame(pictures[current - 1]),
        reveal=number_in_address("reveal", 0, 2),
        seminar=room_state,
        key="slides",
    )
    if (left := read_place(request.leave, steps, pictures, None)) is not None:
        if SEMINAR.on and SEMINAR.may():
            ROOM.leave()
        picture = pictures[left.step]
        control = None if picture is None else picture.control
        setting = {} if control is None else {control.key: control.values[left.frame]}
        st.query_params.from_dict(_run() | {"step": str(left.step + 1)} | setting)
        st.rerun()
    if SEMINAR.on and SEMINAR.may():
        presenter_wire(steps, pictures, st.query_params.get("run"))


def room_page() -> None:
    """Show what the presenter shows."""
    place = ROOM.place
    if place is None:
        return
    steps = course(place.run)
    pictures = [picture_of(step) for step in steps]
    request = lesson(
        "room",
        numbered(steps, pictures),
        step=place.step,
        frame=place.frame,
        reveal=place.reveal,
        key="room",
    )
    if request.around is not None:
        look_around()
        st.query_params["step"] = str(place.step + 1)
        st.rerun()
    reader_wire(place.run)


def numbered(
    steps: Sequence[Step], pictures: Sequence[Picture | None]
) -> list[tuple[int, Step, Picture | None]]:
    """Return the steps with their numbers and pictures."""
    return [(number, *each) for number, each in enumerate(zip(steps, pictures, strict=True), 1)]


def own_page(steps: Sequence[Step], current: int) -> None:
    """Show one step as a page."""
    st.query_params["step"] = str(current)  # set again: a link within a page leaves the address as it was
    step = steps[current - 1]
    if SEMINAR.on and not SEMINAR.may():
        follow_or_look_around()
    st.title(f"{current}. {step.title}")
    contents(steps, current)
    if current > len(steps) - 2:
        choose_run(st.query_params.get("run"))
    show(current, step, current == len(steps), picture_of(step))
    turn_pages(steps, current)


if not presenting() and follows():
    room_page()
else:
    steps = course(st.query_params.get("run"))
    current = number_in_address("step", 1, len(steps))
    if presenting():
        slides(steps, current)
    else:
        own_page(steps, current)
