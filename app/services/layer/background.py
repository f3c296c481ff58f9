"""Jobs outside the threads in which Streamlit runs its scripts, shared by all sessions under their keys."""

import atexit
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar, cast

from trim import TrimError
from trim.progress import Progress

R = TypeVar("R")

MAX_ENDED = 64  # jobs that have ended, failed ones too
_NO_MEMORY = (
    "There is not enough memory for this. Choose a smaller model, fewer or shorter calibration windows, or close other "
    "programs, then try again."
)


class Cancelled(Exception):  # noqa: N818, not an error: the user requested it
    """Raised by the result of a cancelled job, and inside its work at the next report."""


class Job(Generic[R]):
    """A piece of work and how far it is, readable from any thread.

    Attributes:
        progress: what is being done now.
        preview: a preliminary result; None until there is one.
    """

    def __init__(self) -> None:
        self.progress = Progress("Starting")
        self.preview: R | None = None
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._result: R | None = None
        self._error: BaseException | None = None

    def report(self, progress: Progress) -> None:
        """Store the progress; called from inside the work.

        Raises:
            Cancelled: the job was cancelled.
        """
        if self.cancelled:
            raise Cancelled
        self.progress = progress

    def cancel(self) -> None:
        """End the job at once for all who wait. Its thread ends at its next report; its result is dropped."""
        self._end(None, Cancelled())

    def start(self, work: "Callable[[Job[R]], R]") -> None:
        """Do the work in a thread of its own."""
        thread = threading.Thread(target=self._run, args=(work,), name="trim-job", daemon=True)
        _RUNNING[thread] = self
        thread.start()

    def _run(self, work: "Callable[[Job[R]], R]") -> None:
        try:
            if not self.cancelled:
                self._end(work(self), None)
        except MemoryError as error:
            self._end(None, error if isinstance(error, TrimError) else TrimError(_NO_MEMORY))
        except BaseException as error:
            self._end(None, error)
        finally:
            _RUNNING.pop(threading.current_thread(), None)

    def _end(self, result: R | None, error: BaseException | None) -> None:
        """End the job, unless it has already ended."""
        with self._lock:
            if not self.done:
                self._result, self._error, self.preview = result, error, None
                self._ended.set()

    @property
    def cancelled(self) -> bool:
        """Return whether the job was cancelled."""
        return isinstance(self._error, Cancelled)

    @property
    def done(self) -> bool:
        """Return whether the job has a result or an error."""
        return self._ended.is_set()

    @property
    def failed(self) -> bool:
        """Return whether the job ended with an error or was cancelled."""
        return self._error is not None

    def wait(self, timeout_seconds: float) -> bool:
        """Wait for the end of the job, but not longer than the timeout; return whether it has ended."""
        return self._ended.wait(timeout_seconds)

    def result(self, timeout_seconds: float | None = None) -> R:
        """Return the result.

        Raises:
            Cancelled: the job was cancelled.
            TimeoutError: the job has not ended.
            Exception: what the work raised.
        """
        if not self._ended.wait(timeout_seconds):
            raise TimeoutError
        if self._error is not None:
            raise self._error
        return cast(R, self._result)  # None only where the work returns it


# Threads that work, also those of cancelled jobs. At the end of the program each gets a moment to notice that its job
# is cancelled: a thread still within torch would end the process with an error message.
_RUNNING: dict[threading.Thread, Job] = {}
_LAST_SECONDS = 2.0


@atexit.register
def _end_all() -> None:
    for thread, job in list(_RUNNING.items()):
        job.cancel()
        thread.join(_LAST_SECONDS)


class JobTable(Generic[R]):
    """Jobs of one kind by key, each in its own thread. The results used last are cached.

    It belongs to the process, not to a session or to Streamlit's caches, which any session can empty.
    """

    def __init__(self, capacity: int, size: Callable[[R], int] = lambda result: 1) -> None:
        """Begin without jobs.

        Args:
            capacity: total size of the cached results. The latest result is kept even if it is larger.
            size: returns the size of a result, such as its bytes.
        """
        self._capacity, self._size = capacity, size
        self._jobs: OrderedDict[Hashable, Job[R]] = OrderedDict()
        self._lock = threading.Lock()

    def job(self, key: Hashable, work: Callable[[Job[R]], R]) -> Job[R]:
        """Return the job of this key: the existing one, or a new one that does `work`.

        A failed or cancelled job is returned again until `forget` is called for its key.
        """
        with self._lock:
            job = self._jobs.get(key)
            if job is None:
                job = self._jobs[key] = Job()
                job.start(work)
            self._jobs.move_to_end(key)
            self._shrink()
            return job

    def get(self, key: Hashable) -> Job[R] | None:
        """Return the job of this key, if there is one."""
        with self._lock:
            if key in self._jobs:
                self._jobs.move_to_end(key)
            return self._jobs.get(key)

    def forget(self, key: Hashable) -> None:
        """Drop a job, so that the next request for its key does the work again."""
        with self._lock:
            self._jobs.pop(key, None)

    def drop_results(self) -> None:
        """Drop every cached result."""
        with self._lock:
            for key in [key for key, job in self._jobs.items() if job.done and not job.failed]:
                del self._jobs[key]

    def unfinished(self) -> list[tuple[Hashable, Job[R]]]:
        """Return the jobs that run or wait, with their keys, the oldest first."""
        with self._lock:
            return [(key, job) for key, job in self._jobs.items() if not job.done]

    def succeeded(self) -> list[tuple[Hashable, Job[R]]]:
        """Return the cached jobs that have a result, with their keys, the last used first."""
        with self._lock:
            return [(key, job) for key, job in reversed(self._jobs.items()) if job.done and not job.failed]

    def _shrink(self) -> None:
        """Drop ended jobs beyond the capacity, the least recently used first; never the last used."""
        ended = [(key, job) for key, job in self._jobs.items() if job.done]
        sizes = {key: 0 if job.failed else self._size(job.result()) for key, job in ended}
        total, last = sum(sizes.values()), next(reversed(self._jobs), None)
        for key, size in sizes.items():
            if key != last and (total > self._capacity or len(self._jobs) > MAX_ENDED):
                total -= size
                del self._jobs[key]
