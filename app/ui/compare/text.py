"""Sentences on the numbers of a comparison."""

from diagnostics.comparison import AllocationComparison
from diagnostics.concentration import GiniStatistics
from diagnostics.figures.frame import signed

DISTANCE_FORMULA = r"""
$$
\mathrm{KS} = \sup_s |F(s) - G(s)| \qquad W_1 = \int_0^1 |F(s) - G(s)|\,\mathrm{d}s
$$

$F$ and $G$ are the shares of rows with a row sparsity of at most $s$. KS is their largest gap; $W_1$ is the mean
way that row sparsities must be moved to turn one distribution into the other. Spearman's $\rho$ compares the *order* of
the same rows: 1 the same, 0 unrelated, −1 reversed.
"""


def distance_lines(comparisons: list[AllocationComparison]) -> list[str]:
    """Return a table in Markdown, a line per pair."""
    lines = ["| pair | KS | W₁ | Spearman |", "|---|---|---|---|"]
    for each in comparisons:
        letters = f"{each.first.label[0]}\u2011{each.second.label[0]}"
        lines.append(
            f"| {letters} | {each.ks_distance:.3f} | {each.wasserstein_distance:.4f} | {_order(each)} |"
        )
    return lines


def _order(comparison: AllocationComparison) -> str:
    if comparison.rows_differ is not None:
        return "not paired"
    if comparison.correlation is None or "uniform" in (comparison.first.method, comparison.second.method):
        return "no order"
    return signed(comparison.correlation.coefficient, ".2f")


def distance_text(comparison: AllocationComparison) -> str:
    """Describe the numbers of one pair in plain words."""
    first, second = comparison.first, comparison.second
    shift = second.layer_sparsity - first.layer_sparsity
    words = (
        f"**{first.label[0]} and {second.label[0]}:** at some row sparsity their shares of rows are "
        f"{comparison.ks_distance:.0%} of all rows apart; on average a row's sparsity would have to move by "
        f"{100 * comparison.wasserstein_distance:.1f} percentage points"
    )
    if abs(shift) > 0.0005:
        words += f" ({100 * abs(shift):.1f} of them because the layer sparsities differ)"
    order = _order(comparison)
    if comparison.rows_differ is not None:
        return f"{words}. Rows are not paired: {comparison.rows_differ}."
    if "uniform" in (first.method, second.method) or comparison.correlation is None:
        return f"{words}. Uniform treats all rows alike, so there is no order to compare."
    rho = comparison.correlation.coefficient
    said = "the same rows" if rho > 0.6 else "partly the same rows" if rho > 0.2 else "unrelated rows"
    if rho < -0.2:
        said = "opposite rows"
    return f"{words}. Both prune {said} hardest (Spearman {order})."


def moved_text(comparison: AllocationComparison) -> str:
    """Describe what the scatter of the same rows shows."""
    change = comparison.second.row_sparsity - comparison.first.row_sparsity
    more, less = int((change > 0).sum()), int((change < 0).sum())
    return (
        f"{comparison.second.label} prunes {more:,} rows more and {less:,} rows less than {comparison.first.label}; "
        f"{len(change) - more - less:,} stay."
    )


def gini_text(statistics: GiniStatistics) -> str:
    """Describe what the Gini histograms show."""
    if len(statistics.labels) == 1:
        return (
            f"All compared are allocations of one layer that received the same, so there is one distribution; its "
            f"median is {statistics.summaries[0].median:.3f}."
        )
    order = sorted(
        zip(statistics.summaries, statistics.labels, strict=True), key=lambda pair: -pair[0].median
    )
    return (
        "By median, most concentrated first: "
        + ", ".join(f"{label} {each.median:.3f}" for each, label in order)
        + "."
    )
