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
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import tests.rehearsed  # noqa: F401, prunes, so that forks find that done
from benchmarks.killed_app import App
from benchmarks.killed_work import TEXT, BadEndError, Kind
from benchmarks.script import print_report, script_parser
from tests.app.small_runs import make_run
from tests.trim import rough
from trim import cli
from trim.recovery import run as recovery_run

AGAIN = 0.6  # probability that resumed work is killed again
MAX_KILLS = 3  # kills of one folder


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
