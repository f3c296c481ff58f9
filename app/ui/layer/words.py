"""Sentences of the live layer's cards, computed from the numbers shown."""

import numpy as np

from app.services.layer.study import Outcome, Study
from app.ui.common.explanations import OPTIMAL_FORMULA, ROW_SPARSITY_FORMULA
from diagnostics.allocation import RowAllocation
from diagnostics.row_detail import RowPrices, RowScores
from diagnostics.similarity import CosineDistribution

_FORMULAS = {"trim": ROW_SPARSITY_FORMULA, "optimal": OPTIMAL_FORMULA}


def row_sparsity_formula(outcome: Outcome) -> str:
    """How the shown allocations set the rows' sparsities."""
    shown = [each for each in outcome.allocations if each.method in _FORMULAS]
    if len(shown) == 1:
        return _FORMULAS[shown[0].method]
    return "\n".join(f"**{each.label}**\n{_FORMULAS[each.method]}" for each in shown)


def kept_seen(outcome: Outcome) -> str:
    """What the Ginis after pruning show."""
    others = " or ".join(each.label for each in outcome.allocations[1:])
    return (
        "Pruning takes the lowest scores, so what is left is spread more evenly: every allocation stands left of the "
        f"unpruned layer. Where {others} stands further left than uniform in a row, it kept fewer of its weights."
    )


def gini_seen(study: Study) -> str:
    """What the Gini histogram shows."""
    (summary,) = study.gini.summaries
    (coefficients,) = study.gini.coefficients
    if summary.undefined == summary.rows:
        return "Every row's scores are all zero, so no row has a Gini."
    low, high = np.nanmin(coefficients), np.nanmax(coefficients)
    return (
        f"Half of the rows have a Gini between {summary.lower_quartile:.3f} and {summary.upper_quartile:.3f}; "
        f"the extremes are {low:.3f} and {high:.3f}. The further right a row stands, the fewer of its weights it "
        "needs."
    )


def cosine_seen(study: Study, outcome: Outcome) -> str:
    """What the cosine curves show at the target."""
    uniform = outcome.cosines[0].cosine
    live = uniform[~study.curves.dead_rows.cpu().numpy()]
    if live.size == 0:
        return "No row has any output on the calibration text."
    worst, best = live.min(), live.max()
    return (
        f"At the same sparsity rows fare differently: with uniform sparsity at the target the best row keeps a "
        f"cosine of {best:.3f}, the worst {worst:.3f}. That spread is what TRIM works with."
    )


def cosine_after_seen(distribution: CosineDistribution) -> str:
    """What the shown allocations leave of the rows' outputs."""
    uniform, *others = distribution.medians
    if np.isnan(uniform):
        return "No row has any output on the calibration text."
    parts = []
    for label, median in zip(distribution.labels[1:], others, strict=True):
        verb = "raises" if median > uniform else "lowers" if median < uniform else "leaves"
        parts.append(f"{label} {verb} it to {median:.4f}" if verb != "leaves" else f"{label} leaves it there")
    return f"The median row's cosine is {uniform:.4f} under uniform; {', '.join(parts)}."


def row_sparsity_seen(outcome: Outcome) -> str:
    """What the shown row sparsities show."""
    parts = []
    for allocation in outcome.allocations[1:]:
        sparsity = allocation.row_sparsity
        if allocation.method == "trim" and outcome.result.learning_rate is None:
            parts.append("No learning rate beat uniform, so TRIM left every row at the layer's target.")
            continue
        parts.append(
            f"{allocation.label} prunes between {sparsity.min():.1%} and {sparsity.max():.1%} of a row's weights, "
            f"{np.std(sparsity) * 100:.2f} percentage points around the layer's {sparsity.mean():.1%}."
        )
    return " ".join(parts)


def rate_seen(outcome: Outcome) -> str:
    """What the learning rates show."""
    result, trace = outcome.result, outcome.trace
    tried = len(result.tried)
    text = {
        None: f"None of the {tried} rates tried beats uniform.",
        True: f"A positive rate wins ({result.learning_rate}): rows that keep their quality give more weights.",
        False: f"A negative rate wins ({result.learning_rate}): rows that already lose quality give more weights.",
    }[None if result.learning_rate is None else result.learning_rate > 0]
    if trace.exhaustive is not None and trace.exhaustive != trace.chosen:
        text += f" An exhaustive search would have chosen {trace.rates[trace.exhaustive]:g} instead."
    return text


def lorenz_seen(selected: bool) -> str:
    """What Lorenz curves show."""
    which = (
        ""
        if selected
        else " Shown are the rows with the lowest, middle and highest Gini; select rows to see theirs."
    )
    return "The deeper a curve hangs below the diagonal, the fewer weights hold the row's score." + which


def row_scores_seen(scores: RowScores) -> str:
    """What pruning takes from one row."""
    parts = [
        f"{border.label} prunes {border.pruned} of {scores.columns} weights, which hold {border.score_share:.1%} of "
        "the row's score"
        for border in scores.borders
    ]
    return "; ".join(parts) + "."


def row_cosine_seen(outcome: Outcome, row: int) -> str:
    """What the shown allocations leave of one row."""
    parts = [
        f"{each.label} leaves the row a cosine of {each.cosine[row]:.4f} at {each.row_sparsity[row]:.1%} row sparsity"
        for each in outcome.cosines
    ]
    return "; ".join(parts) + "."


def row_path_seen(outcome: Outcome, iteration: int, row: int) -> str:
    """How a row's count was reached, where `iteration` was kept."""
    result = outcome.result
    x, count = float(result.row_sparsity[row]), int(result.counts[row])
    columns = outcome.allocations[0].columns
    return (
        f"Iteration {iteration} was kept: x = {x:.4f}, that is {x * columns:.2f} of {columns} weights; the exact "
        f"projection makes it {count}."
    )


COST = {"ones": "error of the output", "fisher": "estimate of the loss"}


def row_prices_seen(prices: RowPrices) -> str:
    """Why the optimum takes so many weights of a row."""
    gone = (
        f"The layer's price is λ = {prices.common:.3g}, and {prices.pruned} of the row's weights cost no more"
    )
    if np.isnan(prices.next_price):
        return gone + "; at the row cap it has none left to give."
    return gone + f"; the next ones would cost {prices.next_price:.3g} each."


def mask_seen(allocation: RowAllocation) -> str:
    """What the mask shows."""
    sparsity = allocation.row_sparsity
    return (
        f"{allocation.layer_sparsity:.2%} of the layer's weights are pruned, between {sparsity.min():.1%} and "
        f"{sparsity.max():.1%} of a row's."
    )
