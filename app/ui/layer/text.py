"""The findings of a layer's cards, computed from the shown numbers, and the views that a stored run lacks."""

from collections.abc import Sequence

import numpy as np

from app.services.runs.layer import LayerView, SearchView
from app.ui.common.explanations import OPTIMAL_FORMULA, ROW_SPARSITY_FORMULA, SOLVED_FORMULA
from diagnostics.allocation import RowAllocation
from diagnostics.concentration import LorenzCurve
from diagnostics.format import between, count_rows, number, percent, rate_label
from diagnostics.row_detail import RowPrices, RowScores
from diagnostics.similarity import CosineDistribution

_UNIFORM_FORMULA = r"""
$$
k_i = T\,N
$$

Every row loses the same share of its weights; what is left over by rounding is spread over the first rows. Row sparsity
is $s_i = k_i / N$.
"""
_VARIANT_FORMULA = r"""
Wanda's variant: each row loses its lowest scores until they together hold a share $\alpha$ of the row's score; $\alpha$
is the one at which the layer loses its target. Row sparsity is $s_i = k_i / N$.
"""
_LAYER_FORMULA = "The lowest scores of the whole layer are pruned, whatever their rows."
_ALPS_FORMULA = (
    "Mask and kept weights are solved together, all rows alike (ALPS): row sparsities are an outcome."
)
_SPARSEGPT_FORMULA = (
    "Column after column is pruned, in blocks of 128, and the columns to the right make up for each (SparseGPT): row "
    "sparsities are an outcome."
)
_OWN_FORMULA = "An allocation that was added to this copy of TRIM Lab."
_PATTERN_FORMULA = "An n:m pattern: n zeros in every m weights, the same in every row."
_FORMULAS = {
    "trim": ROW_SPARSITY_FORMULA,
    "optimal": OPTIMAL_FORMULA,
    "uniform": _UNIFORM_FORMULA,
    "variant": _VARIANT_FORMULA,
    "layer": _LAYER_FORMULA,
    "pattern": _PATTERN_FORMULA,
    "solved": SOLVED_FORMULA,
    "alps": _ALPS_FORMULA,
    "sparsegpt": _SPARSEGPT_FORMULA,
}

ROUNDED_DOWN = "at counts rounded down, about half a weight per row too few"
# Views that need data a run does not store.
NO_SCORE = (
    "Lorenz curves and the Gini after pruning need the score of every weight, which a run does not store."
)
NO_ROW_SCORE = (
    "The row's scores, its Lorenz curve and its prices need the weights, which a run does not store; open the layer "
    "with its model to see them."
)
NO_COLUMN_SCORE = "The Gini of columns needs the score of every weight, which a run does not store."
OWN_MASK = "A run stores the mask of its own allocation only."


def row_sparsity_formula(view: LayerView) -> str:
    """Describe how the shown allocations set the rows' sparsities."""
    shown = view.learned or view.allocations
    if len(shown) == 1:
        return _FORMULAS.get(shown[0].method, _OWN_FORMULA)
    return "\n".join(f"**{each.label}**\n{_FORMULAS.get(each.method, _OWN_FORMULA)}" for each in shown)


def kept_finding(view: LayerView) -> str:
    """Describe what the Ginis after pruning show."""
    others = " or ".join(each.label for each in view.learned)
    return (
        "Pruning takes the lowest scores: what is left is spread more evenly than before. A row further left under "
        f"{others} than under uniform kept fewer weights."
    )


def gini_finding(view: LayerView) -> str:
    """Describe what the Gini histogram shows."""
    (summary,) = view.gini.summaries
    if summary.undefined == summary.rows:
        return "All scores are zero: no row has a Gini."
    low, high = np.nanmin(view.coefficients), np.nanmax(view.coefficients)
    everything = between(number(low, 3), number(high, 3))
    if low == high:
        return f"All rows: {everything}."
    half = between(number(summary.lower_quartile, 3), number(summary.upper_quartile, 3))
    return f"Half of the rows: {half}; all: {everything}."


def lorenz_finding(curves: Sequence[LorenzCurve], selected: bool) -> str:
    """Describe what Lorenz curves show: what a tenth of the weights holds."""
    zeros = [str(curve.row) for curve in curves if np.isnan(curve.gini)]
    tops = [
        1 - float(np.interp(0.9, curve.population, curve.share))
        for curve in curves
        if not np.isnan(curve.gini)
    ]
    parts = [] if selected or not curves else ["Shown: the rows with the lowest, middle and highest Gini."]
    if tops:
        several = f" to {percent(max(tops), 0)}" if len(tops) > 1 else ""
        parts.insert(0, f"A tenth of the weights holds {percent(min(tops), 0)}{several} of a row's score.")
    if zeros:
        parts.append(f"All scores are zero in row {', '.join(zeros)}.")
    return " ".join(parts) or "All scores are zero: no row has a curve."


def cosine_finding(view: LayerView) -> str:
    """Describe what the cosine curves show at the target."""
    live = view.cosines[0].cosine[~view.dead_rows]
    if live.size == 0:
        return "No row has any output on this text."
    dead = (
        f" {count_rows(int(view.dead_rows.sum()))} without output left out." if view.dead_rows.any() else ""
    )
    if live.size == 1:
        return f"Under uniform the row keeps a cosine of {number(float(live[0]))}.{dead}"
    return (
        f"Under uniform rows keep a cosine of {between(number(live.min(), 3), number(live.max(), 3))}.{dead}"
    )


