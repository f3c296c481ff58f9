"""Kill prunings, recoveries, sweeps and the app at random moments, and resume them: each ends as if never killed.

    python -m benchmarks.kills --kills 100 [--seed 0] [--kinds prune recover sweep app]

Half of the processes are killed (SIGKILL) just before one of their operations on files, the others after some time.
Killed work is resumed, and mostly killed again, up to three times; then it must succeed. Its folder must equal that of
the same work without kills: the same files with the same bytes, apart from times, no temporary file and no process. The
app does what its pages call: a job with a measurement, and a run that is imported, renamed and deleted meanwhile; the
app is killed, its job, or both.

All processes are forks of this one, which has pruned before. Prints a line for each failure, with the seed that repeats
it, and one JSON line last; exits with 1 if there was a failure.
"""

import collections
import contextlib
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import psutil

import tests.rehearsed  # noqa: F401, prunes, so that forks find that done
from app.services.jobs import manager, worker
from app.services.runs import files, importing
from app.services.runs.store import RunStore
from benchmarks.killing import arm, die, fork, wait_for_end
from benchmarks.script import print_report, script_parser
from tests.app.small_runs import make_run
from tests.trim import rough
from trim import cli
from trim.recovery import run as recovery_run

AGAIN = 0.6  # probability that resumed work is killed again
MAX_KILLS = 3  # kills of one folder
PATIENCE_SECONDS = 120
_TEMPORARY = re.compile(r"\.(.+-[0-9a-f]{12}|importing-.*|activations-.*)")
_JOB_ID = re.compile(r"job-\d{8}-\d{6}(-\d+)?")  # numbered if two are begun in one second
_TIMES = re.compile(r'"(created|time|seconds|load_seconds|training_seconds)": ("[^"]*"|[-+.e0-9]+)')


class BadEndError(Exception):
    """Raised when the work in a folder ends in a wrong state."""


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


