"""The records of jobs, on disk in `.jobs` in the folder of the runs.

ID.job holds the id of its process, ID.end how it ended, ID.log what it printed. So a job outlives the page and the
app, and a killed job is recognised.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, TypedDict

from app.services.jobs.progress import RunProgress
from trim.errors import RunError
from trim.files import remove_temporary
from trim.runs.fields import Limits
from trim.runs.json_files import read_json, write_json
from trim.runs.listing import is_run_id
from trim.runs.writer import remove_unstarted

MAX_JOBS = 50
_MAX_MESSAGE_CHARACTERS = 2000


@dataclass(frozen=True)
class JobRecord:
    """A job as it is stored.

    Attributes:
        id: the run's id, which is also the name of the run's folder.
        kind: "prune", "recover", or "write" for a job that continues a prompt or measures a run; the id of a "write"
            job is not a run's.
        title: the job's title on pages.
        after: argument lists of `python -m trim` after the pruning, which a resumed run executes too.
        pid, process_started: the subprocess's id and start time, which identify it; 0 until it is started.
        cancelled: whether it was asked to stop.
    """

    id: str
    kind: str
    title: str
    after: list[list[str]]
    pid: Annotated[int, Limits(0, 2**31 - 1)]
    process_started: float
    cancelled: bool = False


@dataclass(frozen=True)
class JobState:
    """A run as pages show it.

    Attributes:
        status: "running", "stopping", "complete", "stopped" (can be resumed) or "failed" (cannot).
        ours: whether this app started it and can cancel it.
        message: why it stopped or failed; "" if there is nothing to report.
        progress: the run's progress; None before its first report.
        memory_bytes: memory of its process; None if it does not run.
    """

    status: str
    ours: bool = False
    message: str = ""
    progress: RunProgress | None = None
    memory_bytes: int | None = None

    @property
    def active(self) -> bool:
        """Return whether a process works on the run."""
        return self.status in ("running", "stopping")


class _End(TypedDict):
    """How a job ended."""

    code: int


def job_key(prefix: str, question: Sequence[object]) -> str:
    """Return the id of a job that writes no run; the same question gives the same id."""
    return f"{prefix}-" + hashlib.sha256(json.dumps(question).encode()).hexdigest()[:24]


class JobFolder:
    """The jobs whose records lie in the folder of their runs."""

    def __init__(self, runs: Callable[[], Path]) -> None:
        self._runs = runs

    def folder(self) -> Path:
        """Return the folder of the runs."""
        return self._runs().resolve()

    def path(self, job_id: str) -> Path:
        """Return a run's folder, whether or not it exists.

        Raises:
            RunError: the id is not a valid name; ids come from addresses.
        """
        if not is_run_id(job_id):
            raise RunError(f"There is no run {job_id[:60]!r}. Choose one on the Runs page.")
        return self.folder() / job_id

    def file(self, job_id: str, ending: str) -> Path:
        """Return the path of a job's "job", "end" or "log"."""
        return self.path(job_id).parent / ".jobs" / f"{job_id}.{ending}"

    def job_files(self) -> list[Path]:
        """Return the files of all jobs' records."""
        return list((self.folder() / ".jobs").glob("*.job"))

    def record(self, job_id: str) -> JobRecord | None:
        """Return the job of that id, if one was ever started."""
        try:
            return read_json(self.file(job_id, "job"), JobRecord)
        except RunError:
            return None

    def save(self, record: JobRecord) -> None:
        """Store a job's record."""
        write_json(self.file(record.id, "job"), asdict(record))

    def end(self, job_id: str) -> tuple[int | None, str]:
        """Return the exit code of the job, None if it was not written, and its last message."""
        try:
            code = read_json(self.file(job_id, "end"), _End)["code"]
        except RunError:
            return None, ""
        if code not in (1, 2):
            return code, ""
        printed = self.output(job_id)
        _, found, message = (
            printed.rpartition("\ntrim: ") if "\ntrim: " in printed else printed.rpartition("trim: ")
        )
        if not found:
            _, found, message = printed.rpartition("error: ")
        message = message.strip() if found else ""
        return code, (message or f"It ended with an error. {self.log_hint(job_id)}")[:_MAX_MESSAGE_CHARACTERS]

    def log_hint(self, job_id: str) -> str:
        """Return a sentence that points to the job's log."""
        return f"What it printed is in {self.file(job_id, 'log')}."

    def delete_old(self) -> None:
        """Delete the records of jobs that ended long ago, and the folders of those killed before their run began."""
        remove_temporary(self.folder() / ".jobs")
        for file in self.job_files():
            remove_unstarted(self.path(file.name.removesuffix(".job")))
        jobs = sorted(self.job_files(), key=lambda file: file.stat().st_mtime, reverse=True)
        for file in jobs[MAX_JOBS:]:
            for ending in ("job", "end", "log"):
                file.with_name(f"{file.name.removesuffix('.job')}.{ending}").unlink(missing_ok=True)

    def output(self, job_id: str) -> str:
        """Return the output of a job so far."""
        try:
            return self.file(job_id, "log").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
