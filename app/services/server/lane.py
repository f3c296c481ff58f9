"""A queue for work that must run one piece at a time, in the order of the requests."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from trim.progress import Progress

_POLL_SECONDS = 0.2


class Waiting(Protocol):
    """A job, or anything else, that waits for its turn."""

    @property
    def cancelled(self) -> bool:
        """Return whether the job was cancelled."""

    def report(self, progress: Progress) -> None:
        """Store the progress; raise if the job was cancelled."""


class Lane:
    """Lets one thread at a time do its work. A waiting thread says so, and can be cancelled while it waits."""

    def __init__(self, *, to_the_end: bool = False) -> None:
        """Make an empty queue; with `to_the_end`, cancelled work keeps its turn until its thread ends."""
        self._to_the_end = to_the_end
        self._tickets: list[Waiting] = []
        self._changed = threading.Condition()

    @contextmanager
    def turn(self, job: Waiting) -> Iterator[None]:
        """Wait for the turn of a job, and hold it until the end of the block."""
        with self._changed:
            self._tickets.append(job)
        try:
            while not self._is_next(job):
                job.report(Progress("Waiting for the work before this"))
                with self._changed:
                    self._changed.wait_for(lambda: self._is_next(job), _POLL_SECONDS)
            job.report(Progress("Starting"))  # it may have been cancelled while it waited
            yield
        finally:
            with self._changed:
                self._tickets.remove(job)
                self._changed.notify_all()

    @property
    def busy(self) -> bool:
        """Return whether a thread holds the turn or waits for it."""
        return any(self._counts(ticket) for ticket in list(self._tickets))

    def _is_next(self, job: Waiting) -> bool:
        return next(filter(self._counts, list(self._tickets)), job) is job

    def _counts(self, ticket: Waiting) -> bool:
        return self._to_the_end or not ticket.cancelled
