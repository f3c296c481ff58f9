"""The room of a seminar: the place that the presenter shows, and the answers to its questions. Nothing is written."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from app.services.server.access import SEMINAR, Seminar
from trim.errors import TrimError

MAX_ANSWERS = 500  # to one question
MIN_BROWSER_LENGTH, MAX_BROWSER_LENGTH = 16, 64  # characters of the random id that a browser gives itself
AWAY_SECONDS = 8.0  # without a sign of the presenter's page

PICTURE, QUESTION, ANSWER = 0, 1, 2  # the part of a step that is shown


class RoomError(TrimError):
    """Raised when an answer does not count; the message says why."""


@dataclass(frozen=True)
class Place:
    """A place in the slides, as the presenter shows it.

    Attributes:
        step: its index in the course.
        frame: index of its picture's frame.
        reveal: PICTURE, QUESTION or ANSWER.
        run: the stored run of the last steps; None: the demo's.
        choices: how many answers the step's question has.
    """

    step: int
    frame: int
    reveal: int
    run: str | None
    choices: int


class Room:
    """The presenter's place, and the room's answers. For each question one answer a browser and session counts."""

    def __init__(self, seminar: Seminar = SEMINAR, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Make an empty room; `seminar` knows who is the presenter."""
        self._seminar, self._clock = seminar, clock
        self._place: Place | None = None
        self._seen = 0.0
        self._answers: dict[int, dict[str, int]] = {}
        self._sessions: dict[int, set[str]] = {}
        self._lock = threading.Lock()

    @property
    def place(self) -> Place | None:
        """Return the place that the presenter showed last; None: none yet."""
        return self._place

    @property
    def away(self) -> bool:
        """Return whether the presenter's page has been silent for a while."""
        return self._clock() - self._seen > AWAY_SECONDS

    def show(self, place: Place) -> None:
        """Show a place to the room.

        Raises:
            PresenterNeededError: the session is a reader's.
        """
        self._seminar.require("Turning the room's pages")
        self._place, self._seen = place, self._clock()

    def leave(self) -> None:
        """Stop showing a place to the room.

        Raises:
            PresenterNeededError: the session is a reader's.
        """
        self._seminar.require("Turning the room's pages")
        self._place = None

    def heartbeat(self) -> None:
        """Report that the presenter's page is open; ignored from readers."""
        if self._seminar.may():
            self._seen = self._clock()

    def answer(self, browser: str, step: int, choice: int) -> None:
        """Count a reader's answer to the question that is open.

        Raises:
            RoomError: the question is closed, there is no such answer, or this browser or session has answered.
        """
        place, session = self._place, self._seminar.who() or ""
        if place is None or place.reveal != QUESTION or place.step != step:
            raise RoomError("This question is closed.")
        if not 0 <= choice < place.choices:
            raise RoomError("The question has no such answer.")
        if not MIN_BROWSER_LENGTH <= len(browser) <= MAX_BROWSER_LENGTH:
            raise RoomError("The page has no id to answer with: load it again.")
        with self._lock:
            answers = self._answers.setdefault(step, {})
            sessions = self._sessions.setdefault(step, set())
            if browser in answers or session in sessions:
                raise RoomError("Your first answer counts.")
            if len(answers) >= MAX_ANSWERS:
                raise RoomError(f"{MAX_ANSWERS} answers are in; no more are taken.")
            answers[browser] = choice
            sessions.add(session)

    def answer_of(self, browser: str, step: int) -> int | None:
        """Return a browser's answer; None: it has not answered."""
        return self._answers.get(step, {}).get(browser)

    def counts(self, step: int, choices: int) -> list[int]:
        """Return how often each answer to a step's question was given."""
        with self._lock:
            given = list(self._answers.get(step, {}).values())
        return [given.count(choice) for choice in range(choices)]

    def clear(self, step: int) -> None:
        """Forget the answers to a step's question.

        Raises:
            PresenterNeededError: the session is a reader's.
        """
        self._seminar.require("Clearing answers")
        with self._lock:
            self._answers.pop(step, None)
            self._sessions.pop(step, None)


ROOM = Room()
