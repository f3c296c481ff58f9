"""Perplexity of a whole model pruned by every method, at several sparsities.

    python -m benchmarks.quality MODEL --calibration valid.txt --evaluation test.txt demo --out runs/quality-MODEL

with the texts of WikiText-2, and the demo's speeches as another domain. Eleven parts, each some sweeps in --out, which
the same command resumes:

- scores: Wanda and magnitude, plain; TRIM; in uniform, OWL and AlphaPruning budgets; with and without input
  recalculation; 1 and 8 input vectors per window.
- methods: Wanda and TRIM in uniform, OWL and AlphaPruning budgets; three seeds, 4 input vectors per window.
- optimal: the optimal allocation in uniform and optimal budgets, Wanda and TRIM in optimal budgets, likewise; and
  all row weights alike.
- refit: the kept weights refitted, for Wanda, TRIM and the optimal allocation in uniform budgets, and for the
  optimal allocation in optimal budgets; three seeds.
- solved: mask and weights solved together, in optimal budgets, three seeds.
- tuned: the same, and each block's kept weights tuned.
- peers: SparseGPT and ALPS in uniform budgets, likewise.
- ablation: solved in uniform budgets, so without a shared price, one seed. `--without` leaves other ingredients of the
  solver out of what is solved: rows, the rows' weights; targets, the outputs of the dense model, in place of which are
  those of its weights on the pruned model's inputs; stream, what the residual stream has lost before; schedule, the
  growing ρ, which is 1 for 30 steps; halving, of what the shared price asks of layers.
- parameters: TRIM in OWL and AlphaPruning budgets of other widths and multiples.
- published: TRIM in OWL and AlphaPruning budgets at the parameters of TRIM's authors (ε 0.1 is theirs for Qwen2.5).
- fits: Wanda and TRIM in AlphaPruning budgets of its other fit.

Calibrated on 128 windows of 1,024 tokens, drawn by the seed; perplexity on the first 96 windows of 1,024 tokens of each
text, 64 of the speeches. Each result is added to benchmarks/results/quality-MODEL.json (--results) as soon as it is
there, in place of an earlier one of the same method; `python -m benchmarks.quality_table` makes tables and a figure.

The limit to measure against is the dense model's perplexity; the peers are each other. Prints one JSON line last.
"""

import argparse
import contextlib
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest import mock

import torch
import transformers
from torch import Tensor

import trim
from benchmarks.quality_parts import PARTS
from benchmarks.script import print_report, script_parser
from trim.methods import solve as solver
from trim.methods.choices import SOLVERS
from trim.methods.least_squares import TextProducts
from trim.methods.pattern import Pattern
from trim.pruning import plan_optimal
from trim.runs.fields import number_to_json
from trim.runs.json_files import now, write_json
from trim.sweeps.events import CellDone, DenseMeasured, SweepBegan, SweepFact

INGREDIENTS = ("rows", "targets", "schedule", "halving")
SPEECH_WINDOWS = 64
TARGETS = (0.5, 0.6, 0.7, 0.8)


class Results:
    """One JSON file: the protocol, and one row for each method, seed and sparsity."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": []}

    def add(self, rows: list[dict], protocol: dict) -> None:
        """Add rows in place of earlier ones of the same method.

        Raises:
            SystemExit: the file holds results of another protocol.
        """
        earlier = self.content.setdefault("protocol", protocol)
        if not same_protocol(earlier, protocol):
            raise SystemExit(f"{self.path} holds results of another protocol; choose another --results")
        merged = {row_key(row): row for row in (*self.content["rows"], *rows)}
        self.content["rows"] = sorted(merged.values(), key=lambda row: json.dumps(row["method"]))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_json(self.path, self.content)


def same_protocol(one: dict, other: dict) -> bool:
    """Return whether results are comparable; the dense perplexity may differ by rounding between devices."""
    if any(one.get(key) != other.get(key) for key in {*one, *other} - {"dense_perplexity"}):
        return False
    dense = zip(*(map(float, each["dense_perplexity"]) for each in (one, other)), strict=True)
    return all(math.isclose(*pair, rel_tol=1e-3) for pair in dense)


def row_key(row: dict) -> str:
    """Return the identity of a row."""
    return json.dumps(row["method"], sort_keys=True)


@contextlib.contextmanager
def solved_without(left_out: Sequence[str]) -> Iterator[None]:
    """Remove ingredients from the allocation `solved`."""

    def variant(
        weight: Tensor,
        text: TextProducts,
        total: int,
        *,
        sensitivity: Tensor | None = None,
        pattern: Pattern | None = None,
    ) -> solver.Solution:
        if "targets" in left_out:
            text = TextProducts(text.gram, text.gram, text.damping)
        rows = None if "rows" in left_out else sensitivity
        return solver.solve(weight, text, total, sensitivity=rows, pattern=pattern)

    held = {"RHO": 1.0, "MAX_STEPS": 30, "SHRINK": 1.0, "GROWTH": ((0.1, 1.0), (0.005, 1.0), (0.0, 1.0))}
    with contextlib.ExitStack() as stack:
        if left_out:
            stack.enter_context(mock.patch.dict(SOLVERS, {"solved": variant}))
        if "halving" in left_out:
            stack.enter_context(
                mock.patch.object(plan_optimal, "halfway_totals", lambda totals, sizes: totals)
            )
        if "schedule" in left_out:
            stack.enter_context(mock.patch.multiple(solver, **held))
        yield


def rows_of(sweep: trim.Sweep, left_out: Sequence[str]) -> list[dict]:
    """Return the rows of a sweep's finished cells."""
    without = {"without": sorted(left_out)} if left_out else {}
    return [
        {
            "method": {name: value for name, value in outcome.cell.grid_values.items() if value is not None}
            | without,
            "model_sparsity": outcome.run.metrics["sparsity"]["realised"],
            "perplexity": [entry["perplexity"] for entry in outcome.perplexities],
            "date": now()[:10],
            "device": outcome.run.compute.device_name,
        }
        for outcome in sweep.outcomes()
        if outcome.done
    ]


