"""For each view of a stored layer, one sentence that says what is to be seen in it."""

import numpy as np

from app.services.runs.layer import StoredLayer
from app.ui.common.explanations import OPTIMAL_FORMULA, ROW_SPARSITY_FORMULA
from diagnostics.similarity import CosineDistribution
from trim.runs.record import SearchRecord

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
_FORMULAS = {
    "trim": ROW_SPARSITY_FORMULA,
    "optimal": OPTIMAL_FORMULA,
    "uniform": _UNIFORM_FORMULA,
    "variant": _VARIANT_FORMULA,
}


def allocation_formula(layer: StoredLayer) -> str:
    """How the rows' sparsities were set."""
    return _FORMULAS.get(layer.method, "An n:m pattern: n zeros in every m weights, alike in every row.")


def gini_seen(layer: StoredLayer) -> str:
    """What the Gini histogram shows."""
    (summary,) = layer.gini.summaries
    if summary.undefined == summary.rows:
        return "Every row's scores are all zero, so no row has a Gini."
    return (
        f"Half of the rows have a Gini between {summary.lower_quartile:.3f} and {summary.upper_quartile:.3f}. The "
        "further right a row stands, the fewer of its weights it needs."
    )


def cosine_seen(layer: StoredLayer) -> str:
    """What the cosine curves show."""
    live = layer.cosines[0].cosine[~layer.record.dead_rows]
    if live.size == 0:
        return "No row has any output on the calibration text."
    return (
        f"At the same row sparsity rows fare differently: uniform leaves the best row a cosine of {live.max():.3f}, "
        f"the worst {live.min():.3f}."
    )


def cosine_after_seen(distribution: CosineDistribution) -> str:
    """What pruning leaves of the rows' outputs."""
    medians = [
        f"{median:.4f} under {label}"
        for label, median in zip(distribution.labels, distribution.medians, strict=True)
        if not np.isnan(median)
    ]
    return f"Cosine of the median row: {', '.join(medians)}." if medians else "No row has any output."


def row_sparsity_seen(layer: StoredLayer) -> str:
    """What the row sparsities show."""
    sparsity = layer.allocations[-1].row_sparsity
    if layer.record.search is not None and layer.record.search.learning_rate is None:
        return "No learning rate beat uniform, so TRIM left every row at the layer's target."
    return (
        f"{layer.label} prunes between {sparsity.min():.1%} and {sparsity.max():.1%} of a row's weights, "
        f"{np.std(sparsity) * 100:.2f} percentage points around the layer's {sparsity.mean():.1%}."
    )


def rate_seen(search: SearchRecord) -> str:
    """What the learning rates show."""
    tried = f"{len(search.tried)} of {len(search.rates)} rates were tried; the run kept those only."
    if search.learning_rate is None:
        return f"None of them beats uniform. {tried}"
    direction = "keep their quality" if search.learning_rate > 0 else "lose it"
    return f"A rate of {search.learning_rate:+g} wins: rows that {direction} give more weights. {tried}"
