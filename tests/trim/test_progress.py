"""One event for all progress, and the one estimate of the seconds left."""

from trim import progress
from trim.progress import Meter, Progress, format_seconds


def test_the_estimate_is_the_pace_so_far(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    seen: list[Progress] = []
    meter = Meter(seen.append, of=10, done=2)
    meter.report("x")
    now[0] += 6
    meter.report("x", 4)
    meter.report("y")
    meter.report("y", 10)
    assert seen == [
        Progress("x", 2, 10, None),
        Progress("x", 4, 10, 18.0),
        Progress("y", 4, 10, 18.0),
        Progress("y", 10, 10, 0.0),
    ]


def test_an_unknown_end_has_neither_share_nor_estimate():
    seen: list[Progress] = []
    Meter(seen.append).report("x", 3)
    assert seen == [Progress("x", 3)]
    assert seen[0].fraction is None
    Meter(None, of=1).report("nobody listens", 1)


def test_as_text():
    assert str(Progress("Loading")) == "Loading"
    assert str(Progress("Loading", 1, 4, 90.4)) == "Loading, about 90 s left"
    assert Progress("Loading", 5, 4).fraction == 1
    assert [format_seconds(each) for each in (99, 150, 9000)] == ["99 s", "2 min", "2.5 h"]
