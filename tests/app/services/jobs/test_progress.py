"""How far a run is, from what its process wrote down."""

import datetime

import pytest

from app.services.jobs.progress import read_progress

NOON = datetime.datetime(2026, 11, 1, 12, 0, 0, tzinfo=datetime.UTC)
BEGAN = {"event": "Began", "blocks": 10, "layers": 70, "done": 0}


def done(block: int, left: float, time: datetime.datetime = NOON) -> dict:
    return {
        "event": "BlockDone",
        "block": block,
        "blocks": 10,
        "seconds_left": left,
        "time": time.isoformat(),
    }


def pruned(layer: str) -> dict:
    return {"event": "LayerPruned", "layer": layer}


def test_nothing_reported_yet():
    progress = read_progress([], NOON)
    assert (progress.stage, progress.fraction, progress.seconds_left, progress.ended) == (
        "Starting",
        0.0,
        None,
        "",
    )


def test_in_the_middle():
    events = [
        {"event": "Stage", "stage": "budgets", "block": None},
        BEGAN,
        *(done(block, 100.0) for block in range(4)),
        {"event": "Note", "text": "memory ran out"},
        {"event": "Stage", "stage": "search", "block": 4},
        *(pruned(f"4.layer{number}") for number in range(7)),
    ]
    progress = read_progress(events[:-2], NOON + datetime.timedelta(seconds=30))
    assert (progress.stage, progress.block, progress.blocks) == ("Deciding row sparsities", 4, 10)
    assert progress.layer == "4.layer4"
    assert progress.fraction == pytest.approx((4 + 5 / 7) / 10)
    assert progress.seconds_left == 70
    assert progress.notes == ("memory ran out",)
    assert read_progress(events, NOON + datetime.timedelta(hours=1)).seconds_left == 0


def test_stopped_resumed_and_finished():
    events = [BEGAN, done(0, 50.0), {"event": "Stage", "stage": "stopped", "text": "KeyboardInterrupt"}]
    assert read_progress(events, NOON).ended == "KeyboardInterrupt"
    events += [{**BEGAN, "done": 1}, {"event": "Stage", "stage": "replay", "block": 0}]
    progress = read_progress(events, NOON)
    assert (progress.ended, progress.fraction, progress.seconds_left) == ("", 0.1, None)
    assert read_progress([*events, {"event": "Finished"}], NOON).ended == "finished"
    assert read_progress([*events, {"event": "Finished"}], NOON).fraction == 1.0


@pytest.mark.parametrize(
    "event", [{}, {"event": "Began"}, {"event": "BlockDone", "block": "x"}, {"event": 3}, {"event": "Stage"}]
)
def test_senseless_lines_are_passed_over(event):
    assert read_progress([BEGAN, event], NOON) == read_progress([BEGAN], NOON)


def test_a_time_that_is_none():
    assert read_progress([BEGAN, {**done(0, 9.0), "time": "yesterday"}], NOON).seconds_left == 9
