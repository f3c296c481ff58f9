"""The optimal allocation of a layer that is being explored, beside TRIM's, and what TRIM leaves to gain."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

import trim
from diagnostics.allocation import RowAllocation
from diagnostics.gap import AllocationGap, GapCurve, allocation_gap
from diagnostics.row_detail import RowPrices, row_prices
from trim.methods.choices import OPTIMAL_CAP
from trim.methods.counts import largest_count
from trim.methods.optimal import Hull, last_price

CURVE_TARGETS = tuple(percent / 100 for percent in range(30, 100, 5))


@dataclass(frozen=True, eq=False)
class Optimum:
    """The counts that lose least.

    Attributes:
        counts: (D,) int64, as many in all as TRIM prunes.
        quality: the layer's, in the measure that TRIM searches by.
        losses: Σ f_i · error_i under uniform, TRIM and these counts: what these minimise.
        cap: the most of a row that could be pruned.
        price: λ, what the dearest weight costs that was pruned.
        sensitivity: (D,) the rows' weights f; None: all alike.
    """

    counts: Tensor = field(repr=False)
    quality: float
    losses: tuple[float, float, float]
    cap: float
    price: float
    sensitivity: Tensor | None = field(default=None, repr=False)

    @property
    def row_weights(self) -> str:
        """Return the row weights by their name on the command line."""
        return "ones" if self.sensitivity is None else "fisher"


def optimal_cap(settings: trim.SearchSettings) -> float:
    """Return the optimum's own row cap, unless TRIM's is higher."""
    return max(OPTIMAL_CAP, settings.max_row_sparsity)


class Hulls:
    """The lower hulls of a layer's error curves: one for each row cap, made when it is first asked for."""

    def __init__(self, curves: trim.RetentionCurves) -> None:
        self._curves = curves
        self._hulls: dict[int, Hull] = {}

    @property
    def columns(self) -> int:
        """N."""
        return self._curves.columns

    def under(self, cap: float) -> Hull:
        """Return the hulls up to that cap."""
        limit = largest_count(self._curves.columns, cap)
        if limit not in self._hulls:
            self._hulls[limit] = trim.lower_hull(self._curves.error, limit)
        return self._hulls[limit]


def optimum(
    curves: trim.RetentionCurves, hulls: Hulls, result: trim.SearchResult, sensitivity: Tensor | None
) -> Optimum:
    """Return the optimal counts for the total and the measure of a search.

    Args:
        curves: the layer's retention curves.
        hulls: the convex hulls of their errors.
        result: TRIM's search.
        sensitivity: (D,) the rows' weights; None: all alike.
    """
    cap = optimal_cap(result.settings)
    hull = hulls.under(cap)
    counts = trim.optimal_counts(hull, int(result.counts.sum()), sensitivity)
    retained = curves.at(torch.stack([result.uniform_counts, result.counts, counts]))
    error = retained.error.double()
    if sensitivity is not None:
        error = error * sensitivity.to(error.device, torch.float64)
    quality = float(trim.layer_quality(curves.at(counts), result.settings.layer_quality))
    price = last_price(hull, counts, sensitivity)
    return Optimum(counts, quality, tuple(error.sum(dim=-1).tolist()), cap, price, sensitivity)


def prices_of_row(hulls: Hulls, best: Optimum, row: int) -> RowPrices:
    """Return the prices of a row's weights, and how many of them the optimum takes."""
    hull = hulls.under(best.cap)
    here = hull.row == row
    lengths = hull.length[here].cpu().numpy()
    prices = hull.price(best.sensitivity)[here].cpu().numpy()
    return row_prices(row, lengths, prices, best.price, int(best.counts[row]), hulls.columns)


def layer_gap(
    result: trim.SearchResult,
    best: Optimum,
    allocations: tuple[RowAllocation, RowAllocation],
    gini: np.ndarray,
) -> AllocationGap:
    """Return the gap between TRIM and the optimum in this layer at this target.

    Args:
        result: TRIM's search.
        best: the optimum.
        allocations: TRIM's and the optimal one.
        gini: (D,) of the rows.
    """
    reached, optimal = allocations
    return allocation_gap(
        reached,
        optimal,
        uniform_quality=result.uniform_realised_quality,
        reached_quality=result.realised_quality,
        best_quality=best.quality,
        losses=best.losses,
        gini=gini,
        sensitivity=None if best.sensitivity is None else best.sensitivity.double().cpu().numpy(),
    )


def gap_curve(
    curves: trim.RetentionCurves, hulls: Hulls, settings: trim.SearchSettings, sensitivity: Tensor | None
) -> GapCurve:
    """Return the gaps at `CURVE_TARGETS`, as far as TRIM's row cap lets its search go.

    Args:
        curves: the layer's retention curves.
        hulls: the convex hulls of their errors.
        settings: of TRIM's search; their target does not matter.
        sensitivity: (D,) the rows' weights; None: all alike.
    """
    targets, qualities, losses = [], [], []
    for target in CURVE_TARGETS:
        if target > settings.max_row_sparsity:
            break
        try:
            result = trim.search(curves, dataclasses.replace(settings, target_sparsity=target))
        except trim.SparsityError:  # under this cap whole weights do not reach it
            break
        best = optimum(curves, hulls, result, sensitivity)
        targets.append(target)
        qualities.append((result.uniform_realised_quality, result.realised_quality, best.quality))
        losses.append(best.losses)
    return GapCurve.of(targets, qualities, losses, settings.layer_quality)
