"""One layer: building the retention curves and searching them, against an honest direct search.

    python benchmarks/layer.py

The direct search is what a careful programmer writes without curves: the ranks and the dense output once, then for
each candidate one mask from the ranks, one float32 product on all cores and the same qualities, the rates in
published order. Both must return the same x. Targets from 50% to 90%, so that short and long searches count.

What bounds each: the direct search one D × N × L product and two D × N passes (mask, masked weights) per candidate;
the curves one such product, spread over small ones, and five D × N × L passes through the cache; the search on
curves three random look-ups per row, rate and iteration.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch

import trim
from trim.retention import EPSILON
from trim.scores import ranks_of, score_order


def direct_search(
    weight: torch.Tensor, inputs: torch.Tensor, score: torch.Tensor, settings: trim.SearchSettings
) -> tuple[float | None, torch.Tensor]:
    """TRIM by masked products (cosim_flat, cosim): the chosen rate and x (D,)."""
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

    start = torch.full((len(weight),), settings.target_sparsity, dtype=torch.float64)
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


def median_seconds(run: Callable[[], object], repeats: int) -> float:
    """Median of `repeats` timings after one warm-up."""
    run()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layer", default="15.mlp.gate_proj")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()

    model = trim.load_model("demo")
    windows = trim.load_corpus("demo", model.tokenizer, split="calibration", windows=64, length=128, seed=0)
    sample = trim.capture(model, windows, layers=[arguments.layer], vectors_per_sequence=2)[arguments.layer]
    score = trim.wanda_score(sample.weight, sample.input_norm)
    build = lambda: trim.retention_curves(sample.weight, sample.inputs, score)  # noqa: E731
    curves = build()
    curves_seconds = median_seconds(build, arguments.repeats)
    rows = []
    for target in (0.5, 0.6, 0.7, 0.8, 0.9):
        settings = trim.SearchSettings(target)
        rate, x = direct_search(sample.weight, sample.inputs, score, settings)
        result = trim.search(curves, settings)
        if result.learning_rate != rate or float((result.row_sparsity - x).abs().max()) > 2 / curves.columns:
            raise SystemExit(f"at {target} the two searches differ: {result.learning_rate} against {rate}")
        direct = median_seconds(
            lambda s=settings: direct_search(sample.weight, sample.inputs, score, s), arguments.repeats
        )
        looked_up = median_seconds(lambda s=settings: trim.search(curves, s), 10 * arguments.repeats)
        rows.append((target, len(result.tried), direct, looked_up))
        print(
            f"T {target:.0%}  rates tried {len(result.tried)}  direct {direct * 1e3:7.1f} ms  "
            f"curves {looked_up * 1e3:5.2f} ms  {direct / looked_up:5.0f} x"
        )
    direct_seconds = statistics.median(row[2] for row in rows)
    report = {
        "benchmark": "layer",
        "shape": list(sample.weight.shape),
        "inputs": curves.vectors,
        "threads": torch.get_num_threads(),
        "device": str(curves.dot.device),
        "search_speedup": statistics.median(row[2] / row[3] for row in rows),
        "search_speedup_least": min(row[2] / row[3] for row in rows),
        "curves_over_direct": curves_seconds / direct_seconds,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
