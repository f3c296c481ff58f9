"""The room of a seminar: who turns its pages, and which answers count."""

import dataclasses

import pytest

from app.services.server.access import PresenterNeededError, Seminar
from app.services.server.room import AWAY_SECONDS, MAX_ANSWERS, QUESTION, Place, Room, RoomError

HERE = Place(step=3, frame=0, reveal=QUESTION, run=None, choices=3)


def browser(number: int) -> str:
    return f"{number:032x}"


@pytest.fixture
def room() -> Room:
    """A room whose presenter asks a question; `.asking` is the session, `.now` the clock."""
    seminar = Seminar("open sesame")
    made = Room(seminar, clock=lambda: made.now)
    made.now, made.asking = 0.0, "presenter"
    seminar.who = lambda: made.asking
    seminar.unlock("open sesame")
    made.show(HERE)
    made.asking = "reader"
    return made


def test_only_the_presenter_turns_pages_and_clears(room):
    for forbidden in (
        lambda: room.show(dataclasses.replace(HERE, step=4)),
        lambda: room.clear(3),
        room.leave,
    ):
        with pytest.raises(PresenterNeededError):
            forbidden()
    assert room.place == HERE
    room.now = AWAY_SECONDS + 1
    room.heartbeat()  # a reader's
    assert room.away
    room.asking = "presenter"
    room.heartbeat()
    assert not room.away
    room.leave()
    assert room.place is None


def test_one_answer_a_browser_and_a_session(room):
    room.answer(browser(1), 3, 2)
    with pytest.raises(RoomError, match="first answer counts"):
        room.answer(browser(1), 3, 0)
    with pytest.raises(RoomError, match="first answer counts"):
        room.answer(browser(2), 3, 0)  # another id of the same session
    room.asking = "another tab"
    with pytest.raises(RoomError, match="first answer counts"):
        room.answer(browser(1), 3, 0)
    room.answer(browser(2), 3, 2)
    assert room.counts(3, 3) == [0, 0, 2]
    assert room.answer_of(browser(1), 3) == 2
    assert room.answer_of(browser(3), 3) is None


@pytest.mark.parametrize(
    ("step", "choice", "reveal", "why"),
    [
        (2, 0, 1, "closed"),
        (3, 0, 0, "closed"),
        (3, 0, 2, "closed"),
        (3, 3, 1, "no such"),
        (3, -1, 1, "no such"),
        (3, 10**400, 1, "no such"),
    ],
)
def test_answers_that_do_not_count(room, step, choice, reveal, why):
    room.asking = "presenter"
    room.show(dataclasses.replace(HERE, reveal=reveal))
    room.asking = "reader"
    with pytest.raises(RoomError, match=why):
        room.answer(browser(1), step, choice)
    assert room.counts(3, 3) == [0, 0, 0]


def test_a_flood_ends(room):
    for number in range(MAX_ANSWERS):
        room.asking = f"tab {number}"
        room.answer(browser(number), 3, number % 3)
    room.asking = "one more"
    with pytest.raises(RoomError, match="no more are taken"):
        room.answer(browser(10**6), 3, 0)
    for short_or_long in ("", "x" * 1000):
        with pytest.raises(RoomError, match="load it again"):
            room.answer(short_or_long, 3, 0)
    room.asking = "presenter"
    room.clear(3)
    assert room.counts(3, 3) == [0, 0, 0]


def test_without_a_question_nothing_is_answered():
    room = Room(Seminar("open sesame"))
    assert room.place is None
    with pytest.raises(RoomError, match="closed"):
        room.answer(browser(1), 0, 0)
