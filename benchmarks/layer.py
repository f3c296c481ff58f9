"""One layer: building the retention curves and searching them, against an efficient direct search; the optimum of it.

    python -m benchmarks.layer                                            a layer of the demo model, on the CPU
    python -m benchmarks.layer --device cuda --rows 13824 --columns 5120  a random heavy-tailed layer, on a GPU

The direct search is a careful implementation without curves: the ranks and the dense output once, then for
each candidate one mask from the ranks, one float32 product on all cores and the same qualities, the rates in
published order. Both must return the same x. Targets from 50% to 90%, so that short and long searches count.

What bounds each: the direct search one D × N × L product and two D × N passes (mask, masked weights) per candidate.
On the CPU the curves are bound by the arithmetic of three D × N × L passes from the cache (the dense product, each
column times the dense output, the running output and its norm) and a fourth for part of the columns (the norm of what
is kept), the search by one cache line of each row per candidate. On a GPU see `trim/kernels/`.

The optimal allocation at 70% is set against the textbook method, vectorised: bisection on the price λ, for each λ one
argmin over the table of errors, until the counts jump over the target; then the rows that jump are filled in order.
Each of its steps reads the (D, N + 1) table once; the hulls read it once and then hold some forty edges of each row.

With `--busy 4` four other processes compute meanwhile, to measure the speed on a shared machine.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator

import torch

import trim
from benchmarks.script import median_seconds, print_report, script_parser, wait_for_device
from trim.measures import EPSILON
from trim.methods.scores import ranks_of, score_order

TARGETS = (0.5, 0.6, 0.7, 0.8, 0.9)
INSTRUCTIONS = 193 / 4  # per warp of the sweep kernel, for one weight and 256 half-precision vectors
INSTRUCTIONS_PER_SECOND = 4 * 1.98e9  # per multiprocessor, at an H200's highest clock


def direct_search(
    weight: torch.Tensor, inputs: torch.Tensor, score: torch.Tensor, settings: trim.SearchSettings
) -> tuple[float | None, torch.Tensor]:
    """Run TRIM by masked products (cosim_flat, cosim); return the chosen rate and x (D,)."""
    columns = weight.shape[1]
    ranks = ranks_of(score_order(score))
    dense = weight @ inputs
    dense_energy = dense.square().sum(dim=1, dtype=torch.float64)

    def judge(x: torch.Tensor) -> tuple[float, torch.Tensor]:
        counts = (x * columns).floor().clamp(0, columns).int()
        pruned = (weight * (ranks >= counts[:, None])) @ inputs
        dot = (dense * pruned).sum(dim=1, dtype=torch.float64)
        energy = pruned.square().sum(dim=1, dtype=torch.float64)
        rows = dot / ((dense_energy.sqrt() + EPSILON) * (energy.sqrt() + EPSILON))
        layer = dot.sum() / ((dense_energy.sum().sqrt() + EPSILON) * (energy.sum().sqrt() + EPSILON))
        return float(layer.clamp(-1, 1)), rows.clamp(-1, 1)

    start = dense_energy.new_full((len(weight),), settings.target_sparsity)
    uniform, uniform_rows = judge(start)
    best_rate, best, best_x = None, uniform, start
    for rates in (settings.learning_rates, settings.negative_learning_rates):
        if best > uniform:
            break
        previous = None
        for rate in rates:
            x, rows, quality, kept = start, uniform_rows, uniform, start
            for _ in range(settings.iterations):
                change = (rows - rows.min()) / (rows.max() - rows.min() + 1e-6) * 2 * rate
                x = (x + change - change.mean()).clamp(0, settings.max_row_sparsity)
                x = x - x.mean() + settings.target_sparsity
                candidate, rows = judge(x)
                if candidate > quality:
                    quality, kept = candidate, x
            if quality > best:
                best_rate, best, best_x = rate, quality, kept
            if previous is not None and quality <= previous:
                break
            previous = quality
    return best_rate, best_x


def by_bisection(table: torch.Tensor, total: int) -> torch.Tensor:
    """Return counts (D,) at the largest price that prunes at most `total` weights, then fill the rows that jump."""
    places = torch.arange(table.shape[1], dtype=table.dtype, device=table.device)

    def at(price: float) -> torch.Tensor:
        return (table - price * places).argmin(dim=1)

    low, high = 0.0, float(table.diff(dim=1).max())
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if int(at(middle).sum()) <= total else (low, middle)
    counts, above = at(low), at(high)
    room = above - counts
    left = total - int(counts.sum())
    before = torch.cumsum(room, dim=0) - room
    return counts + torch.minimum(room, (left - before).clamp(min=0))


def time_optimum(curves: trim.RetentionCurves, repeats: int) -> dict[str, float]:
    """Time both ways to the optimum, which must reach the same loss to within one row's jump."""
    limit, total = int(0.99 * curves.columns), round(0.7 * curves.rows * curves.columns)
    table = curves.error[:, : limit + 1].double()
    ways = {
        "optimal": lambda: trim.optimal_counts(trim.lower_hull(curves.error, limit), total),
        "bisection": lambda: by_bisection(table, total),
    }
    mine, other = (float(table.gather(1, way()[:, None]).sum()) for way in ways.values())
    if abs(mine - other) > 1e-6 * other + float(table.diff(dim=1).abs().max()):
        raise SystemExit(f"the hulls lose {mine} and bisection {other}")
    return {f"{name}_seconds": median_seconds(way, repeats) for name, way in ways.items()}