def cosine_after_finding(distribution: CosineDistribution) -> str:
    """Describe the rows' cosines under the shown allocations."""
    uniform, *others = distribution.medians
    if np.isnan(uniform):
        return "No row has any output on the calibration text."
    parts = [f"Median: uniform {number(uniform)}"]
    for label, median in zip(distribution.labels[1:], others, strict=True):
        moved = (
            "the same"
            if median == uniform
            else f"{'higher' if median > uniform else 'lower'}, {number(median)}"
        )
        parts.append(f"{label} {moved}")
    return "; ".join(parts) + "."


def row_sparsity_finding(view: LayerView) -> str:
    """Describe what the shown row sparsities show."""
    parts = []
    for allocation in view.learned or view.allocations:
        sparsity = allocation.row_sparsity
        if allocation.method == "trim" and view.search is not None and view.search.learning_rate is None:
            parts.append("No rate beats uniform: TRIM leaves all rows at the target.")
            continue
        parts.append(f"{allocation.label}: {between(percent(sparsity.min()), percent(sparsity.max()))}.")
    return " ".join(parts)


def rate_finding(search: SearchView) -> str:
    """Describe what the learning rates show."""
    trace, rate = search.trace, search.learning_rate
    gain = 0.0 if trace.chosen is None else float(trace.kept_gain[trace.chosen])
    best = None if trace.best in (None, trace.chosen) else trace.best
    if best is not None:
        found = _rate(float(trace.rates[best]))
        if not trace.tried[best]:
            chosen = "TRIM stays uniform" if rate is None else f"TRIM chose {_rate(rate)}"
            text = f"{chosen}; {found}, not tried, would gain more."
        else:
            chosen = "Uniform" if rate is None else _rate(rate)
            text = f"{chosen} wins by rounded counts (×), {found} by exact ones."
    elif rate is None:
        text = f"None of the {int(np.sum(trace.tried))} rates tried beats uniform."
    elif gain <= 0:
        text = f"{_rate(rate)} was chosen {ROUNDED_DOWN}; at exact counts it does not beat uniform."
    elif rate > 0:
        text = f"{_rate(rate)} wins: rows that keep their output are pruned harder."
    else:
        text = f"{_rate(rate)} wins: rows that lose their output are pruned harder."
    if trace.published is None:
        text += f" Read {ROUNDED_DOWN}, as this run kept it."
    return text


def _rate(rate: float) -> str:
    return f"η = {rate_label(rate)}"


def published_finding(search: SearchView) -> str:
    """Explain the crosses over the learning rates."""
    if search.trace.published is None:
        return ""
    return f" Crosses are the quality by which TRIM chooses, {ROUNDED_DOWN}."


def paths_finding(search: SearchView) -> str:
    """Describe what the paths of several rows show."""
    return (
        f"Iteration {search.kept_iteration} was kept; the exact projection then makes whole weights of its x."
    )


def row_scores_finding(scores: RowScores) -> str:
    """Describe the weights that pruning takes from one row."""
    if all(np.isnan(border.score_share) for border in scores.borders):
        return "All scores of this row are zero: its order is that of the columns."
    first, *others = (f"{each.label} {percent(each.score_share)} ({each.pruned}" for each in scores.borders)
    return f"Score pruned: {'), '.join([f'{first} weights', *others])})."


def row_cosine_finding(view: LayerView, row: int) -> str:
    """Describe one row's cosine under the shown allocations."""
    return f"Cosine left: {', '.join(f'{each.label} {number(each.cosine[row])}' for each in view.cosines)}."


def row_path_finding(view: LayerView, search: SearchView, row: int) -> str:
    """Describe how a row's count under TRIM was reached."""
    x, count = float(search.kept_x[row]), int(view.allocation("trim").counts[row])
    return (
        f"Kept: iteration {search.kept_iteration}, x = {number(x)} or {number(x * view.columns, 5)} weights; "
        f"exactly {count}."
    )


def row_stays_finding(view: LayerView, row: int) -> str:
    """Describe why a row has no path: TRIM stayed uniform."""
    return (
        f"No learning rate beat uniform, so the row keeps the layer's target of {percent(view.target, 0)}: "
        f"{int(view.allocation('trim').counts[row])} of its weights are pruned."
    )


def row_prices_finding(prices: RowPrices) -> str:
    """Describe why the optimum takes so many weights of a row."""
    pruned = f"{prices.pruned} weights cost at most λ = {number(prices.common, 3)}"
    if np.isnan(prices.next_price):
        return pruned + "; at the row cap it has none left to give."
    return pruned + f"; the next ones {number(prices.next_price, 3)} each."


def price_unit(view: LayerView) -> str:
    """Return the unit of the optimum's prices."""
    return "error of the output" if view.sensitivity is None else "estimate of the loss"


def mask_finding(allocation: RowAllocation) -> str:
    """Describe what the mask shows."""
    sparsity = allocation.row_sparsity
    return f"Row sparsity {between(percent(sparsity.min()), percent(sparsity.max()))}."
