"""Sensitivity against Gini of all rows of a run that measured both; the optimum depends on both."""

from collections.abc import Callable

import numpy as np

from app.services.results.tables import sensitivity_rows
from app.ui.common.cards import View, theme
from diagnostics.figures.sensitivity import sensitivity_density_figure
from diagnostics.figures.xray import checkpoint_map_figure
from diagnostics.format import change, percent
from diagnostics.model_map import layer_grid
from diagnostics.sensitivity import SensitivityStatistics, sensitivity_statistics
from trim.runs.folder import Run

FORMULA = r"""
$$
f_i = \frac{1}{\text{tokens}} \sum_{\text{tokens}} \left(\frac{\partial\,\text{loss}}{\partial y_i}\right)^2
$$

Sensitivity $f_i$ is what an error in row $i$'s output costs the model's loss; the optimum weighs rows by it, TRIM does
not see it. How far the order of the row sparsities can be read from the Gini, or from both: the share of the variance
of their ranks in a layer that least squares on the ranks of the others explains. Correlations are Spearman's.
"""


def sensitivity_variants(run: Run, other: Run | None) -> dict[str, Callable[[], View]]:
    """Return two views for a card of a run that measured sensitivities.

    Args:
        run: with sensitivities.
        other: a run of TRIM on the same model and target; None: there is none.
    """

    def statistics() -> tuple[SensitivityStatistics, str]:
        found = sensitivity_statistics(sensitivity_rows(run, run))
        finding = sensitivity_finding(found)
        if other is not None and (rows := sensitivity_rows(other, run)):
            finding += " " + shares_finding("TRIM", sensitivity_statistics(rows))
        return found, finding

    def density() -> View:
        found, finding = statistics()
        return View(
            sensitivity_density_figure(found, theme()),
            finding,
            FORMULA,
            "Density of rows by Gini and sensitivity",
            lambda: numbers(found),
        )

    def by_layer() -> View:
        found, finding = statistics()
        return View(
            checkpoint_map_figure(
                *layer_grid(dict(zip(found.names, found.correlation.tolist(), strict=True))),
                title="Where do concentrated rows matter more?",
                subtitle="Rank correlation of the Gini and the sensitivity of a layer's rows.",
                measure="Spearman",
                form="+.2f",
                signed=True,
                theme=theme(),
            ),
            finding,
            FORMULA,
            "Heat map, block by layer type",
            lambda: numbers(found),
        )

    return {"Against sensitivity": density, "Correlation": by_layer}


def numbers(found: SensitivityStatistics) -> dict[str, np.ndarray]:
    """Return a table with a line for each layer."""
    return {
        "layer": np.array(found.names, dtype=str),
        "gini_sensitivity_spearman": found.correlation,
        "order_explained_by_gini": found.by_gini,
        "order_explained_by_both": found.by_both,
    }


def sensitivity_finding(found: SensitivityStatistics) -> str:
    """Describe how Gini and sensitivity correlate, and which of the two decides the optimum's order."""
    finite = found.correlation[np.isfinite(found.correlation)]
    if not finite.size or found.over_all is None:
        return "In no layer do both vary."
    return (
        f"Over {found.over_all.rows:,} rows Gini and sensitivity agree by Spearman "
        f"{change(found.over_all.coefficient)}; within a layer by {change(float(np.median(finite)))} in the median, "
        f"{change(float(finite.min()))} to {change(float(finite.max()))}. "
        + shares_finding("This run", found)
    )


def shares_finding(name: str, found: SensitivityStatistics) -> str:
    """Describe how well the Gini alone, and both, explain a run's order of rows."""
    if not np.isfinite(found.by_gini).any():
        return f"{name} prunes the same share of all rows of a layer."
    return (
        f"{name}: Gini alone explains {percent(float(np.nanmedian(found.by_gini)), 0)} of the order of a layer's row "
        f"sparsities in the median, with sensitivity {percent(float(np.nanmedian(found.by_both)), 0)}."
    )
