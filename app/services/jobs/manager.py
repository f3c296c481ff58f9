"""Jobs in subprocesses, one at a time for the server: start, watch, cancel and resume them.

A job prunes a whole model, recovers a pruned one, measures a run or continues a prompt.

Its state is on disk (`records`); the progress of a run or recovery is in that one's folder.
"""

import contextlib
import datetime
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import psutil

from app.services.jobs.progress import RunProgress, read_progress
from app.services.jobs.records import JobFolder, JobRecord, JobState
from app.services.server.access import SEMINAR, VARIABLES
from app.services.server.lane import Lane, Waiting
from trim.errors import RunError, RunLockedError, TrimError
from trim.files import FolderLock, is_locked
from trim.names import format_bytes
from trim.progress import Progress
from trim.runs.fields import parse_json
from trim.runs.folder import Run
from trim.runs.listing import new_run_path, runs_folder
from trim.runs.recovery import Recovery, open_stored

ROOT = Path(__file__).resolve().parents[3]
MIN_FREE_BYTES = 200_000_000
POLL_SECONDS = 0.2


class JobError(TrimError):
    """Raised when a job cannot be started, stopped or found; the message says why and what to do."""


class RunJobs(JobFolder):
    """The jobs of one folder of runs."""

    def __init__(self, folder: Callable[[], Path] = runs_folder) -> None:
        super().__init__(folder)
        self._preparing = Lane()  # in a seminar, layers are prepared one at a time

    # ------------------------------------------------------------------------------------ start and stop

    def prune(self, command: list[str], title: str, measure: tuple[int, int] | None = None) -> str:
        """Prune a model, and return the new run's id.

        Args:
            command: arguments of `python -m trim prune`, without --out.
            title: the run's name.
            measure: windows and tokens per window of the perplexity to measure afterwards; None: do not measure.

        Raises:
            JobError: another job runs, or the disk is full.
            PresenterNeededError: the caller is a reader of a seminar. All methods that change a job raise it.
        """
        SEMINAR.require("Pruning a model", command[0])
        with self._starting():
            path = new_run_path(self.folder(), title)
            after = [["measure", str(path), *map(str, measure)]] if measure else []
            arguments = ["prune", *command, "--out", str(path), f"--name={title}"]
            self._launch(path.name, "prune", title, [arguments], after)
        return path.name

    def recover(self, run: Run, minutes: float, evaluate: list[str] | None = None) -> str:
        """Train a pruned model for some minutes, and return the new recovery's id.

        Args:
            run: the run that pruned the model.
            minutes: the time of training.
            evaluate: options of `python -m trim evaluate` for a measurement afterwards; None: do not measure.

        Raises:
            JobError: another job runs, or the disk is full.
        """
        SEMINAR.require("Recovering a model", run.request.model)
        with self._starting():
            path = new_run_path(self.folder(), f"{run.name} recovered")
            title = f"{run.name}, recovered {minutes:g} min"
            arguments = ["recover", str(run.path.resolve()), "--minutes", f"{minutes:g}"]
            arguments += ["--out", str(path), f"--name={title}"]
            after = [["evaluate", str(path), *evaluate]] if evaluate else []
            self._launch(path.name, "recover", title, [arguments], after)
        return path.name

    def resume(self, run_id: str, *, repair: bool = False) -> None:
        """Resume a run or a recovery that was stopped.

        Raises:
            JobError: another job runs, or the disk is full.
            RunError: the run does not exist.
        """
        path = self.path(run_id)
        run = open_stored(path)
        model = run.record.parent if isinstance(run, Recovery) else run.request.model
        SEMINAR.require("Resuming a run", model)
        with self._starting():
            before = self.record(run_id)
            arguments = ["resume", str(path), *(["--repair"] if repair else [])]
            kind = "recover" if isinstance(run, Recovery) else "prune"
            self._launch(run_id, kind, run.name, [arguments], before.after if before else [])

    def run_command(
        self, job_id: str, title: str, command: list[str], what: str = "Continuing a prompt"
    ) -> None:
        """Run a command of `python -m trim` that writes no run; `printed` returns what it has printed.

        Args:
            job_id: the job's id.
            title: the job's title on pages.
            command: the command's arguments.
            what: the action, for a reader of a seminar who may not do it.

        Raises:
            JobError: another job runs, or the disk is full.
        """
        SEMINAR.require(what)
        with self._starting():
            self._launch(job_id, "write", title, [command], [])

    def cancel(self, job_id: str) -> None:
        """Ask a job to stop after its current step; a second call stops it at once.

        Finished blocks are kept. A job that has ended is not touched.
        """
        SEMINAR.require("Stopping a job")
        record = self.record(job_id)
        process = self._process(record)
        if record is None or process is None:
            return
        with contextlib.suppress(psutil.Error):  # each may end meanwhile, or be another user's
            children = process.children(recursive=True)
            for each in [*children, process]:
                with contextlib.suppress(psutil.Error):
                    each.kill() if record.cancelled else each.terminate()
        self.save(replace(record, cancelled=True))

    @contextlib.contextmanager
    def turn(self, job: Waiting) -> Iterator[None]:
        """Prepare a model or a layer: in a seminar one job at a time computes, whatever its kind."""
        while SEMINAR.on and (running := self.running()) is not None:
            job.report(Progress(f"Waiting for “{running.title}”, which is being computed"))
            time.sleep(POLL_SECONDS)
        with self._preparing.turn(job) if SEMINAR.on else contextlib.nullcontext():
            yield

    @contextlib.contextmanager
    def _starting(self) -> Iterator[None]:
        """Let one process at a time start a job, and only if none runs."""
        folder = self.folder() / ".jobs"
        deadline = time.monotonic() + 5
        while True:
            try:
                lock = FolderLock(folder)
                break
            except RunLockedError:
                if time.monotonic() > deadline:
                    raise JobError("Another run is being started at this moment; try again.") from None
                time.sleep(0.05)
        try:
            if (running := self.running()) is not None:
                raise JobError(
                    f"“{running.title}” is being computed, and one job at a time is. Wait until it is done, or "
                    "cancel it."
                )
            if self._preparing.busy:
                raise JobError(
                    "A layer is being prepared, and one job at a time is computed. Try again in a minute."
                )
            if (free := shutil.disk_usage(folder).free) < MIN_FREE_BYTES:
                raise JobError(
                    f"The disk of {self.folder()} is full: {format_bytes(free)} are free. Delete runs on "
                    "the Runs page, or empty the cache with: python -m trim cache --empty"
                )
            yield
        finally:
            lock.release()

    def _launch(
        self, job_id: str, kind: str, title: str, commands: list[list[str]], after: list[list[str]]
    ) -> None:
        end, log = self.file(job_id, "end"), self.file(job_id, "log")
        end.unlink(missing_ok=True)
        self.delete_old()
        # A recovery gets all cores: the faster it is, the more it trains in its time. The app has priority over both.
        threads = str(max(1, (os.cpu_count() or 2) - (kind != "recover")))
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
            "OMP_NUM_THREADS": threads,
            "MKL_NUM_THREADS": threads,
            "OMP_WAIT_POLICY": "PASSIVE",
            "PYTHONUNBUFFERED": "1",
        }
        for name in VARIABLES:  # a job does not need the presenter's code, and must not pass it on
            environment.pop(name, None)
        worker = [sys.executable, "-m", "app.services.jobs.worker", str(end), json.dumps([*commands, *after])]
        record = JobRecord(job_id, kind, title, after, 0, 0.0)
        self.save(
            record
        )  # before the process starts, so that the job can be resumed if the app is killed here
        try:
            with log.open("wb") as output:
                process = subprocess.Popen(
                    worker,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise JobError(f"The run cannot be started ({error.strerror or error}).") from error
        # Without a wait, the ended child would stay a zombie.
        threading.Thread(target=process.wait, daemon=True).start()
        with contextlib.suppress(
            psutil.NoSuchProcess
        ):  # a job that has ended already needs no process in its record
            started = psutil.Process(process.pid).create_time()
            self.save(replace(record, pid=process.pid, process_started=started))

    # -------------------------------------------------------------------------------------------- watch

    def running(self) -> JobRecord | None:
        """Return the job that runs now, from any session."""
        for file in self.job_files():
            job_id = file.name.removesuffix(".job")
            record = self.record(job_id)
            if record is not None and self._process(record) is not None:
                return record
        return None

    def state(self, job_id: str, run: Run | Recovery | None = None) -> JobState:
        """Return the state of a run or a recovery; if it was never begun, "failed" with the reason.

        Args:
            job_id: the id of the run or recovery.
            run: the run or recovery if it is open already; it may lie in another folder.
        """
        path = self.path(job_id) if run is None else run.path
        record = self.record(job_id)
        process = self._process(record)
        run = run or _opened(path)
        progress = None
        if run is not None and (not run.complete or process is not None):
            progress = read_progress(run.events(latest_first=True), datetime.datetime.now(datetime.UTC))
        if record is not None and process is not None:
            return _running(record, process, progress)
        code, message = self.end(job_id)
        if run is not None and run.complete:
            return JobState("complete", message=message if code else "")
        if run is not None and progress is not None and not progress.ended and is_locked(path):
            return JobState("running", progress=progress)
        if code in (1, 2):
            return JobState("failed" if run is None else "stopped", message=message, progress=progress)
        if record is not None and record.cancelled:
            message = "It was cancelled." if run is not None else "It was cancelled before it wrote anything."
        elif run is not None:
            message = "Its process was ended from outside, or the machine was."
        else:
            message = f"It ended before it wrote anything. {self.log_hint(job_id)}"
        return JobState("failed" if run is None else "stopped", message=message, progress=progress)

    def printed(self, job_id: str) -> Iterator[dict]:
        """Yield the JSON objects that a job has printed so far."""
        for line in self.output(job_id).splitlines():
            with contextlib.suppress(ValueError):  # an incomplete line, or text for people
                if isinstance(content := parse_json(line), dict):
                    yield content

    def command_state(self, job_id: str, progress: RunProgress | None = None) -> JobState:
        """Return the state of a job that writes no run: "running", "stopping", "complete" or "failed".

        Args:
            job_id: the job's id.
            progress: the job's progress, for the state.
        """
        record = self.record(job_id)
        process = self._process(record)
        if record is not None and process is not None:
            return _running(record, process, progress)
        code, message = self.end(job_id)
        if code == 0:
            return JobState("complete", progress=progress)
        return JobState("failed", message=message or "It was stopped before it was done.", progress=progress)

    def _process(self, record: JobRecord | None) -> psutil.Process | None:
        """Return the job's process if it is alive; another process with the same id does not count."""
        if record is None or record.pid == 0:
            return None
        try:
            process = psutil.Process(record.pid)
            same = abs(process.create_time() - record.process_started) < 0.05
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


def _running(record: JobRecord, process: psutil.Process, progress: RunProgress | None) -> JobState:
    status = "stopping" if record.cancelled else "running"
    return JobState(status, True, "", progress, _memory_bytes(process))


def _opened(path: Path) -> Run | Recovery | None:
    try:
        return open_stored(path)
    except RunError:
        return None


def _memory_bytes(process: psutil.Process) -> int | None:
    with contextlib.suppress(psutil.Error):
        resident: int = process.memory_info().rss
        return resident
    return None


JOBS = RunJobs()