def show(event: SweepFact) -> None:
    """Print progress."""
    match event:
        case SweepBegan():
            print(f"{event.cells} cells, {event.done} of them done already", file=sys.stderr)
        case DenseMeasured():
            print(f"dense: {', '.join(f'{value:.3f}' for value in event.perplexities)}", file=sys.stderr)
        case CellDone():
            outcome = event.problem or ", ".join(f"{value:.5g}" for value in event.perplexities)
            print(f"    {event.cell}: {outcome}  ({event.seconds / 60:.0f} min so far)", file=sys.stderr)


def main() -> None:
    """Run the sweeps and store their results."""
    parser = quality_parser(__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument(
        "--sweeps", type=int, nargs="+", help="which of the part's sweeps, from 0 (default: all)"
    )
    parser.add_argument("--allocations", nargs="+", help="instead of those of the part")
    parser.add_argument("--targets", type=float, nargs="+", default=TARGETS)
    parser.add_argument("--seeds", type=int, nargs="+", help="instead of those of the part")
    parser.add_argument("--without", nargs="+", choices=INGREDIENTS, default=[], help="of the solver")
    parser.add_argument("--dtype")
    chosen = parser.parse_args()

    begin = time.perf_counter()
    shared = {
        "corpus": chosen.calibration,
        "windows": chosen.windows,
        "length": chosen.length,
        "device": chosen.device,
        "dtype": chosen.dtype,
    }
    texts = tuple(evaluation_text(text, chosen) for text in chosen.evaluation)
    name = chosen.name or Path(chosen.model).name
    results = Results(chosen.results / f"quality-{name}.json")
    failed: list[str] = []
    for part in chosen.parts:
        for number, grid in enumerate(PARTS[part]):
            if chosen.sweeps and number not in chosen.sweeps:
                continue
            grid = grid | {"target": tuple(chosen.targets)}
            if chosen.allocations:
                grid |= {"allocation": tuple(chosen.allocations)}
            if chosen.seeds:
                grid |= {"seed": tuple(chosen.seeds)}
            settings = trim.SweepSettings(chosen.model, grid, shared, texts)
            folder = "-".join([part, str(number), *chosen.without])
            sweep = trim.create_sweep(chosen.out / folder, settings, name=part)
            protocol: dict = {}

            def listen(event: SweepFact, sweep: trim.Sweep = sweep, protocol: dict = protocol) -> None:
                show(event)
                if isinstance(event, DenseMeasured):
                    protocol |= protocol_of(chosen, name, sweep)
                if isinstance(event, CellDone):
                    results.add(rows_of(sweep, chosen.without), protocol)

            with solved_without(chosen.without):
                outcomes = trim.run_sweep(sweep, listener=listen).outcomes()
            failed += [outcome.cell.id for outcome in outcomes if not outcome.done]
    print_report(
        "quality",
        rows=len(results.content["rows"]),
        failed=failed,
        seconds=round(time.perf_counter() - begin),
        **{"model": name} | results.content.get("protocol", {}),
    )
    if failed:
        raise SystemExit(f"{len(failed)} cells could not be made; the same command tries them again")


def quality_parser(description: str) -> argparse.ArgumentParser:
    """Return the parser shared with the benchmark of recoveries: the model, the texts, the file of results."""
    parser = script_parser(description)
    parser.add_argument("model")
    parser.add_argument("--calibration", required=True, help="text, of which the calibration part is used")
    parser.add_argument("--evaluation", required=True, nargs="+", help='files, read whole, and "demo"')
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--name", help="what the results call the model (default: its folder's name)")
    parser.add_argument("--windows", type=int, default=128)
    parser.add_argument("--evaluation-windows", type=int, default=96)
    parser.add_argument("--length", type=int, default=1024, help="tokens in a window of either text")
    parser.add_argument("--device")
    return parser


def evaluation_text(source: str, chosen: argparse.Namespace) -> trim.EvaluationText:
    """Return a text by its name on the command line; at most `SPEECH_WINDOWS` windows of the demo's speeches."""
    if source == "demo":
        windows = min(SPEECH_WINDOWS, chosen.evaluation_windows)
        return trim.EvaluationText("demo", windows, chosen.length)
    return trim.EvaluationText(source, chosen.evaluation_windows, chosen.length, whole=True)


def protocol_of(chosen: argparse.Namespace, name: str, sweep: trim.Sweep) -> dict:
    """Return the protocol that all rows of a file share."""
    dense = sweep.dense()
    return {
        "model": name,
        "calibration": [Path(chosen.calibration).name, chosen.windows, chosen.length],
        "evaluation": [
            [Path(text.corpus).name, entry["windows"], entry["length"]]
            for text, entry in zip(sweep.settings.texts, dense, strict=True)
        ],
        "dense_perplexity": [number_to_json(round(float(entry["perplexity"]), 4)) for entry in dense],
        "dtype": dense[0]["dtype"],
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


if __name__ == "__main__":
    main()
