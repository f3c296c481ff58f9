"""The parts of a lesson."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from diagnostics.figures.drawing import Drawing


@dataclass(frozen=True)
class Check:
    """A question, whose answer is hidden until the reader chooses one; `right` is an index into `answers`."""

    question: str
    answers: tuple[str, ...]
    right: int
    reason: str


@dataclass(frozen=True)
class Control:
    """The slider under a picture, which moves from frame to frame.

    Attributes:
        key: its name in the address.
        label: name of the quantity that it sets.
        values: each frame's value in the address.
        shown: each frame's value as displayed.
        start: the first frame to show.
        stops: number of frames that an arrow key moves by.
        rate: frames a second during play.
    """

    key: str
    label: str
    values: tuple[str, ...]
    shown: tuple[str, ...]
    start: int = 0
    stops: int = 1
    rate: float = 36.0

    def frame(self, value: str | None) -> int | None:
        """Return the frame of a value in the address, the first for an empty one; None: the value does not exist."""
        if value is None:
            return self.start
        return self.values.index(value) if value in self.values else None


@dataclass(frozen=True, eq=False)
class Picture:
    """A step's drawing with its control, and the finding of each frame.

    Attributes:
        drawing: the drawing of all frames.
        control: the slider; None: the drawing does not move.
        findings: the finding of each frame.
        alt: a text for readers who cannot see the drawing.
        numbers: the columns behind the drawing; called only when they are downloaded.
        missing: why this is not the requested picture; "": it is.
    """

    drawing: Drawing
    control: Control | None
    findings: Sequence[str]
    alt: str
    numbers: Callable[[], Mapping[str, np.ndarray]] = field(repr=False)
    missing: str = ""


@dataclass(frozen=True)
class Step:
    """One lesson.

    Attributes:
        name: a word for the list of steps.
        title: the question that it answers.
        words: the text on the reader's page, Markdown.
        say: the text on the slide, plain, in at most 25 words.
        notice: what to try, and what to look at.
        notes: the speaker's notes.
        check: the question at the end.
        formula: Markdown.
        picture: makes the picture; None: there is no data for it.
        empty: what to do if there is no picture.
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
