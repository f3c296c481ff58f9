"""The layer of the demo model that tests of the Layer page open, and its optimum."""

import torch

import trim

LAYER = "15.mlp.gate_proj"
ADDRESS = {"block": "15", "layer": "mlp.gate_proj"}
ROWS, COLUMNS = 1536, 576
FOUR_CHARTS = ["gini", "cosine", "row_sparsity", "rate"]
MAX_CHART_BYTES = 500_000


def best_counts(curves: trim.RetentionCurves, target: float) -> torch.Tensor:
    """Return the optimal counts if all rows have the same weight."""
    return trim.optimal_counts(
        trim.lower_hull(curves.error, int(0.99 * COLUMNS)), round(target * ROWS * COLUMNS)
    )


def quality_of(curves: trim.RetentionCurves, counts: torch.Tensor) -> float:
    """Return the quality of the layer with these counts."""
    return float(trim.layer_quality(curves.at(counts), "cosim_flat"))
