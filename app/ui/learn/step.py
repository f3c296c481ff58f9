"""The parts of a lesson."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from diagnostics.figures.drawing import Drawing


@dataclass(frozen=True)
class Check:
    """A question. The answer is hidden until one is chosen; `right` is its place in `answers`."""

    question: str
    answers: tuple[str, ...]
    right: int
    reason: str


@dataclass(frozen=True)
class Control:
    """The slider under a picture; it moves from one frame to the next.

    Attributes:
        key: its name in the address.
        label: what it sets.
        values: each frame's value, as the address has it.
        shown: the same for people.
        start: the frame that is shown first.
        stops: an arrow key moves by this many frames.
        rate: frames a second when it plays.
    """

    key: str
    label: str
    values: tuple[str, ...]
    shown: tuple[str, ...]
    start: int = 0
    stops: int = 1
    rate: float = 36.0

    def frame(self, value: str | None) -> int | None:
        """Return the frame of an address's value, the first for none; None: there is no such value."""
        if value is None:
            return self.start
        return self.values.index(value) if value in self.values else None


@dataclass(frozen=True, eq=False)
class Picture:
    """A step's drawing with its control, and what is to be seen in each frame.

    Attributes:
        drawing: what moves.
        control: None: it does not move.
        seen: a sentence for each frame.
        alt: a text for readers who cannot see the drawing.
        numbers: the columns behind the drawing; called only when they are downloaded.
        missing: why the picture is another than the one asked for; "": it is the one.
    """

    drawing: Drawing
    control: Control | None
    seen: Sequence[str]
    alt: str
    numbers: Callable[[], Mapping[str, np.ndarray]] = field(repr=False)
    missing: str = ""


@dataclass(frozen=True)
class Step:
    """One lesson.

    Attributes:
        name: a word for the list of steps.
        title: the question that it answers.
        words: the text that the reader sees, Markdown.
        say: the same on a slide, in at most 25 words; plain text.
        notice: what to try, and what to look at.
        notes: what the speaker says and does.
        check: the question at the end.
        formula: Markdown.
        picture: makes the picture; None: there is nothing to draw it from.
        empty: what to do where there is none.
    """

    name: str
    title: str
    words: str
    say: str
    notice: str
    notes: str
    check: Check
    formula: str
    picture: Callable[[], Picture | None]
    empty: str = ""
