"""The formula behind each view, and the finding: one sentence on what this very layer shows."""

from diagnostics.allocation import RowScatter
from diagnostics.format import change
from diagnostics.model_map import MapQuantity

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

SOLVED_FORMULA = r"""
$$
\min_{\hat W} \sum_i f_i \left( \lVert w_i X + e_i - \hat w_i \hat X \rVert^2
+ \lambda \lVert w_i - \hat w_i \rVert^2 \right)
\quad\text{with}\quad K \text{ entries of } \hat W \text{ that are not } 0
$$

$X$ is what the layer receives in the dense model, $\hat X$ in the pruned one; $f_i$ is what an error in row $i$ costs
the loss. Where the output is added to the residual stream, $e_i$ is what that stream has lost before, which the
layer makes up for too; elsewhere it is 0. Mask and kept weights are found together, so row sparsities are an
outcome: rows that matter keep more.
"""

RATE_FORMULA = r"""
$\eta > 0$: rows that keep their quality are pruned harder. $\eta < 0$: rows that lose it are. Rates
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


# Names in sentences of the properties in a scatter of rows.
QUANTITY = {
    "gini": "Gini",
    "weight_norm": "weight norm",
    "cosine": "cosine",
    "row_error_masked": "error by the mask alone",
    "row_error": "error",
    "row_moved": "move of its weights",
}


def scatter_finding(scatter: RowScatter, *, several: bool = False) -> str:
    """Describe whether row sparsity correlates with another property of the rows, for each allocation."""
    name = f"{scatter.allocation.label}: " if several else ""
    if scatter.correlation is None:
        sentence = "one of the two is the same in every row, so no correlation is defined."
    else:
        coefficient = scatter.correlation.coefficient
        found = f"(Spearman {change(coefficient)})"
        degree = "somewhat " if abs(coefficient) < 0.6 else ""
        way = "more" if coefficient > 0 else "less"
        sentence = f"rows of higher {QUANTITY[scatter.quantity]} are pruned {degree}{way} {found}."
        if abs(coefficient) < 0.2:
            sentence = f"the two hardly go together {found}."
    return name + sentence if several else sentence[0].upper() + sentence[1:]


_VARIANCE = r"""
$$
\frac{1}{D}\sum_i \left(c_i - \bar c\right)^2, \qquad
c_i = \frac{\langle Y_i, \hat Y_i\rangle}{\lVert Y_i\rVert\,\lVert \hat Y_i\rVert}
$$

over the rows that have any output; $Y_i$ is a row's dense output on the calibration vectors, $\hat Y_i$ its output as
it was pruned, or with the uniform counts of the same layer sparsity.
"""


_GAIN = r"""
$$
Q(\hat Y_{\text{as pruned}}) - Q(\hat Y_{\text{uniform}})
$$

$Q$ is the layer quality of the run's settings, by default the cosine between the layer's whole dense and pruned output.
Both are taken at exact counts and at the same layer sparsity, each layer receiving what the pruned blocks before it
send.
"""


CHANGE_FORMULA = r"""
$$
\frac{\sum_i \lVert Y_i - \hat w_i \hat X\rVert^2}{\sum_i \lVert Y_i - (m_i \odot w_i) \hat X\rVert^2}, \qquad
\operatorname{median}_i \frac{\lVert \hat w_i - m_i \odot w_i\rVert}{\lVert m_i \odot w_i\rVert}
$$

$\hat X$ are the calibration vectors as the layer receives them, $Y_i$ the outputs that row $i$ aims at, $m_i$ its mask,
$w_i$ its dense and $\hat w_i$ its changed weights.
"""


_AGREEMENT = r"""
Spearman's correlation, over a layer's rows, of the share of the row that is pruned in this run and in the other.
"""


_SPARSITY = r"""
$$
\frac{1}{D\,N}\sum_i k_i
$$

the share of the layer's weights that is pruned. Who sets it is the budget method: uniform, OWL, AlphaPruning or
optimal; weighted by size, the layers add up to the model's sparsity.
"""


_COST = r"""
$$
\mathcal L(\hat W_\ell) - \mathcal L, \qquad
\text{predicted: } \tfrac12 \sum_i f_i\, \overline{\delta_i^2}
$$

$\mathcal L$ is the mean loss per token of the dense model in nats, $\mathcal L(\hat W_\ell)$ with layer $\ell$ alone
pruned as the run pruned it. $f_i$ is the empirical Fisher information of the layer's output row $i$ (mean over tokens
of the squared gradient of the summed loss), $\delta_i$ the error of that output.
"""


_TOKENS = r"""
The tokens of the calibration text that the router sends to the expert with a weight other than 0. Its norms, input
vectors and sensitivities are of these alone.
"""


MAP_FORMULAS: dict[MapQuantity, str] = {
    "median_gini": GINI_FORMULA,
    "layer_sparsity": _SPARSITY,
    "quality_gain": _GAIN,
    "outcome": RATE_FORMULA,
    "row_variance_uniform": _VARIANCE,
    "row_variance": _VARIANCE,
    "row_variance_change": _VARIANCE,
    "error_left": CHANGE_FORMULA,
    "weights_moved": CHANGE_FORMULA,
    "row_agreement": _AGREEMENT,
    "loss_added": _COST,
    "loss_foreseen": _COST,
    "tokens": _TOKENS,
}
