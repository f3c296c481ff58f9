"""The time of the optimal method in optimal budgets on a whole model, against TRIM in uniform budgets.

    python -m benchmarks.optimal_model              the demo model
    python -m benchmarks.optimal_model --shape llama-2-7b --blocks 32 --windows 128 --length 2048    random weights

What bounds it: TRIM sends every window forward twice, to be captured and to be handed on. The optimal method first
sends the sensitivity's windows forward, forward again and backward, and sweeps every layer's curves once more. Each run
begins with an empty cache: this is the first run of a model, and at another target sensitivities and prices are known.
Prints one JSON line last.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import torch

import trim
from benchmarks.model import model_parser, random_model
from trim.devices import choose_device
from trim.models.loaded import fetch_model
from trim.progress import Progress

METHODS = {
    "trim": {"allocation": "trim", "budget": "uniform"},
    "optimal": {"allocation": "optimal", "budget": "optimal"},
}


def time_run(model: str, tokens: torch.Tensor, settings: dict[str, object]) -> dict[str, float]:
    """Time one run with an empty cache: in total, and for sensitivities, budgets and the rest, called blocks."""
    begin = time.perf_counter()
    spent = dict.fromkeys(("sensitive", "budgets", "blocks"), 0.0)
    last = ["", begin]

    def listen(step: Progress) -> None:
        now = time.perf_counter()
        stage = next((stage for stage in spent if stage in last[0]), "blocks")
        spent[stage] += now - last[1]
        last[:] = step.what, now

    with tempfile.TemporaryDirectory() as empty:
        before, os.environ["TRIM_CACHE"] = os.environ.get("TRIM_CACHE"), str(Path(empty) / "cache")
        try:
            trim.prune(model, Path(empty) / "run", tokens=tokens, progress=listen, **settings)
        finally:
            os.environ.pop("TRIM_CACHE")
            if before is not None:
                os.environ["TRIM_CACHE"] = before
        listen(Progress(""))
    return {"seconds": last[1] - begin} | {f"{stage}_seconds": seconds for stage, seconds in spent.items()}


def main() -> None:
    """Run the benchmark."""
    parser = model_parser(__doc__, windows=64)
    parser.add_argument("--sensitivity-windows", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        if arguments.shape:
            arguments.model = str(Path(made) / arguments.shape)
            random_model(Path(arguments.model), arguments.shape, arguments.blocks)
            shape = (arguments.windows, arguments.length)
            tokens = torch.randint(32000, shape, generator=torch.Generator().manual_seed(0))
        else:
            tokenizer = trim.load_model(arguments.model).tokenizer
            tokens = trim.load_corpus(
                "demo", tokenizer, split="calibration", windows=arguments.windows, length=arguments.length
            )
            arguments.model = str(fetch_model(arguments.model).folder)
        measure(arguments, tokens)


def measure(arguments: argparse.Namespace, tokens: torch.Tensor) -> None:
    """Return the fastest of some repeats of each method; on a GPU after a first one that compiles kernels."""
    common = {
        "target": arguments.target,
        "sensitivity_windows": arguments.sensitivity_windows,
        "device": arguments.device,
    }
    runs: dict[str, list[dict[str, float]]] = {method: [] for method in METHODS}
    warm_up = int(choose_device(arguments.device).type == "cuda")
    for _ in range(warm_up + arguments.repeats):
        for method, settings in METHODS.items():
            runs[method].append(time_run(arguments.model, tokens, common | settings))
    best = {method: min(some[warm_up:], key=lambda run: run["seconds"]) for method, some in runs.items()}
    result = {
        "tokens": tokens.numel(),
        "sensitivity_windows": arguments.sensitivity_windows,
        "windows": arguments.windows,
        **{
            f"{method}_{part}": round(value, 3) for method, run in best.items() for part, value in run.items()
        },
        "optimal_over_trim": round(best["optimal"]["seconds"] / best["trim"]["seconds"], 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
