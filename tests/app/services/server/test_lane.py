"""One at a time, in order; whoever waits or is cancelled holds up nobody."""

import threading

import pytest

from app.services.layer.background import Cancelled, Job
from app.services.server.lane import Lane
from trim.progress import Progress

PATIENCE_SECONDS = 20


def taking(lane: Lane, held: threading.Event, order: list[str], name: str) -> Job:
    """Return a job that takes the turn and holds it until the event."""
    job, entered = Job(), threading.Event()

    def work(job: Job) -> str:
        entered.set()
        with lane.turn(job):
            order.append(name)
            assert held.wait(PATIENCE_SECONDS)
        return name

    job.start(work)
    assert entered.wait(PATIENCE_SECONDS)
    while len(lane._tickets) <= len(order) and name not in order:
        pass
    return job


def test_one_at_a_time_and_in_order():
    lane, held, order = Lane(), threading.Event(), []
    jobs = [taking(lane, held, order, "a")]
    while order != ["a"]:
        pass
    jobs.append(taking(lane, held, order, "b"))
    while jobs[1].progress.what == "Starting":
        pass
    assert jobs[1].progress == Progress("Waiting for the work before this")
    assert lane.busy
    assert order == ["a"]
    held.set()
    assert [job.result(PATIENCE_SECONDS) for job in jobs] == ["a", "b"]
    assert order == ["a", "b"]
    assert not lane.busy


def test_a_job_that_waits_can_be_cancelled():
    lane, held, order = Lane(), threading.Event(), []
    first = taking(lane, held, order, "a")
    waiting = taking(lane, held, order, "b")
    waiting.cancel()
    with pytest.raises(Cancelled):
        waiting.result(PATIENCE_SECONDS)
    held.set()
    assert first.result(PATIENCE_SECONDS) == "a"
    while lane._tickets:
        pass
    assert order == ["a"]


@pytest.mark.parametrize("to_the_end", [False, True])
def test_cancelled_work_that_does_not_check(to_the_end):
    lane, held, order = Lane(to_the_end=to_the_end), threading.Event(), []
    taking(lane, held, order, "a").cancel()
    assert lane.busy == to_the_end
    free = threading.Event()
    free.set()
    following = taking(lane, free, order, "b")
    assert following.wait(0.3) != to_the_end
    held.set()
    assert following.result(PATIENCE_SECONDS) == "b"
