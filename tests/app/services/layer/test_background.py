"""Jobs: one at a time, shared by key, cancelled when nobody wants them, and few of them kept."""

import threading
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import pytest

from app.services.layer.background import Cancelled, Job, JobTable
from trim import TrimError
from trim.errors import NotEnoughMemoryError
from trim.progress import Progress

PATIENCE_SECONDS = 20


@pytest.fixture
def table() -> JobTable:
    return JobTable(3)


class Gate:
    """Work that tells when it has begun and goes on when it is let."""

    def __init__(self) -> None:
        self.begun, self.open = threading.Event(), threading.Event()

    def __call__(self, job: Job) -> str:
        self.begun.set()
        assert self.open.wait(PATIENCE_SECONDS)
        job.report(Progress("Through the gate", 1, 2))
        return "through"


def begun(table: JobTable, key: str, gate: Gate) -> Job:
    job = table.job(key, gate)
    assert gate.begun.wait(PATIENCE_SECONDS)
    return job


def ended(job: Job) -> BaseException | None:
    """Wait for the end of a job; what it raised."""
    try:
        job.result(PATIENCE_SECONDS)
    except Exception as error:
        return error
    return None


def test_result_and_progress(table):
    gate = Gate()
    job = begun(table, "a", gate)
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


def test_equal_keys_share_one_job(table):
    calls = []
    first = table.job(("layer", 3), calls.append)
    assert ended(first) is None
    assert table.job(("layer", 3), calls.append) is first
    assert table.job(("layer", 4), lambda job: None) is not first
    assert calls == [first]


def test_get_starts_no_work(table):
    assert table.get("a") is None
    job = table.job("a", lambda job: 1)
    assert table.get("a") is job


def test_failure_is_kept_until_forgotten(table):
    job = table.job("a", Mock(side_effect=TrimError("no such model")))
    assert isinstance(ended(job), TrimError)
    assert job.failed
    assert table.job("a", lambda job: "better") is job
    table.forget("a")
    assert table.job("a", lambda job: "better").result(PATIENCE_SECONDS) == "better"
    table.forget("never heard of")


def test_a_job_cancelled_while_it_does_not_check(table):
    gate = Gate()
    job = begun(table, "a", gate)
    job.preview = "something"
    job.cancel()
    assert isinstance(ended(job), Cancelled)
    assert (job.done, job.failed, job.cancelled, job.preview) == (True, True, True, None)
    assert table.job("a", lambda job: "again") is job, "it is shown until it is forgotten"
    table.forget("a")
    assert table.job("a", lambda job: "again").result(PATIENCE_SECONDS) == "again"
    gate.open.set()
    while any(each.name == "trim-job" for each in threading.enumerate()):
        pass
    assert isinstance(ended(job), Cancelled), "the abandoned result is dropped"
    assert job.progress.what == "Starting"


def test_a_job_cancelled_where_it_checks(table):
    ends = []

    def work(job: Job) -> None:
        try:
            while True:
                job.report(Progress("still"))
        except Cancelled:
            ends.append("looked up")
            raise

    job = table.job("a", work)
    job.cancel()
    assert isinstance(ended(job), Cancelled)
    while any(each.name == "trim-job" for each in threading.enumerate()):
        pass
    assert ends in ([], ["looked up"])  # it may have been cancelled before it began


def test_cancelling_a_finished_job_keeps_its_result(table):
    job = table.job("a", lambda job: 7)
    assert ended(job) is None
    job.cancel()
    assert job.result() == 7
    assert not job.failed


def test_results_are_kept_by_their_size_and_the_last_used_stay():
    table = JobTable(10, len)
    jobs = {}
    for name, size in (("a", 4), ("b", 4), ("c", 2)):
        jobs[name] = table.job(name, lambda job, size=size: "x" * size)
        ended(jobs[name])
    assert table.job("a", lambda job: "anew") is jobs["a"]
    ended(table.job("d", lambda job: "xxx"))
    assert table.job("d", lambda job: "") is not None
    assert table.get("b") is None
    assert [table.get(name) for name in "ac"] == [jobs["a"], jobs["c"]]
    large = table.job("e", lambda job: "x" * 99)
    ended(large)
    assert table.job("e", lambda job: "") is large
    assert [table.get(name) for name in "acd"] == [None] * 3


def test_unfinished_jobs_are_never_dropped():
    table, gate = JobTable(1), Gate()
    first = begun(table, "gate", gate)
    for name in "abc":
        ended(table.job(name, lambda job: None))
    table.drop_results()
    assert table.get("gate") is first
    assert [table.get(name) is None for name in "abc"] == [True, True, True]
    gate.open.set()
    assert ended(first) is None


def test_many_threads_share_one_piece_of_work(table):
    calls, together = [], threading.Barrier(8)

    def ask(_: int) -> list[int]:
        together.wait(PATIENCE_SECONDS)
        jobs = [table.job(key, lambda job, key=key: calls.append(key) or key) for key in (0, 1, 2) * 7]
        return [job.result(PATIENCE_SECONDS) for job in jobs]

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [[0, 1, 2] * 7] * 8
    assert sorted(calls) == [0, 1, 2]


def test_no_memory_is_a_clear_error(table):
    error = ended(table.job("a", Mock(side_effect=MemoryError())))
    assert isinstance(error, TrimError)
    assert "not enough memory" in str(error)


def test_the_librarys_own_message_about_memory_is_kept(table):
    error = ended(table.job("a", Mock(side_effect=NotEnoughMemoryError("choose dtype bfloat16"))))
    assert str(error) == "choose dtype bfloat16"
