"""Sentences about the numbers of a comparison."""

from diagnostics.comparison import AllocationComparison
from diagnostics.distributions import Distributions
from diagnostics.figures.distributions import RowQuantity
from diagnostics.figures.frame import signed, slot_letter
from diagnostics.format import count_rows, percent, verb

MAX_SPREADS = 4
METHODS_IN_A_FEW_WORDS = {
    "trim": "TRIM: row sparsities learned from how much of its output each row keeps",
    "optimal": "Optimal: the row sparsities of least error",
    "uniform": "Uniform: the same share of every row",
}

DISTANCE_FORMULA = r"""
$$
\mathrm{KS} = \sup_s |F(s) - G(s)| \qquad W_1 = \int_0^1 |F(s) - G(s)|\,\mathrm{d}s
$$

$F(s)$ and $G(s)$: shares of rows with a row sparsity of at most $s$. KS is their largest gap, $W_1$ the mean shift
between them. Spearman's $\rho$ compares the *order* of the same rows: 1 the same, 0 unrelated, −1 reversed.
"""


def spread_text(found: Distributions, quantity: RowQuantity) -> str:
    """Describe the spread of the rows of each set; for many sets only the widest and the narrowest."""
    spreads = {
        slot_letter(each.label): (float(values.min()), float(values.max()))
        for each in found.sets
        if (values := each.values[each.values == each.values]).size
    }

    def spread_of(label: str) -> str:
        return f"{label} {quantity.format(spreads[label][0])} to {quantity.format(spreads[label][1])}"

    if len(spreads) <= MAX_SPREADS:
        return f"Lowest to highest: {'; '.join(map(spread_of, spreads))}."
    by_width = sorted(spreads, key=lambda label: spreads[label][1] - spreads[label][0])
    return f"Widest: {spread_of(by_width[-1])}; narrowest: {spread_of(by_width[0])}."


def agreement_by_layer_text(shares: dict[str, float], first: str, second: str) -> str:
    """Describe in which layers two masks agree least and most."""
    least, most = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    middle = sorted(shares.values())[len(shares) // 2]
    return (
        f"{first} and {second} share {percent(middle)} of what either keeps in the median of "
        f"{len(shares):,} layers, least "
        f"in {least} ({percent(shares[least])}), most in {most} ({percent(shares[most])})."
    )


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
    if comparison.why_unpaired is not None:
        return "not paired"
    if comparison.correlation is None or "uniform" in (comparison.first.method, comparison.second.method):
        return "no order"
    return signed(comparison.correlation.coefficient, ".2f")


def distance_text(comparison: AllocationComparison) -> str:
    """Explain the distances of one pair."""
    first, second = comparison.first, comparison.second
    sentence = (
        f"{first.label[0]} to {second.label[0]}: the distributions lie "
        f"{100 * comparison.wasserstein_distance:.1f} points apart (W₁)"
    )
    shift = abs(second.layer_sparsity - first.layer_sparsity)
    if shift > 0.0005:
        sentence += f", and the layer sparsities {100 * shift:.1f}"
    if comparison.why_unpaired is not None or "uniform" in (first.method, second.method):
        return sentence + "."
    if comparison.correlation is None:
        return sentence + "."
    rho = comparison.correlation.coefficient
    rows = "the same rows" if rho > 0.6 else "partly the same rows" if rho > 0.2 else "unrelated rows"
    if rho < -0.2:
        rows = "opposite rows"
    return f"{sentence}. Both prune {rows} hardest."


def moved_text(comparison: AllocationComparison) -> str:
    """Describe what the scatter of the same rows shows."""
    change = comparison.second.row_sparsity - comparison.first.row_sparsity
    more, less = int((change > 0).sum()), int((change < 0).sum())
    same = len(change) - more - less
    return (
        f"{slot_letter(comparison.second.label)} prunes {count_rows(more)} more and {count_rows(less)} less than "
        f"{slot_letter(comparison.first.label)}; {same:,} {verb(same, 'stay')}."
    )
