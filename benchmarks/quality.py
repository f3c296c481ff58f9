"""Perplexity of a whole model pruned by Wanda, magnitude and TRIM, in uniform, OWL and AlphaPruning budgets.

    python -m benchmarks.quality MODEL --calibration valid.txt --evaluation test.txt --out runs/quality-MODEL

with the texts of WikiText-2. By default: model sparsities of 50, 60, 70 and 80%, with and without input recalculation,
1 and 8 input vectors per window where the method looks at vectors. Calibrated on 128 windows of 1,024 tokens;
perplexity on the first 96 windows of 1,024 tokens. Two sweeps in --out, which the same command goes on with.
The result is added to benchmarks/results/quality-MODEL.json (--results), newest last.

The limit to measure against is the dense model's perplexity; the peers are each other. Prints the tables, and one JSON
line last: for each method the perplexity at each sparsity.
"""

import argparse
import json
import platform
import sys
import time
from pathlib import Path

import torch

import trim
from trim.run_writer import now, write_json
from trim.sweep_results import results, results_markdown
from trim.sweep_run import CellBegan, CellDone, DenseMeasured, SweepBegan, SweepEvent


def grids(chosen: argparse.Namespace) -> dict[str, dict[str, tuple]]:
    """One sweep by Wanda's score, plain and with TRIM; one by magnitude, which sees no activations."""
    common = {"target": tuple(chosen.targets), "budget": tuple(chosen.budgets), "seed": tuple(chosen.seeds)}
    by_wanda = {
        "score": ("wanda",),
        "allocation": tuple(chosen.allocations),
        "recalculate_inputs": tuple(word == "yes" for word in chosen.recalculate_inputs),
        "vectors_per_sequence": tuple(chosen.vectors),
    }
    return {
        "wanda": common | by_wanda,
        "magnitude": common | {"score": ("magnitude",), "allocation": ("uniform",)},
    }


def show(event: SweepEvent) -> None:
    match event:
        case SweepBegan():
            print(f"{event.cells} cells, {event.done} of them done already", file=sys.stderr)
        case DenseMeasured():
            print(f"dense: {event.perplexities[0]:.3f}", file=sys.stderr)
        case CellBegan():
            print(f"{event.number} of {event.cells}: {event.cell}", file=sys.stderr, flush=True)
        case CellDone():
            said = event.problem or f"{event.perplexities[0]:.5g}"
            print(f"    {event.cell}: {said}  ({event.seconds_left / 60:.0f} min left)", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--calibration", required=True, help="text, of which the calibration part is used")
    parser.add_argument("--evaluation", required=True, help="a text file, all of which may be used")
    parser.add_argument("--out", type=Path, required=True, help="folder of the sweeps")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--name", help="what the results call the model (default: its folder's name)")
    parser.add_argument("--targets", type=float, nargs="+", default=[0.5, 0.6, 0.7, 0.8])
    parser.add_argument("--allocations", nargs="+", default=["uniform", "trim"], help="by Wanda's score")
    parser.add_argument("--budgets", nargs="+", default=["uniform", "owl", "alphapruning"])
    parser.add_argument("--recalculate-inputs", nargs="+", default=["no", "yes"], choices=("no", "yes"))
    parser.add_argument("--vectors", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--windows", type=int, default=128)
    parser.add_argument("--evaluation-windows", type=int, default=96)
    parser.add_argument("--length", type=int, default=1024, help="tokens in a window of either text")
    parser.add_argument("--device")
    parser.add_argument("--dtype")
    parser.add_argument("--ray", nargs="?", const="local", metavar="ADDRESS")
    chosen = parser.parse_args()

    begin = time.perf_counter()
    shared = {
        "corpus": chosen.calibration,
        "windows": chosen.windows,
        "length": chosen.length,
        "device": chosen.device,
        "dtype": chosen.dtype,
    }
    text = trim.EvaluationText(chosen.evaluation, chosen.evaluation_windows, chosen.length, whole=True)
    curves, failed, dense = [], [], None
    for name, grid in grids(chosen).items():
        settings = trim.SweepSettings(chosen.model, grid, shared, (text,))
        sweep = trim.create_sweep(chosen.out / name, settings, name=name)
        outcomes = trim.run_sweep(sweep, ray=chosen.ray, listener=show).outcomes()
        print(results_markdown(sweep, outcomes))
        found = results(sweep, outcomes)
        curves += found["curves"]
        failed += [outcome.cell.id for outcome in outcomes if not outcome.done]
        dense = found["texts"][0]["dense_perplexity"]
    name = chosen.name or Path(chosen.model).name
    entry = {
        "benchmark": "quality",
        "date": now()[:10],
        "model": name,
        "calibration": {
            "corpus": Path(chosen.calibration).name,
            "windows": chosen.windows,
            "length": chosen.length,
        },
        "evaluation": {
            "corpus": Path(chosen.evaluation).name,
            "windows": chosen.evaluation_windows,
            "length": chosen.length,
        },
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available() and chosen.device != "cpu"
        else platform.machine(),
        "torch": torch.__version__,
        "seconds": round(time.perf_counter() - begin),
        "dense_perplexity": dense,
        "failed": failed,
        "curves": curves,
    }
    target = chosen.results / f"quality-{name}.json"
    earlier = json.loads(target.read_text(encoding="utf-8"))["measured"] if target.exists() else []
    write_json(target, {"measured": [*earlier, entry]})
    brief = {
        curve["label"]: dict(zip(curve["sparsity"], curve["perplexity"], strict=True)) for curve in curves
    }
    print(json.dumps({key: value for key, value in entry.items() if key != "curves"} | {"perplexity": brief}))
    if failed:
        raise SystemExit(f"{len(failed)} cells could not be made; the same command tries them again")


if __name__ == "__main__":
    main()
