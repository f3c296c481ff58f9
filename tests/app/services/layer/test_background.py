"""Jobs: one at a time, shared by key, cancelled when nobody wants them, and few of them kept."""

import threading
from collections.abc import Callable
from concurrent.futures import CancelledError

import pytest

from app.services.layer.background import Cancelled, Job, JobDesk
from trim import TrimError
from trim.errors import NotEnoughMemoryError

PATIENCE_SECONDS = 20


@pytest.fixture
def desk() -> JobDesk:
    return JobDesk(keep=3)


class Gate:
    """Work that tells when it has begun and goes on when it is let."""

    def __init__(self) -> None:
        self.begun, self.open = threading.Event(), threading.Event()

    def __call__(self, job: Job) -> str:
        self.begun.set()
        assert self.open.wait(PATIENCE_SECONDS)
        job.say("Through the gate", 0.5)
        return "through"


def begun(desk: JobDesk, key: str, gate: Gate) -> Job:
    job = desk.job(key, gate)
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


def test_result_and_progress(desk):
    gate = Gate()
    job = begun(desk, "a", gate)
    assert not job.done
    assert not job.failed
    assert not job.wait(timeout_seconds=0.01)
    with pytest.raises(TimeoutError):
        job.result(timeout_seconds=0.01)
    gate.open.set()
    assert job.wait(PATIENCE_SECONDS)
    assert job.result(PATIENCE_SECONDS) == "through"
    assert (job.words, job.fraction) == ("Through the gate", 0.5)
    assert job.done
    assert not job.failed
    assert not job.cancelled


def test_one_at_a_time_and_in_order(desk):
    gate, order, working = Gate(), [], []

    def work(name: str) -> Callable[[Job], str]:
        def body(job: Job) -> str:
            working.append(name)
            assert working == [name]
            order.append(name)
            working.remove(name)
            return name

        return body

    first = begun(desk, "gate", gate)
    jobs = [desk.job(name, work(name)) for name in "abc"]
    assert not any(job.done for job in jobs)
    assert jobs[0].words == "Waiting for the job before this one"
    assert len(desk.unfinished()) == 4
    gate.open.set()
    assert [job.result(PATIENCE_SECONDS) for job in jobs] == list("abc")
    assert order == list("abc")
    assert first.done
    assert not desk.unfinished()


def test_equal_keys_share_one_job(desk):
    calls = []
    first = desk.job(("layer", 3), calls.append)
    assert ended(first) is None
    assert desk.job(("layer", 3), calls.append) is first
    assert desk.job(("layer", 4), lambda job: None) is not first
    assert calls == [first]


def test_known_asks_for_no_work(desk):
    assert desk.known("a") is None
    job = desk.job("a", lambda job: 1)
    assert desk.known("a") is job


def test_failure_is_kept_until_forgotten(desk):
    job = desk.job("a", failing(TrimError("no such model")))
    assert isinstance(ended(job), TrimError)
    assert job.failed
    assert desk.job("a", lambda job: "better") is job
    desk.forget("a")
    assert desk.job("a", lambda job: "better").result(PATIENCE_SECONDS) == "better"
    desk.forget("never heard of")


def test_a_job_after_a_failed_one_runs(desk):
    ended(desk.job("a", failing(ValueError())))
    assert desk.job("b", lambda job: "fine").result(PATIENCE_SECONDS) == "fine"


def test_cancelled_before_it_began(desk):
    gate, ran = Gate(), []
    begun(desk, "gate", gate)
    job = desk.job("a", ran.append)
    job.cancel()
    gate.open.set()
    assert isinstance(ended(job), CancelledError)
    assert job.done
    assert job.failed
    assert job.cancelled
    assert ended(desk.job("last", lambda job: None)) is None
    assert ran == []


def test_cancelled_while_it_runs(desk):
    gate = Gate()
    job = begun(desk, "a", gate)
    job.cancel()
    assert not job.done
    gate.open.set()
    assert isinstance(ended(job), Cancelled)
    assert job.failed
    assert job.words != "Through the gate"


def test_cancelling_a_finished_job_keeps_its_result(desk):
    job = desk.job("a", lambda job: 7)
    assert ended(job) is None
    job.cancel()
    assert job.result() == 7
    assert not job.failed


def test_a_cancelled_job_is_shown_until_it_is_forgotten(desk):
    gate = Gate()
    job = begun(desk, "a", gate)
    job.cancel()
    assert desk.job("a", lambda job: "again") is job
    gate.open.set()
    ended(job)
    assert desk.job("a", lambda job: "again") is job
    desk.forget("a")
    assert desk.job("a", lambda job: "again").result(PATIENCE_SECONDS) == "again"


def test_few_are_kept_and_the_last_used_stay(desk):
    jobs = {}
    for name in "abc":
        jobs[name] = desk.job(name, lambda job, name=name: name)
        ended(jobs[name])
    assert desk.job("a", lambda job: "anew") is jobs["a"]
    ended(desk.job("d", lambda job: "d"))
    assert desk.known("b") is None
    assert [desk.known(name) for name in "ac"] == [jobs["a"], jobs["c"]]


def test_unfinished_jobs_are_never_dropped():
    desk, gate = JobDesk(keep=1), Gate()
    first = begun(desk, "gate", gate)
    jobs = [desk.job(name, lambda job: None) for name in "abc"]
    assert desk.known("gate") is first
    assert [desk.known(name) for name in "abc"] == jobs
    gate.open.set()
    for job in jobs:
        ended(job)
    last = desk.job("d", lambda job: None)
    ended(last)
    assert [desk.known(name) for name in ("gate", *"abc")] == [None] * 4
    assert desk.known("d") is last


def test_many_threads_share_one_piece_of_work(desk):
    calls, answers, together = [], [], threading.Barrier(8)

    def ask() -> None:
        together.wait(PATIENCE_SECONDS)
        for key in range(20):
            job = desk.job(key % 3, lambda job, key=key: calls.append(key % 3) or key % 3)
            answers.append(job.result(PATIENCE_SECONDS) == key % 3)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * 160
    assert sorted(calls) == [0, 1, 2]


def test_no_memory_is_told_in_words(desk):
    error = ended(desk.job("a", failing(MemoryError())))
    assert isinstance(error, TrimError)
    assert "not enough memory" in str(error)


def test_the_librarys_own_words_about_memory_are_kept(desk):
    error = ended(desk.job("a", failing(NotEnoughMemoryError("choose dtype bfloat16"))))
    assert str(error) == "choose dtype bfloat16"
