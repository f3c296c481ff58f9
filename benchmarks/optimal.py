"""The optimal allocation of one layer with known curves, against bisection on the price.

    python -m benchmarks.optimal
    python -m benchmarks.optimal --device cuda --rows 13824 --columns 5120 --vectors 256

The peer is the textbook method, vectorised: bisection on λ, and for each λ one argmin over the whole table, until the
counts jump over the target; then the rows that jump are filled in order. Its cost: each step reads the (D, N + 1) table
of float64 once. The hulls read it once and then hold some forty edges of each row. Both must reach the same loss, to
within one row's jump. Prints one JSON line last.
"""

import torch
from torch import Tensor

from benchmarks.script import median_seconds, print_report, script_parser
from trim.methods.optimal import lower_hull, optimal_counts
from trim.methods.scores import wanda_score
from trim.methods.sweep import retention_curves


def by_bisection(table: Tensor, total: int) -> Tensor:
    """Return counts (D,) at the largest price that prunes at most `total` weights, then fill the rows that jump."""
    places = torch.arange(table.shape[1], dtype=table.dtype, device=table.device)

    def at(price: float) -> Tensor:
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


def main() -> None:
    """Measure and compare."""
    parser = script_parser(__doc__)
    parser.add_argument("--rows", type=int, default=1536)
    parser.add_argument("--columns", type=int, default=576)
    parser.add_argument("--vectors", type=int, default=128)
    parser.add_argument("--target", type=float, default=0.7)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device)

    weight = normal(chosen.rows, chosen.columns) * normal(chosen.rows, 1).exp()
    inputs = normal(chosen.columns, chosen.vectors) * normal(chosen.columns, 1).exp()
    score = wanda_score(weight, inputs.norm(dim=1))
    sensitivity = normal(chosen.rows).exp()
    curves = retention_curves(weight, inputs, score)
    limit, total = int(0.99 * chosen.columns), round(chosen.target * weight.numel())
    table = curves.error[:, : limit + 1].double() * sensitivity.double()[:, None]

    def by_hulls() -> Tensor:
        return optimal_counts(lower_hull(curves.error, limit), total, sensitivity)

    mine, other = by_hulls(), by_bisection(table, total)
    lost, lost_by_bisection = (float(table.gather(1, counts[:, None]).sum()) for counts in (mine, other))
    assert int(mine.sum()) == int(other.sum()) == total
    assert abs(lost - lost_by_bisection) <= 1e-6 * lost_by_bisection + float(table.diff(dim=1).abs().max())
    seconds = median_seconds(by_hulls, chosen.repeats)
    peer = median_seconds(lambda: by_bisection(table, total), chosen.repeats)
    hull_seconds = median_seconds(lambda: lower_hull(curves.error, limit), chosen.repeats)
    curve_seconds = median_seconds(lambda: retention_curves(weight, inputs, score), 3)
    result = {
        "rows": chosen.rows,
        "columns": chosen.columns,
        "device": str(device),
        "seconds": round(seconds, 5),
        "hull_seconds": round(hull_seconds, 5),
        "bisection_seconds": round(peer, 4),
        "speedup_over_bisection": round(peer / seconds, 1),
        "curves_seconds": round(curve_seconds, 5),
        "edges_per_row": round(len(lower_hull(curves.error, limit).row) / chosen.rows, 1),
        "lost": lost,
        "lost_by_bisection": lost_by_bisection,
    }
    print_report("optimal", **result)


if __name__ == "__main__":
    main()
