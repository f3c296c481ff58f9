"""Progress of slow work: one kind of event for everything that takes longer than a second.

The code that does the work reports; the command line, the log of a run and the app's pages show what is reported. A
listener may raise an exception to end the work: it is called from inside, between two steps of it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """The progress of a piece of work.

    Attributes:
        what: a title for users, such as "Loading SmolLM2-135M".
        done: the finished amount, in the work's own unit.
        of: the total amount; 0: not known.
        seconds_left: an estimate; None: not known yet.
    """

    what: str
    done: float = 0
    of: float = 0
    seconds_left: float | None = None

    @property
    def fraction(self) -> float | None:
        """Return the share that is done, from 0 to 1; None where it is not known."""
        return min(self.done / self.of, 1.0) if self.of else None

    def __str__(self) -> str:
        """Format as one line: what is being done, and how long it will take."""
        left = "" if self.seconds_left is None else f", about {format_seconds(self.seconds_left)} left"
        return self.what + left


ProgressListener = Callable[[Progress], None]


class Meter:
    """Reports the steps of one piece of work, with an estimate of the seconds left by its pace so far."""

    def __init__(self, listener: ProgressListener | None, of: float = 0, done: float = 0) -> None:
        """Begin; the pace is measured from now on.

        Args:
            listener: receives the reports; None: they are dropped.
            of: the total amount; 0: not known.
            done: the amount that was finished before.
        """
        self._listener = listener or (lambda progress: None)
        self._of, self._first, self.done = of, done, done
        self._begin = time.monotonic()

    def report(self, what: str, done: float | None = None) -> None:
        """Report the title of the current step, and how much is done; None: as much as before."""
        if done is not None:
            self.done = done
        left = None
        if self._of and self.done > self._first:
            pace = (time.monotonic() - self._begin) / (self.done - self._first)
            left = round(pace * max(self._of - self.done, 0), 1)
        self._listener(Progress(what, self.done, self._of, left))


def format_seconds(seconds: float) -> str:
    """Format a duration: "45 s", "3 min", "2.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
