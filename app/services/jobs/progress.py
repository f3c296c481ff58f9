"""The progress of a whole-model run, read from its events."""

import datetime
from collections.abc import Iterable
from dataclasses import dataclass, replace

from trim.progress import Progress

_MAX_NUMBER = 1e18  # no run has so many bytes or seconds; NaN is not less than it


@dataclass(frozen=True)
class RunProgress:
    """The progress of a run.

    Attributes:
        now: the current step.
        notes: notes for the user.
        ended: "" while the run works, "finished", or the reason why it stopped.
    """

    now: Progress
    notes: tuple[str, ...]
    ended: str


def read_progress(events: Iterable[dict], now: datetime.datetime) -> RunProgress:
    """Read the progress from events at the time `now`, which has a time zone; skip malformed lines."""
    shown, reported, ended = Progress("Starting"), "", ""
    notes: list[str] = []
    for event in events:
        match event:
            case {"event": "Stopped", "by": str(ended)}:
                pass
            case {"event": "Finished"}:
                ended = "finished"
            case {
                "event": "Progress",
                "what": str(what),
                "done": int() | float() as done,
                "of": int() | float() as of,
                "seconds_left": int() | float() | None as left,
            } if all(abs(number) < _MAX_NUMBER for number in (done, of, left or 0)):
                shown, reported, ended = Progress(what, done, of, left), str(event.get("time", "")), ""
            case {"event": "Began"}:
                notes.clear()
            case {"event": "Note", "text": str(text)}:
                notes.append(text)
    return RunProgress(_aged(shown, reported, now), tuple(notes[-3:]), ended)


def _aged(progress: Progress, reported: str, now: datetime.datetime) -> Progress:
    """Subtract the time since the report, an ISO 8601 time, from the seconds left."""
    if progress.seconds_left is None:
        return progress
    try:
        age = (now - datetime.datetime.fromisoformat(reported)).total_seconds()
    except (ValueError, TypeError):
        age = 0.0
    return replace(progress, seconds_left=max(progress.seconds_left - max(age, 0.0), 0.0))
