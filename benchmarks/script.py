"""The parts of every script here: its arguments, and the JSON line that it prints last."""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable

import torch


def script_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the script's own description."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def print_report(benchmark: str, **numbers: object) -> None:
    """Print what was measured, and where."""
    machine = {"cores": os.cpu_count(), "load_average": os.getloadavg()[0]}
    print(json.dumps({"benchmark": benchmark, **numbers, **machine}))


def wait_for_device() -> None:
    """Wait until a GPU, if there is one, is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def median_seconds(run: Callable[[], object], repeats: int) -> float:
    """Median of `repeats` timings after one warm-up."""
    run()
    times = []
    for _ in range(repeats):
        wait_for_device()
        begin = time.perf_counter()
        run()
        wait_for_device()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)
