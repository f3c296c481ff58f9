"""Mutate models, texts, zips, runs, recoveries, sweeps, jobs: each is read, or refused with a message, in bounded time.

A case fails if it raises anything but a `TrimError`, or takes more than 10 s of CPU or 2 GiB. Prints a line for each
failure, with the name that repeats it (--only), and one JSON line last. Exits with 1 if a case failed.

    python -m benchmarks.hostile --seconds 60 [--seed 0] [--kinds run zip …] [--only CASE]
"""

import collections
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

from benchmarks.hostile_cases import Cases
from benchmarks.script import print_report, script_parser
from trim.errors import TrimError

MAX_SECONDS, MAX_BYTES = 10, 2 * 2**30
# The number of cases of each kind among 40; a model costs ten times as much as a run.
SHARES = {
    "run": 6,
    "recovery": 4,
    "zip": 6,
    "model": 5,
    "gguf": 4,
    "text": 6,
    "sweep": 4,
    "job": 4,
    "bomb": 1,
}


class TooSlow(BaseException):
    """Raised when a case takes too long."""


def attempts(case: Callable[[random.Random], None], seed: str) -> Iterator[str]:
    """Run a case, and yield the faults of its end."""

    def late(*_: object) -> None:
        raise TooSlow

    signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)
    try:
        case(random.Random(seed))
    except TrimError:
        pass
    except TooSlow:
        yield f"still at it after {MAX_SECONDS} s, in {traceback.format_exc().splitlines()[-4].strip()}"
    except BaseException as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        yield f"{type(error).__name__}: {str(error)[:120]} ({Path(last.filename).name}:{last.lineno})"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    if (used := resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024) > MAX_BYTES:
        yield f"{used / 2**30:.1f} GiB of memory"


def main() -> int:
    """Run cases until the time is over."""
    parser = script_parser(__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=SHARES, default=list(SHARES))
    parser.add_argument("--only", help="the name of one case, such as run-0-17")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    counts: collections.Counter[str] = collections.Counter()
    slowest, bad = 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRIM_CACHE"] = f"{folder}/cache"
        cases = Cases(Path(folder))
        begin = time.monotonic()
        while time.monotonic() - begin < options.seconds:
            kind = min(options.kinds, key=lambda kind: counts[kind] / SHARES[kind])
            name = options.only or f"{kind}-{options.seed}-{counts[kind]}"
            kind = name.partition("-")[0]
            counts[kind] += 1
            started = time.process_time()
            for problem in attempts(getattr(cases, kind), name):
                bad += 1
                print(f"{name}: {problem}", flush=True)
            slowest = max(slowest, time.process_time() - started)
            if options.only:
                break
    print_report(
        "hostile",
        cases=counts,
        failed=bad,
        slowest_seconds=round(slowest, 2),
        memory_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
