"""Perplexity against sparsity, for the pages that show curves of several runs."""

from collections.abc import Sequence

import numpy as np

from app.ui.common.cards import View, theme
from diagnostics.figures.perplexity import PerplexityCurve, perplexity_curves_figure
from diagnostics.format import percent
from trim.evaluation.entries import format_perplexity

CURVES_FORMULA = r"""
$$
\mathrm{perplexity} = \exp\Big(-\tfrac{1}{n}\textstyle\sum_t \log p(x_t \mid x_{<t})\Big)
$$

How many next tokens the model is torn between, on average, on text that was not used for calibration. Over seeds: the
geometric mean, with bars from the least to the most.
"""


def curves_text(curves: list[PerplexityCurve], dense: float | None) -> str:
    """Describe which method predicts best at the highest measured sparsity."""
    last = max((s for curve in curves for s in curve.sparsity), default=0.0)
    ends = sorted(
        (by_sparsity[last], curve.label)
        for curve in curves
        if last in (by_sparsity := dict(zip(curve.sparsity, curve.perplexity, strict=True)))
    )
    if not ends:
        return "Nothing was measured."
    (best, name), (worst, other) = ends[0], ends[-1]
    text = f"At {percent(last, 0)} model sparsity {name} predicts best, with a perplexity of {format_perplexity(best)}"
    if len(ends) > 1:
        text += f"; {other} worst, with {format_perplexity(worst)}"
    return text + (f". Dense: {format_perplexity(dense)}." if dense is not None else ".")


def curves_view(
    lines: Sequence[PerplexityCurve], dense: float | None, text: str, finding: str, what: str
) -> View:
    """Show curves of perplexity; `finding` is one sentence, `what` describes the drawing to those who cannot see it."""
    return View(
        perplexity_curves_figure(lines, dense, text, theme()),
        finding,
        CURVES_FORMULA,
        what,
        lambda: {
            "method": np.repeat([line.label for line in lines], [len(line.sparsity) for line in lines]),
            "model_sparsity": np.concatenate([line.sparsity for line in lines]),
            "perplexity": np.concatenate([line.perplexity for line in lines]),
        },
    )