def demo_layer(name: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return weight, inputs (128 vectors) and score of a layer of the demo model, float32."""
    model = trim.load_model("demo", device="cpu")
    windows = trim.load_corpus("demo", model.tokenizer, split="calibration", windows=64, length=128, seed=0)
    sample = trim.capture(model, windows, layers=[name], vectors_per_sequence=2)[name]
    return sample.weight, sample.inputs, trim.wanda_score(sample.weight, sample.input_norm)


def random_layer(rows: int, columns: int, vectors: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the same of a heavy-tailed random layer, float16, whose rows differ in concentration."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.empty(rows, columns, dtype=torch.float16)
    for block in weight.split(1024):
        spread = torch.rand(len(block), 1, generator=generator)
        tails = torch.exp(spread * torch.randn(block.shape, generator=generator))
        block.copy_(0.02 * torch.randn(block.shape, generator=generator) * tails)
    inputs = torch.randn(columns, vectors, generator=generator)
    inputs *= torch.exp(torch.randn(columns, 1, generator=generator))
    inputs = inputs.half()
    return weight, inputs, trim.wanda_score(weight, inputs.float().norm(dim=1))


def on_device(
    report: dict[str, object], weight: torch.Tensor, inputs: torch.Tensor, score: torch.Tensor
) -> None:
    """Report the GPU's name, the memory that curves need, and how near the kernels come to their bound."""
    from trim.kernels.sort import sort_rows

    wait_for_device()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() - score.nbytes  # the score is ours, weights and inputs are not
    trim.retention_curves(weight, inputs, score)
    report["peak_bytes"] = torch.cuda.max_memory_allocated() - before
    invalid = torch.zeros(1, dtype=torch.int32, device=weight.device)
    order_seconds = median_seconds(lambda: sort_rows(weight, score, invalid), 7)
    processors = torch.cuda.get_device_properties(0).multi_processor_count
    instructions = weight.numel() * inputs.shape[1] / 256 * INSTRUCTIONS
    bound = instructions / (processors * INSTRUCTIONS_PER_SECOND)
    report |= {
        "device_name": torch.cuda.get_device_name(),
        "order_seconds": order_seconds,
        "sweep_bound_seconds": bound,
        "share_of_sweep_bound": bound / (report["curves_seconds"] - order_seconds),
    }


@contextlib.contextmanager
def busy_processes(number: int) -> Iterator[None]:
    """Run this many processes that multiply matrices meanwhile, on one core each."""
    code = "import numpy as np; a = np.ones((300, 300))\nwhile True: a = a @ a * 0 + 1"
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    processes = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--layer", default="15.mlp.gate_proj", help="of the demo model")
    parser.add_argument("--rows", type=int, help="of a random layer, instead of one of the demo model")
    parser.add_argument("--columns", type=int, help="likewise")
    parser.add_argument("--inputs", type=int, default=256, help="calibration vectors of a random layer")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--busy", type=int, default=0, help="other processes that compute meanwhile")
    arguments = parser.parse_args()
    with busy_processes(arguments.busy):
        measure(parser, arguments)


def measure(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """Measure, and print the report."""

    if (arguments.rows is None) != (arguments.columns is None):
        parser.error("give both --rows and --columns, or neither")
    if arguments.rows is None:
        arrays = demo_layer(arguments.layer)
    else:
        arrays = random_layer(arguments.rows, arguments.columns, arguments.inputs)
    weight, inputs, score = (values.to(arguments.device) for values in arrays)
    build = lambda: trim.retention_curves(weight, inputs, score)  # noqa: E731
    curves = build()
    curves_seconds = median_seconds(build, arguments.repeats)
    wide_weight, wide_inputs = weight.float(), inputs.float()
    rows = []
    for target in TARGETS:
        settings = trim.SearchSettings(target)
        rate, x = direct_search(wide_weight, wide_inputs, score, settings)
        result = trim.search(curves, settings)
        if result.learning_rate != rate or float((result.row_sparsity - x).abs().max()) > 2 / curves.columns:
            raise SystemExit(f"at {target} the two searches differ: {result.learning_rate} against {rate}")
        direct = median_seconds(
            lambda s=settings: direct_search(wide_weight, wide_inputs, score, s), arguments.repeats
        )
        looked_up = median_seconds(lambda s=settings: trim.search(curves, s), 10 * arguments.repeats)
        rows.append((direct, looked_up))
        print(
            f"T {target:.0%}  rates tried {len(result.tried)}  direct {direct * 1e3:7.1f} ms  "
            f"curves {looked_up * 1e3:5.2f} ms  {direct / looked_up:5.0f} x"
        )
    direct_seconds, search_seconds = (statistics.median(column) for column in zip(*rows, strict=True))
    report = {
        "shape": list(weight.shape),
        "inputs": curves.vectors,
        "dtype": str(inputs.dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "busy": arguments.busy,
        "device": arguments.device,
        "direct_seconds": direct_seconds,
        "curves_seconds": curves_seconds,
        "search_seconds": search_seconds,
        "search_speedup": statistics.median(direct / looked_up for direct, looked_up in rows),
        "search_speedup_least": min(direct / looked_up for direct, looked_up in rows),
        "curves_and_search_speedup": direct_seconds / (curves_seconds + search_seconds),
        "curves_over_direct": curves_seconds / direct_seconds,
        **time_optimum(curves, arguments.repeats),
    }
    if arguments.device == "cuda":
        on_device(report, weight, inputs, score)
    print_report("layer", **report)


if __name__ == "__main__":
    main()
