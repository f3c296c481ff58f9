"""One job at a time, outside the threads in which Streamlit runs its scripts."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar

from trim import TrimError
from trim.progress import Progress

R = TypeVar("R")


class Cancelled(Exception):  # noqa: N818, not an error: the user asked for it
    """Raised inside a job's work where it looks whether it is still wanted."""


class Job(Generic[R]):
    """A piece of work and how far it is, readable from any thread.

    Attributes:
        progress: what is being done now.
    """

    def __init__(self) -> None:
        self.progress = Progress("Waiting for the job before this one")
        self.future: Future[R] = Future()  # replaced by the future of the work
        self._wanted = True

    def report(self, progress: Progress) -> None:
        """Take note of what is being done; called from inside the work.

        Raises:
            Cancelled: nobody wants the result any more.
        """
        if not self._wanted:
            raise Cancelled
        self.progress = progress

    def cancel(self) -> None:
        """Stop at the next word of progress; a job that has not begun never does."""
        self._wanted = False
        self.future.cancel()

    @property
    def cancelled(self) -> bool:
        """Return whether it was cancelled, or is about to be."""
        return not self._wanted

    @property
    def done(self) -> bool:
        """Return whether there is a result or an error."""
        return self.future.done()

    @property
    def failed(self) -> bool:
        """Return whether it ended with an error."""
        return self.done and (self.future.cancelled() or self.future.exception() is not None)

    def wait(self, timeout_seconds: float) -> bool:
        """Wait for the end of the job, but no longer than this; whether it has ended."""
        wait([self.future], timeout_seconds)
        return self.done

    def result(self, timeout_seconds: float | None = None) -> R:
        """Return the result; raise what the work raised, or TimeoutError."""
        return self.future.result(timeout_seconds)


class JobQueue:
    """Runs jobs one after the other and keeps the last `keep` finished ones under their keys."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="trim-job")
        self._jobs: OrderedDict[Hashable, Job] = OrderedDict()
        self._lock = threading.Lock()

    def job(self, key: Hashable, work: Callable[[Job[R]], R]) -> Job[R]:
        """Return the job of that key: the one in the queue, or a new one that will do `work`.

        A failed or cancelled job is shown to whoever asks until `forget` is called for its key.
        """
        with self._lock:
            job: Job[R] | None = self._jobs.get(key)
            if job is None:
                job = Job()
                job.future = self._worker.submit(_run, work, job)
                self._jobs[key] = job
            self._jobs.move_to_end(key)
            finished = [other for other, held in self._jobs.items() if held.done and other != key]
            for other in finished[: max(0, len(self._jobs) - self._keep)]:
                del self._jobs[other]
            return job

    def get(self, key: Hashable) -> Job | None:
        """Return the job of that key, if there is one."""
        with self._lock:
            if key in self._jobs:
                self._jobs.move_to_end(key)
            return self._jobs.get(key)

    def forget(self, key: Hashable) -> None:
        """Drop a job, so that the next request for its key does the work again."""
        with self._lock:
            self._jobs.pop(key, None)

    def unfinished(self) -> list[tuple[Hashable, Job]]:
        """Return the jobs that have neither ended nor been cancelled, with their keys, the oldest first."""
        with self._lock:
            return [(key, job) for key, job in self._jobs.items() if not job.done]

    def succeeded(self) -> list[tuple[Hashable, Job]]:
        """Return the kept jobs that have a result, with their keys, the one asked for last first."""
        with self._lock:
            return [(key, job) for key, job in reversed(self._jobs.items()) if job.done and not job.failed]


def _run(work: Callable[[Job[R]], R], job: Job[R]) -> R:
    try:
        return work(job)
    except TrimError:  # among them one for memory, whose own words say more
        raise
    except MemoryError:
        raise TrimError(
            "There is not enough memory for this. Choose a smaller model, fewer or shorter calibration windows, or "
            "close other programs, then try again."
        ) from None
