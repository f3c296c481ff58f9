"""For each view: the formula behind it, and one sentence that says what is to be seen in this very layer."""

import numpy as np

from app.services.layer.study import Outcome, Study
from diagnostics.allocation import RowAllocation, RowScatter
from diagnostics.row_detail import RowPrices, RowScores
from diagnostics.similarity import CosineDistribution

# What the rows of a scatter may be ordered by, in a sentence.
QUANTITY = {"gini": "Gini", "weight_norm": "weight norm", "cosine": "cosine"}

GINI_FORMULA = r"""
$$
G_i = \frac{\sum_j (2j - N - 1)\, a_{(j)}}{N \sum_j a_{(j)}}
$$

$a_{(1)} \le \dots \le a_{(N)}$ are row $i$'s scores. 0: every weight matters the same. Towards 1: few weights hold
almost all of the score, and the rest can go (Hurley & Rickard 2009).
"""

COSINE_FORMULA = r"""
$$
c_i(k) = \frac{\langle Y_i, \hat Y_i(k)\rangle}{\lVert Y_i\rVert\,\lVert \hat Y_i(k)\rVert}
$$

$Y_i = W_i X$ is the row's output on the calibration vectors, $\hat Y_i(k)$ its output with the $k$ weights of
lowest score removed. 1: pruning changed the length of the output at most. 0: nothing of its direction is left.
"""

ROW_SPARSITY_FORMULA = r"""
$$
\begin{aligned}
d_i &= 2\eta\,\frac{c_i - \min c}{\max c - \min c + 10^{-6}} \\
x &\leftarrow x + d - \bar d \\
x &\leftarrow \mathrm{clip}(x, 0, 0.95) \\
x &\leftarrow x - \bar x + T
\end{aligned}
$$

Ten such updates per learning rate $\eta$; the best one is kept. $x$ becomes whole weights $k_i$ by one common shift
and largest remainders, so that the layer loses exactly $T$ of its weights. Row sparsity is $s_i = k_i / N$.
"""

OPTIMAL_FORMULA = r"""
$$
\min_k \sum_i f_i\, e_i(k_i) \quad\text{with}\quad \sum_i k_i = K
$$

$e_i(k) = \lVert Y_i - \hat Y_i(k)\rVert^2$ is the error that losing its $k$ lowest scores makes in row $i$, $f_i$ what
such an error costs: 1, or the row's empirical Fisher sensitivity. One multiplier $\lambda$ decides for all rows: each
takes the $k$ with the least $f_i\, e_i(k) - \lambda k$. Row sparsity is $s_i = k_i / N$.
"""

RATE_FORMULA = r"""
$\eta > 0$: rows that keep their quality give more weights. $\eta < 0$: rows that lose it do. Rates
.01, .02, .04, .08, .12, .16 are tried in turn until one is not better than the one before; only if none beat
uniform, −.01, −.02, −.04. Layer quality (default) is the cosine between the whole dense and pruned output:

$$
\frac{\sum_i \langle Y_i, \hat Y_i\rangle}{\sqrt{\sum_i \lVert Y_i\rVert^2}\,\sqrt{\sum_i \lVert \hat Y_i\rVert^2}}
$$
"""


LORENZ_FORMULA = r"""
The point at $p$ is the share of the row's whole score that its $p\,N$ weights of lowest score hold together. On the
diagonal every weight matters the same; the Gini is twice the area between the diagonal and the curve.
"""

SCORE_FORMULA = {
    "wanda": r"""
$$
\begin{aligned}
A_{ij} &= |W_{ij}| \cdot n_j \\
n_j &= \sqrt{\textstyle\sum_{\mathrm{tokens}} x_j^2 \,/\, \mathrm{sequences}}
\end{aligned}
$$

Wanda's score: a weight's size times the norm of the input feature it reads (Sun et al., arXiv 2306.11695). A row loses
its weights from the lowest score up.
""",
    "magnitude": r"""
$$
A_{ij} = |W_{ij}|
$$

A weight's size alone. A row loses its weights from the lowest score up.
""",
}

MASK_FORMULA = r"""
A weight is pruned if its score is among the $k_i$ lowest of its row. Each dot of the picture is the share of weights
kept in a small block of the matrix: rows from top to bottom, input features from left to right. Dark columns are
input features whose weights hardly any row needs.
"""


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


def scatter_seen(scatter: RowScatter) -> str:
    """Whether row sparsity goes with another property of the rows."""
    correlation = scatter.correlation
    if correlation is None:
        return "One of the two is the same in every row, so no correlation is defined."
    strength = abs(correlation.coefficient)
    words = "hardly" if strength < 0.2 else "somewhat" if strength < 0.6 else "closely"
    sign = "higher" if correlation.coefficient > 0 else "lower"
    if strength < 0.2:
        return f"The two hardly go together (Spearman {correlation.coefficient:+.2f}).".replace("-", "−")
    return (
        f"Rows with a higher {QUANTITY[scatter.quantity]} got {sign} sparsity, {words} so (Spearman "
        f"{correlation.coefficient:+.2f} over {correlation.rows:,} rows)."
    ).replace("-", "−")


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


def row_path_seen(outcome: Outcome, row: int) -> str:
    """How a row's count was reached."""
    result = outcome.result
    iteration = result.trace.best_iteration(result.learning_rate)
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
