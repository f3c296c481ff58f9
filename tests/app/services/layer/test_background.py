"""Jobs: one at a time, shared by key, cancelled when nobody wants them, and few of them kept."""

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError

import pytest

from app.services.layer.background import Cancelled, Job, JobQueue
from trim import TrimError
from trim.errors import NotEnoughMemoryError
from trim.progress import Progress

PATIENCE_SECONDS = 20


@pytest.fixture
def queue() -> JobQueue:
    return JobQueue(keep=3)


class Gate:
    """Work that tells when it has begun and goes on when it is let."""

    def __init__(self) -> None:
        self.begun, self.open = threading.Event(), threading.Event()

    def __call__(self, job: Job) -> str:
        self.begun.set()
        assert self.open.wait(PATIENCE_SECONDS)
        job.report(Progress("Through the gate", 1, 2))
        return "through"


def begun(queue: JobQueue, key: str, gate: Gate) -> Job:
    job = queue.job(key, gate)
    assert gate.begun.wait(PATIENCE_SECONDS)
    return job


def ended(job: Job) -> BaseException | None:
    """Wait for the end of a job; what it raised."""
    try:
        job.result(PATIENCE_SECONDS)
    except (Exception, CancelledError) as error:
        return error
    return None


def failing(error: Exception) -> Callable[[Job], object]:
    def work(job: Job) -> object:
        raise error

    return work


def test_result_and_progress(queue):
    gate = Gate()
    job = begun(queue, "a", gate)
    assert not job.done
    assert not job.failed
    assert not job.wait(timeout_seconds=0.01)
    with pytest.raises(TimeoutError):
        job.result(timeout_seconds=0.01)
    gate.open.set()
    assert job.wait(PATIENCE_SECONDS)
    assert job.result(PATIENCE_SECONDS) == "through"
    assert job.progress == Progress("Through the gate", 1, 2)
    assert job.done
    assert not job.failed
    assert not job.cancelled


def test_one_at_a_time_and_in_order(queue):
    gate, order, working = Gate(), [], []

    def work(name: str) -> Callable[[Job], str]:
        def body(job: Job) -> str:
            working.append(name)
            assert working == [name]
            order.append(name)
            working.remove(name)
            return name

        return body

    first = begun(queue, "gate", gate)
    jobs = [queue.job(name, work(name)) for name in "abc"]
    assert not any(job.done for job in jobs)
    assert jobs[0].progress.what == "Waiting for the job before this one"
    assert len(queue.unfinished()) == 4
    gate.open.set()
    assert [job.result(PATIENCE_SECONDS) for job in jobs] == list("abc")
    assert order == list("abc")
    assert first.done
    assert not queue.unfinished()


def test_equal_keys_share_one_job(queue):
    calls = []
    first = queue.job(("layer", 3), calls.append)
    assert ended(first) is None
    assert queue.job(("layer", 3), calls.append) is first
    assert queue.job(("layer", 4), lambda job: None) is not first
    assert calls == [first]


def test_get_starts_no_work(queue):
    assert queue.get("a") is None
    job = queue.job("a", lambda job: 1)
    assert queue.get("a") is job


def test_failure_is_kept_until_forgotten(queue):
    job = queue.job("a", failing(TrimError("no such model")))
    assert isinstance(ended(job), TrimError)
    assert job.failed
    assert queue.job("a", lambda job: "better") is job
    queue.forget("a")
    assert queue.job("a", lambda job: "better").result(PATIENCE_SECONDS) == "better"
    queue.forget("never heard of")


def test_a_job_after_a_failed_one_runs(queue):
    ended(queue.job("a", failing(ValueError())))
    assert queue.job("b", lambda job: "fine").result(PATIENCE_SECONDS) == "fine"


def test_cancelled_before_it_began(queue):
    gate, ran = Gate(), []
    begun(queue, "gate", gate)
    job = queue.job("a", ran.append)
    job.cancel()
    gate.open.set()
    assert isinstance(ended(job), CancelledError)
    assert job.done
    assert job.failed
    assert job.cancelled
    assert ended(queue.job("last", lambda job: None)) is None
    assert ran == []


def test_cancelled_while_it_runs(queue):
    gate = Gate()
    job = begun(queue, "a", gate)
    job.cancel()
    assert not job.done
    gate.open.set()
    assert isinstance(ended(job), Cancelled)
    assert job.failed
    assert job.progress.what != "Through the gate"


def test_cancelling_a_finished_job_keeps_its_result(queue):
    job = queue.job("a", lambda job: 7)
    assert ended(job) is None
    job.cancel()
    assert job.result() == 7
    assert not job.failed


def test_a_cancelled_job_is_shown_until_it_is_forgotten(queue):
    gate = Gate()
    job = begun(queue, "a", gate)
    job.cancel()
    assert queue.job("a", lambda job: "again") is job
    gate.open.set()
    ended(job)
    assert queue.job("a", lambda job: "again") is job
    queue.forget("a")
    assert queue.job("a", lambda job: "again").result(PATIENCE_SECONDS) == "again"


def test_few_are_kept_and_the_last_used_stay(queue):
    jobs = {}
    for name in "abc":
        jobs[name] = queue.job(name, lambda job, name=name: name)
        ended(jobs[name])
    assert queue.job("a", lambda job: "anew") is jobs["a"]
    ended(queue.job("d", lambda job: "d"))
    assert queue.get("b") is None
    assert [queue.get(name) for name in "ac"] == [jobs["a"], jobs["c"]]


def test_unfinished_jobs_are_never_dropped():
    queue, gate = JobQueue(keep=1), Gate()
    first = begun(queue, "gate", gate)
    jobs = [queue.job(name, lambda job: None) for name in "abc"]
    assert queue.get("gate") is first
    assert [queue.get(name) for name in "abc"] == jobs
    gate.open.set()
    for job in jobs:
        ended(job)
    last = queue.job("d", lambda job: None)
    ended(last)
    assert [queue.get(name) for name in ("gate", *"abc")] == [None] * 4
    assert queue.get("d") is last


def test_many_threads_share_one_piece_of_work(queue):
    calls, answers, together = [], [], threading.Barrier(8)

    def ask() -> None:
        together.wait(PATIENCE_SECONDS)
        for key in range(20):
            job = queue.job(key % 3, lambda job, key=key: calls.append(key % 3) or key % 3)
            answers.append(job.result(PATIENCE_SECONDS) == key % 3)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 160
    assert sorted(calls) == [0, 1, 2]


def test_no_memory_is_a_clear_error(queue):
    error = ended(queue.job("a", failing(MemoryError())))
    assert isinstance(error, TrimError)
    assert "not enough memory" in str(error)


def test_the_librarys_own_message_about_memory_is_kept(queue):
    error = ended(queue.job("a", failing(NotEnoughMemoryError("choose dtype bfloat16"))))
    assert str(error) == "choose dtype bfloat16"
