"""Sensitivity against Gini over the rows of many layers, and how an optimum that knows both depends on each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diagnostics.numeric import RankCorrelation, check_shape, rank_correlation, real_array, round_edges

MAX_CELLS = 60  # cells of the density along each axis


@dataclass(frozen=True, eq=False)
class LayerRows:
    """The rows of one layer: Gini of their scores (D,), sensitivity (D,), and row sparsity (D,).

    NaN where a row has no Gini.
    """

    name: str
    gini: np.ndarray
    sensitivity: np.ndarray
    row_sparsity: np.ndarray

    @property
    def defined(self) -> np.ndarray:
        """Whether each row has both numbers, (D,) bool; a sensitivity of 0 has no logarithm."""
        defined: np.ndarray = np.isfinite(self.gini) & (self.sensitivity > 0)
        return defined


@dataclass(frozen=True, eq=False)
class SensitivityStatistics:
    """Sensitivity, Gini and row sparsity of L layers.

    Attributes:
        names: the L layers' names.
        correlation: (L,), Spearman of a layer's sensitivities and Ginis.
        by_gini: (L,), R² of the least squares fit of the ranks of a layer's row sparsities by the ranks of its Ginis.
        by_both: (L,), R² of the fit by the ranks of Ginis and sensitivities together. NaN where not defined.
        over_all: Spearman of sensitivity and Gini over all rows.
        density: (h, w), number of rows in each cell of log10 sensitivity (edges (h + 1,)) and Gini (edges (w + 1,)).
    """

    names: tuple[str, ...]
    correlation: np.ndarray
    by_gini: np.ndarray
    by_both: np.ndarray
    over_all: RankCorrelation | None
    density: np.ndarray
    sensitivity_edges: np.ndarray
    gini_edges: np.ndarray


def sensitivity_statistics(layers: Sequence[LayerRows]) -> SensitivityStatistics:
    """Relate sensitivity, Gini and row sparsity within each layer and over all rows.

    Raises:
        ValueError: there is no layer, or arrays of one layer differ in length.
    """
    if not layers:
        raise ValueError("at least one layer is needed")
    correlation, by_gini, by_both = np.array([_relations(each) for each in layers]).T
    gini = np.concatenate([each.gini[each.defined] for each in layers]).astype(np.float64)
    sensitivity = np.concatenate([each.sensitivity[each.defined] for each in layers]).astype(np.float64)
    logarithm = np.log10(sensitivity)
    heights, widths = round_edges([logarithm], MAX_CELLS), round_edges([gini], MAX_CELLS)
    density, *_ = np.histogram2d(logarithm, gini, [heights, widths])
    return SensitivityStatistics(
        tuple(each.name for each in layers),
        correlation,
        by_gini,
        by_both,
        rank_correlation(gini, sensitivity) if len(gini) else None,
        density,
        heights,
        widths,
    )


def _relations(layer: LayerRows) -> tuple[float, float, float]:
    for key in ("gini", "sensitivity", "row_sparsity"):
        values = real_array(f"{key} of {layer.name}", getattr(layer, key), 1, finite=False)
        check_shape(f"{key} of {layer.name}", values, np.shape(layer.gini))
    defined = layer.defined
    pairs = [
        (layer.gini, layer.sensitivity),
        (layer.row_sparsity, layer.gini),
        (layer.row_sparsity, layer.sensitivity),
    ]
    between, own, other = (
        np.nan
        if not defined.any() or (each := rank_correlation(a[defined], b[defined])) is None
        else each.coefficient
        for a, b in pairs
    )
    rest = 1 - between**2
    # R² of least squares on two standardised variables; if they coincide, the second adds nothing.
    both = (own**2 + other**2 - 2 * own * other * between) / rest if rest > 1e-12 else own**2
    return between, own**2, both
