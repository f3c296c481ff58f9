"""The progress of a run, read from the events that its process has written."""

import datetime
from collections.abc import Iterator

import pytest

from app.services.jobs.progress import RunProgress, read_progress
from trim.progress import Progress
from trim.pruning.events import Began, Finished, Note, Stopped, event_to_json

NOON = datetime.datetime(2026, 11, 1, 12, 0, 0, tzinfo=datetime.UTC)
BEGAN = event_to_json(Began(10, 70, 0, 32, 2, "ram"))


def progress_of(events: list[dict], now: datetime.datetime) -> RunProgress:
    return read_progress(reversed(events), now)


def step(what: str, done: float, left: float | None) -> dict:
    return {"time": NOON.isoformat(), **event_to_json(Progress(what, done, 10, left))}


def test_nothing_reported_yet():
    progress = progress_of([], NOON)
    assert (progress.now, progress.notes, progress.ended) == (Progress("Starting"), (), "")


def test_in_the_middle():
    events = [
        BEGAN,
        step("Block 3: writing", 4, 90.0),
        event_to_json(Note("memory ran out")),
        step("Pruning 4.x", 4.5, 100),
    ]
    progress = progress_of(events, NOON + datetime.timedelta(seconds=30))
    assert progress.now == Progress("Pruning 4.x", 4.5, 10, 70)
    assert (progress.now.fraction, progress.notes) == (0.45, ("memory ran out",))
    assert progress_of(events, NOON + datetime.timedelta(hours=1)).now.seconds_left == 0
    assert progress_of(events, NOON - datetime.timedelta(hours=1)).now.seconds_left == 100


def test_stopped_resumed_measured_and_finished():
    events = [BEGAN, step("Pruning 0.x", 0, None), event_to_json(Stopped("KeyboardInterrupt"))]
    assert progress_of(events, NOON).ended == "KeyboardInterrupt"
    events += [BEGAN, step("Block 0: applying its finished masks", 1, None)]
    progress = progress_of(events, NOON)
    assert (progress.ended, progress.now.fraction, progress.now.seconds_left) == ("", 0.1, None)
    events.append(event_to_json(Finished(0.5, 3.0)))
    assert progress_of(events, NOON).ended == "finished"
    assert progress_of([*events, step("Measuring perplexity", 0, None)], NOON).ended == ""


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"event": 3},
        {"event": "Progress"},
        {"event": "Note", "text": None},
        step("x", float("nan"), 1),
        step("x", 1, 10**400),
        step("x", 1, 1) | {"of": "ten"},
    ],
)
def test_senseless_lines_are_passed_over(event):
    assert progress_of([BEGAN, event], NOON) == progress_of([BEGAN], NOON)


def test_only_the_last_events_are_read():
    def latest_first() -> Iterator[dict]:
        yield step("Pruning 4.x", 4, 9)
        for number in (5, 4, 3):
            yield event_to_json(Note(f"note {number}"))
        pytest.fail("read on")

    progress = read_progress(latest_first(), NOON)
    assert progress.notes == ("note 3", "note 4", "note 5")


def test_a_time_that_is_not_a_time():
    assert progress_of([step("x", 1, 9) | {"time": "yesterday"}], NOON).now.seconds_left == 9
