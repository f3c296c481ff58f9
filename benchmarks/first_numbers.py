"""Time from an empty cache to the first live numbers of the demo model, and to those of all 64 windows.

    python -m benchmarks.first_numbers

Each repeat is a new process, like a new server: it imports torch, unpacks and loads the demo model, tokenizes the text,
captures, and searches the layer, by the services of the Layer page. Then it begins another capture and cancels it.
Seconds count from the start of the process; CPU seconds, of all threads, depend less on other load.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from benchmarks.script import print_report, script_parser

LAYER = "28.self_attn.v_proj"


def measure() -> dict[str, float]:
    """Make one cold start in this process; return the seconds of each step until the first numbers."""
    begin = time.time() - float(os.environ["BEGUN"])
    started = time.perf_counter() - begin
    from app.services.layer.background import Cancelled, Job
    from app.services.layer.keys import ModelKey, SampleKey, StudyKey
    from app.services.layer.laboratory import Laboratory
    from trim.methods.search_settings import SearchSettings

    laboratory, found = Laboratory(), {}

    def waited(job: Job) -> object:
        while not job.done and job.preview is None:
            stage = job.progress.what.partition(":")[0].partition(" of ")[0].partition(" (")[0]
            before = time.perf_counter()
            job.wait(0.02)
            found[stage] = found.get(stage, 0.0) + time.perf_counter() - before
        return job.preview or job.result()

    waited(laboratory.devices())
    key = StudyKey(ModelKey(), SampleKey(), LAYER, "wanda")
    model = laboratory.model(key.model)
    waited(model)
    job = laboratory.study(key, model.result())
    for name in ("first_numbers", "all_windows"):
        study = waited(job) if name == "first_numbers" else job.result()
        study.outcome(SearchSettings(0.7))
        times = os.times()
        found[f"{name}_seconds"] = time.perf_counter() - started
        found[f"{name}_cpu_seconds"] = times.user + times.system
        found[f"{name}_vectors"] = study.vectors
    other = StudyKey(ModelKey(), SampleKey(seed=1), LAYER, "wanda")
    job = laboratory.study(other, model.result())
    while not job.progress.what.startswith("Reading") and not job.done:
        time.sleep(0.01)
    cancelled = time.perf_counter()
    job.cancel()
    try:
        job.result()
    except Cancelled:
        found["cancel_seconds"] = time.perf_counter() - cancelled
    while any(thread.name == "trim-job" for thread in threading.enumerate()):
        time.sleep(0.01)
    found["cancelled_thread_ends_seconds"] = time.perf_counter() - cancelled
    return found


def main() -> None:
    """Run the command."""
    parser = script_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure()))
        return
    load, runs = os.getloadavg()[0], []
    for _ in range(arguments.repeats):
        with tempfile.TemporaryDirectory() as cache:
            environment = os.environ | {"TRIM_CACHE": cache, "BEGUN": repr(time.time())}
            command = [sys.executable, "-m", "benchmarks.first_numbers", "--one"]
            answer = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
        runs.append(json.loads(answer.stdout.splitlines()[-1]))
    names = dict.fromkeys(name for run in runs for name in run)
    medians = {name: round(statistics.median(run.get(name, 0.0) for run in runs), 3) for name in names}
    for name, value in medians.items():
        print(f"{value:8.2f}  {name}")
    print_report("first_numbers", layer=LAYER, load_before=round(load, 1), **medians)


if __name__ == "__main__":
    main()
