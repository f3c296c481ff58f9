"""Work in a folder that is killed, resumed, and compared with the same work without kills."""

import random
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.killing import arm, die, fork, wait_for_end

PATIENCE_SECONDS = 120
_TEMPORARY = re.compile(r"\.(.+-[0-9a-f]{12}|importing-.*|activations-.*)")
_JOB_ID = re.compile(r"job-\d{8}-\d{6}(-\d+)?")  # numbered if two are begun in one second
_TIMES = re.compile(r'"(created|time|seconds|load_seconds|training_seconds)": ("[^"]*"|[-+.e0-9]+)')
TEXT: list[str] = []  # options of the command line, set once the text is written


class BadEndError(Exception):
    """Raised when the work in a folder ends in a wrong state."""


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
