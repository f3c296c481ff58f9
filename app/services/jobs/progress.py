"""The progress of a whole-model run, read from its events."""

import datetime
from collections.abc import Iterable
from dataclasses import dataclass, replace

from trim.progress import Progress

SHOWN_NOTES = 3
_MAX_NUMBER = 1e18  # no run has so many bytes or seconds; NaN is not less than it


@dataclass(frozen=True)
class RunProgress:
    """The progress of a run.

    Attributes:
        now: the current step.
        notes: the last notes for the user.
        ended: "" while the run works, "finished", or the reason why it stopped.
    """

    now: Progress
    notes: tuple[str, ...]
    ended: str


def read_progress(latest_first: Iterable[dict], now: datetime.datetime) -> RunProgress:
    """Read the progress at the time `now`, which has a time zone; skip malformed events.

    `latest_first`: the events. A run of many experts has tens of thousands, of which this reads the last ones.
    """
    shown, reported, ended, resumed = None, "", "", False
    notes: list[str] = []
    for event in latest_first:
        match event:
            case {"event": "Stopped", "by": str(by)} if shown is None:
                ended = ended or by
            case {"event": "Finished"} if shown is None:
                ended = ended or "finished"
            case {
                "event": "Progress",
                "what": str(what),
                "done": int() | float() as done,
                "of": int() | float() as of,
                "seconds_left": int() | float() | None as left,
            } if shown is None and all(abs(number) < _MAX_NUMBER for number in (done, of, left or 0)):
                shown, reported = Progress(what, done, of, left), str(event.get("time", ""))
            case {"event": "Began"}:
                resumed = True
            case {"event": "Note", "text": str(text)} if not resumed:
                notes.insert(0, text)
        if shown is not None and (resumed or len(notes) == SHOWN_NOTES):
            break
    return RunProgress(
        _aged(shown or Progress("Starting"), reported, now), tuple(notes[-SHOWN_NOTES:]), ended
    )


def _aged(progress: Progress, reported: str, now: datetime.datetime) -> Progress:
    """Subtract the time since the report, an ISO 8601 time, from the seconds left."""
    if progress.seconds_left is None:
        return progress
    try:
        age = (now - datetime.datetime.fromisoformat(reported)).total_seconds()
    except (ValueError, TypeError):
        age = 0.0
    return replace(progress, seconds_left=max(progress.seconds_left - max(age, 0.0), 0.0))