class Kind:
    """Work in a folder that can be started, killed, resumed and compared."""

    def __init__(self, name: str, root: Path) -> None:
        self.name, self.root = name, root
        self.whole = root / f"{name}-whole"
        self.operations, self.seconds = 0, 0.0

    def begin(self, folder: Path) -> int | None:
        """Start the work, or resume it if it was started."""
        raise NotImplementedError

    def measure(self) -> None:
        """Do the work once undisturbed, and count its operations on files."""
        counted = self.root / "counted"

        def work() -> int | None:
            count = arm(self.whole, 0, die)
            code = self.begin(self.whole)
            counted.write_text(str(count[0]))
            return code

        started = time.monotonic()
        code = wait_for_end(fork(work, self.root / f"{self.name}.log"), PATIENCE_SECONDS)
        if code:
            raise RuntimeError(
                f"{self.name} does not end: {(self.root / f'{self.name}.log').read_text()[-2000:]}"
            )
        self.operations, self.seconds = int(counted.read_text()), time.monotonic() - started

    def attempt(self, folder: Path, chance: random.Random, *, kill: bool) -> bool:
        """Start or resume the work, and kill it; return whether it was killed.

        Raises:
            BadEndError: the work failed by itself.
        """
        operation = chance.randrange(1, self.operations + 1) if kill and chance.random() < 0.5 else 0
        seconds = chance.uniform(0, self.seconds) if kill and not operation else PATIENCE_SECONDS

        def work() -> int | None:
            if operation:
                arm(folder, operation, die)
            return self.begin(folder)

        log = folder.with_suffix(".log")
        code = wait_for_end(fork(work, log), seconds)
        if code not in (0, -signal.SIGKILL) or (code and not kill):
            raise BadEndError(f"ended with {code}: {log.read_text(errors='replace')[-1500:]}")
        return code != 0

    def differences(self, folder: Path) -> Iterator[str]:
        """List the differences from the folder of undisturbed work."""
        mine, theirs = contents(folder), contents(self.whole)
        for name in sorted(mine.keys() | theirs.keys()):
            if name not in theirs:
                yield f"{name} is left behind"
            elif name not in mine:
                yield f"{name} is missing"
            elif mine[name] != theirs[name]:
                lines = zip(mine[name].splitlines(), theirs[name].splitlines(), strict=False)
                where = next(
                    (f": {one[:60]!r}, not {other[:60]!r}" for one, other in lines if one != other), ""
                )
                yield f"{name} differs{where}"


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder, without times, its own path, and whatever depends on the number of restarts."""
    results = {}
    for path in folder.rglob("*"):
        name = _JOB_ID.sub("job", str(path.relative_to(folder)))
        if _TEMPORARY.fullmatch(path.name):
            results[name] = b""
        elif (
            path.is_file()
            and path.suffix not in (".jsonl", ".log", ".job", ".md", ".csv")
            and "lock" not in path.name
        ):
            content = path.read_bytes()
            if path.suffix == ".json":
                content = _TIMES.sub("", content.decode()).replace(str(folder), "").encode()
            results[name] = content
    return results


class Prune(Kind):
    """`trim prune` and `trim resume`."""

    def __init__(self, name: str, root: Path, *options: str) -> None:
        super().__init__(name, root)
        self.options = options

    def begin(self, folder: Path) -> int:
        """Prune, or resume."""
        if (folder / "config.json").exists():
            return cli.main(["resume", str(folder)])
        return cli.main(["prune", str(self.root / "model"), *self.options, *TEXT, "--out", str(folder)])


class Recover(Kind):
    """`trim recover` of one run, and `trim resume`."""

    def begin(self, folder: Path) -> int:
        """Recover, or resume."""
        recovery_run.SAVE_SECONDS = 0.0  # after each step
        if (folder / "recovery.json").exists():
            return cli.main(["resume", str(folder)])
        run = self.root / "recovered-run"
        few = ["--steps", "6", "--batch", "2", "--sampled", "0.5", "--windows", "16", "--length", "16"]
        few += ["--corpus", str(self.root / "squares.txt")]  # a text that does not repeat itself
        return cli.main(["recover", str(run), *few, "--device", "cpu", "--out", str(folder)])


class Sweep(Kind):
    """`trim sweep`, and the same with --resume."""

    def begin(self, folder: Path) -> int:
        """Start the sweep, or resume it."""
        if (folder / "sweep.json").exists():
            return cli.main(["sweep", "--resume", str(folder)])
        grid = ["--targets", "0.5", "0.7", "--allocations", "uniform", "trim"]
        few = ["--evaluation-corpus", TEXT[1], "--evaluation-windows", "2", "--evaluation-length", "16"]
        return cli.main(
            ["sweep", str(self.root / "model"), "--name", "A sweep", *grid, *TEXT, *few, "--out", str(folder)]
        )


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


TEXT: list[str] = []


def trial(kind: Kind, name: str) -> tuple[int, list[str]]:
    """Kill and resume a folder until it is complete; return the number of kills, and the differences."""
    chance, folder, kills = random.Random(name), kind.root / name, 0
    try:
        while kind.attempt(folder, chance, kill=kills < MAX_KILLS and (not kills or chance.random() < AGAIN)):
            kills += 1
        wrong = list(kind.differences(folder))
    except BadEndError as error:
        wrong = [str(error)]
    if not wrong:
        shutil.rmtree(folder)
    return kills, wrong


def main() -> int:
    """Run trials until the number of kills is reached."""
    parser = script_parser(__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--kinds",
        nargs="+",
        choices=("prune", "recover", "sweep", "app"),
        default=("prune", "recover", "sweep", "app"),
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve()
        os.environ["TRIM_CACHE"] = str(root / "cache")
        rough.make_model("llama", root / "model")
        (root / "text.txt").write_text("A line of text.\n" * 400)
        (root / "squares.txt").write_text("\n".join(str(number**2) for number in range(1000)))
        TEXT[:] = ["--corpus", str(root / "text.txt"), "--windows", "4", "--length", "16", "--device", "cpu"]
        shutil.make_archive(
            str(root / "run"), "zip", make_run(root / "imported", name="A run").parent, "imported"
        )
        if "recover" in options.kinds:
            cli.main(
                ["prune", str(root / "model"), "--target", "0.5", *TEXT, "--out", str(root / "recovered-run")]
            )
        owl = ("--target", "0.6", "--budget", "owl", "--allocation", "optimal")
        kinds: dict[str, list[Kind]] = {
            "prune": [
                Prune("trim", root, "--target", "0.5"),
                Prune("optimal", root, *owl),
                Prune("tuned", root, *owl, "--refit", "--tune"),
                Prune("solved", root, "--target", "0.5", "--allocation", "solved"),
            ],
            "recover": [Recover("recover", root)],
            "sweep": [Sweep("sweep", root)],
            "app": [App("app", root)],
        }
        chosen = {kind: kinds[kind] for kind in options.kinds}
        for kind in (kind for members in chosen.values() for kind in members):
            kind.measure()
        kills: collections.Counter[str] = collections.Counter()
        folders: collections.Counter[str] = collections.Counter()
        failed = 0
        while kills.total() < options.kills:
            where = min(chosen, key=lambda kind: kills[kind])
            kind = chosen[where][folders[where] % len(chosen[where])]
            name = f"{kind.name}-{options.seed}-{folders[where]}"
            folders[where] += 1
            killed, wrong = trial(kind, name)
            kills[where] += killed
            failed += bool(wrong)
            for line in wrong:
                print(f"{name}: {line}", flush=True)
    print_report("kills", kills=kills, folders=folders, failed=failed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
