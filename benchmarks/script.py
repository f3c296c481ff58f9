"""Parts that the scripts here share: arguments, timing, and the JSON line that each prints last."""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable

import torch


def script_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser whose help is the script's own description."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def print_report(benchmark: str, **numbers: object) -> None:
    """Print the measurements and the machine."""
    machine = {"cores": os.cpu_count(), "load_average": os.getloadavg()[0]}
    print(json.dumps({"benchmark": benchmark, **numbers, **machine}))


def wait_for_device() -> None:
    """Wait until the GPU is done, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def median_seconds(run: Callable[[], object], repeats: int) -> float:
    """Return the median of `repeats` timings after one warm-up."""
    run()
    times = []
    for _ in range(repeats):
        wait_for_device()
        begin = time.perf_counter()
        run()
        wait_for_device()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)
