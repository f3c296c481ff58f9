"""The room of a seminar on the page Learn: readers' pages follow the presenter's slides, and answer questions."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from app.services.server.access import SEMINAR
from app.services.server.room import ANSWER, PICTURE, ROOM, Place, RoomError
from app.ui.learn.step import Picture, Step

PRESENTER_SECONDS, READER_SECONDS = 1.0, 0.5  # how often pages ask what is new
_KEY = "room_wire"
_wire = st.components.v2.component(
    "trim_room", js=(Path(__file__).parent / "room.js").read_text(encoding="utf-8")
)


def presenter_wire(steps: Sequence[Step], pictures: Sequence[Picture | None], run: str | None) -> None:
    """Send the place of the presenter's slides to the room, and the room's answers to the slides."""

    def turned() -> None:
        place = read_place(_sent("at"), steps, pictures, run)
        if place is not None:
            ROOM.show(place)

    def cleared() -> None:
        step = _integer(_sent("clear").get("step"), len(steps) - 1)
        if step is not None:
            ROOM.clear(step)

    @st.fragment(run_every=PRESENTER_SECONDS)
    def wire() -> None:
        ROOM.heartbeat()
        place = ROOM.place
        data: dict[str, object] = {
            "role": "presenter",
            "csv": answers_csv(steps),
            "place": None,
            "poll": None,
        }
        if place is not None:
            counts = ROOM.counts(place.step, place.choices)
            data["place"] = _place_json(place)
            data["poll"] = {"step": place.step, "counts": counts, "given": sum(counts)}
        _wire(data=data, key=_KEY, on_at_change=turned, on_clear_change=cleared)

    wire()


def reader_wire(run: str | None) -> None:
    """Send the room's place to a reader's slides, and the reader's answers to the room."""

    def answered() -> None:
        sent = _sent("answer")
        step, choice = _integer(sent.get("step"), 10**6), _integer(sent.get("choice"), 10**6)
        _store_browser(sent)
        try:
            if step is not None and choice is not None:
                ROOM.answer(str(st.session_state.get("browser", "")), step, choice)
        except RoomError as error:
            st.session_state["room_note"] = str(error)
        else:
            st.session_state["room_note"] = ""

    @st.fragment(run_every=READER_SECONDS)
    def wire() -> None:
        place = ROOM.place
        if place is None:
            st.session_state["released"] = True
            st.query_params["step"] = str(st.session_state.get("room_step", 0) + 1)
            st.rerun()
        if place.run != run:
            st.rerun()
        st.session_state.update(room_step=place.step, released=False)
        note = (
            "The presenter's slides are closed or not connected."
            if ROOM.away
            else st.session_state.get("room_note", "")
        )
        poll = None
        if place.reveal != PICTURE:
            counts = ROOM.counts(place.step, place.choices)
            mine = ROOM.answer_of(str(st.session_state.get("browser", "")), place.step)
            poll = {
                "step": place.step,
                "counts": counts if place.reveal == ANSWER else None,
                "given": sum(counts),
                "mine": mine,
            }
        else:
            st.session_state["room_note"] = ""
        _wire(
            data={
                "role": "reader",
                "known": "browser" in st.session_state,
                "place": _place_json(place),
                "poll": poll,
                "note": note,
            },
            key=_KEY,
            on_answer_change=answered,
            on_hello_change=lambda: _store_browser(_sent("hello")),
        )

    wire()


def follow_or_look_around() -> None:
    """Take a reader's page to the room: at once, or by a button for readers who look around."""

    @st.fragment(run_every=PRESENTER_SECONDS)
    def watch() -> None:
        place = ROOM.place
        if place is None and st.session_state.get("released"):
            st.info(
                "The presenter has left the slides: this page is yours. It follows again when slides are shown.",
                icon=":material/groups:",
            )
        elif place is None:
            st.caption(":material/groups: As soon as the presenter shows slides, this page follows them.")
        elif not st.session_state.get("around"):
            st.rerun()
        else:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.caption(f":material/groups: The room is at step {place.step + 1}.", width="content")
                st.button("Back to the room", icon=":material/undo:", key="back_to_room", on_click=_back)

    watch()


def follows() -> bool:
    """Return whether this page shows what the presenter shows."""
    return SEMINAR.on and not SEMINAR.may() and ROOM.place is not None and not st.session_state.get("around")


def look_around() -> None:
    """Leave the room for the reader's own page."""
    st.session_state["around"] = True


def _back() -> None:
    st.session_state["around"] = False


def read_place(
    sent: object, steps: Sequence[Step], pictures: Sequence[Picture | None], run: str | None
) -> Place | None:
    """Return the place that a browser sent; None: it is invalid."""
    if not isinstance(sent, dict):
        return None
    step, reveal = _integer(sent.get("step"), len(steps) - 1), _integer(sent.get("reveal"), ANSWER)
    if step is None or reveal is None:
        return None
    picture = pictures[step]
    frame = _integer(sent.get("frame"), 0 if picture is None else picture.drawing.frames - 1)
    return None if frame is None else Place(step, frame, reveal, run, len(steps[step].check.answers))


def answers_csv(steps: Sequence[Step]) -> str:
    """Write every question with its answers and their counts."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["step", "question", "answer", "right", "given"])
    for index, step in enumerate(steps):
        for choice, given in enumerate(ROOM.counts(index, len(step.check.answers))):
            right = int(choice == step.check.right)
            writer.writerow([index + 1, step.check.question, step.check.answers[choice], right, given])
    return text.getvalue()


def _place_json(place: Place) -> dict[str, int]:
    return {"step": place.step, "frame": place.frame, "reveal": place.reveal}


def _store_browser(sent: dict[str, object]) -> None:
    browser = sent.get("browser")
    if isinstance(browser, str):
        st.session_state["browser"] = browser


def _sent(name: str) -> dict[str, object]:
    """Return the unchecked value that the browser sent under a name."""
    value = st.session_state[_KEY].get(name)
    return value if isinstance(value, dict) else {}


def _integer(value: object, highest: int) -> int | None:
    """Return a whole number from 0 to `highest`; None: the value is something else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= highest else None
