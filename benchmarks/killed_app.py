"""The app and its job, killed one by one or together."""

import contextlib
import os
import random
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import psutil

from app.services.jobs import manager, worker
from app.services.runs import files, importing
from app.services.runs.store import RunStore
from benchmarks.killed_work import PATIENCE_SECONDS, TEXT, BadEndError, Kind
from benchmarks.killing import arm, die, fork, wait_for_end


class ForkedPopen:
    """A worker of the app, forked instead of started as a new Python process."""

    def __init__(self, command: list[str], *, stdout: object, env: dict[str, str], **_: object) -> None:
        def work() -> int:
            os.environ.clear()
            os.environ.update(env)
            if WORKER.operation:
                arm(WORKER.folder, WORKER.operation, die)
            return worker.main(command[command.index("app.services.jobs.worker") + 1 :])

        self.pid = fork(work, Path(stdout.name))
        with _workers(WORKER.folder).open("a") as file:
            file.write(f"{self.pid}\n")

    def wait(self) -> int:
        """Wait for the end of the worker."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


WORKER = SimpleNamespace(folder=Path(), operation=0)  # in the app's process: when to kill its next worker


class App(Kind):
    """A job of the app with a measurement after it, and a run that is imported, renamed and deleted meanwhile."""

    def attempt(self, folder: Path, chance: random.Random, *, kill: bool) -> bool:
        """Start the app again; kill it, its job, or both."""
        what = chance.choice(["app", "job", "both"]) if kill else ""
        operation = chance.randrange(1, self.operations + 1) if chance.random() < 0.5 else 0
        seconds = (
            PATIENCE_SECONDS if not kill or operation or what == "job" else chance.uniform(0, self.seconds)
        )

        def work() -> int | None:
            WORKER.operation = operation if what == "job" else 0
            if what == "app" and operation:
                arm(folder, operation, die)
            if what == "both" and operation:
                arm(folder, operation, lambda: (kill_job(folder), die()))
            if what == "job" and not operation:
                WORKER.operation = chance.randrange(1, self.operations + 1)
            return self.begin(folder)

        log = folder.with_suffix(".log")
        code = wait_for_end(fork(work, log), seconds)
        if what == "both":
            kill_job(folder)
        jobs = manager.RunJobs(lambda: folder)
        deadline = time.monotonic() + PATIENCE_SECONDS
        # A job outlives the app, as it should; a job that the app was just starting when it was killed has no record.
        while jobs.running() is not None or any(map(_works, _started(folder))):
            if time.monotonic() > deadline:
                raise BadEndError("the job does not end")
            time.sleep(0.01)
        if code not in (0, 3, -signal.SIGKILL) or (code and not kill):
            raise BadEndError(f"ended with {code}: {log.read_text(errors='replace')[-1500:]}")
        return code != 0

    def begin(self, folder: Path) -> int:
        """List the runs, as every page does, and do the remaining work; return 3 if the job was killed."""
        WORKER.folder = folder
        manager.subprocess = SimpleNamespace(Popen=ForkedPopen, DEVNULL=-3, STDOUT=-2)
        manager.MIN_FREE_BYTES = importing.UNLOCKED_SECONDS = 0
        folder.mkdir(exist_ok=True)
        store, jobs = RunStore(lambda: folder, lambda: folder / "none"), manager.RunJobs(lambda: folder)
        for entry in store.runs():
            if entry.problem is not None:
                print(f"damaged: {entry.id}: {entry.problem}")
                return 1
        job = next((entry.id for entry in store.runs() if entry.id.startswith("job-")), None)
        if job is None:
            job = jobs.prune([str(self.root / "model"), "--target", "0.5", *TEXT], "job", (2, 16))
        elif jobs.end(job)[0] != 0:
            jobs.resume(job)
        with (self.root / "run.zip").open("rb") as archive:
            path = importing.import_run(archive, folder, lambda run_id: (folder / run_id).exists(), "run.zip")
        files.rename(store.find(path.name), "Another name", "a note")
        for entry in store.runs():
            if entry.id != job:
                files.delete(entry)
        while jobs.running() is not None:
            time.sleep(0.01)
        code, message = jobs.end(job)
        if code != 0:
            print(f"the job ended with {code}: {message}")
        return 0 if code == 0 else 3


def _workers(folder: Path) -> Path:
    return folder.with_suffix(".workers")


def _started(folder: Path) -> list[int]:
    """Return the processes of the jobs that were started in a folder."""
    file = _workers(folder)
    return [int(pid) for pid in file.read_text().split()] if file.exists() else []


def _works(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill_job(folder: Path) -> None:
    """Kill the worker that runs."""
    if (running := manager.RunJobs(lambda: folder).running()) is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(running.pid, signal.SIGKILL)
