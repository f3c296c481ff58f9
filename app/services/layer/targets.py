"""A layer that is being explored at all targets: what TRIM and the optimal allocation reach there."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np

from app.services.layer.swept import SweptLayer
from diagnostics.gap import GapCurve
from trim.errors import SparsityError
from trim.methods.search_settings import SearchSettings

CURVE_TARGETS = tuple(percent / 100 for percent in range(30, 100, 5))


@dataclass(frozen=True, eq=False)
class AllTargets:
    """A layer at all of `CURVE_TARGETS`, as far as TRIM's row cap lets its search go.

    Attributes:
        curve: the qualities of TRIM and the optimum at each target.
        counts: (P, D) int32 by method, the number of pruned weights of each row.
    """

    curve: GapCurve
    counts: dict[str, np.ndarray] = field(repr=False)


def all_targets(layer: SweptLayer, settings: SearchSettings, sensitivity: np.ndarray | None) -> AllTargets:
    """Search a layer at all targets.

    Args:
        layer: with its curves.
        settings: the settings of TRIM's search; their target does not matter.
        sensitivity: (D,) the rows' weights; None: all rows weigh the same.
    """
    targets, qualities, losses = [], [], []
    counts: dict[str, list[np.ndarray]] = {"trim": [], "optimal": []}
    for target in CURVE_TARGETS:
        if target > settings.max_row_sparsity:
            break
        try:
            result = layer.search(dataclasses.replace(settings, target_sparsity=target))
        except SparsityError:  # whole weights cannot reach this target under the cap
            break
        best = layer.optimum(result, sensitivity)
        targets.append(target)
        qualities.append((result.uniform_realised_quality, result.realised_quality, best.quality))
        losses.append(best.losses)
        counts["trim"].append(result.counts.astype(np.int32))
        counts["optimal"].append(best.counts.astype(np.int32))
    return AllTargets(
        GapCurve.of(targets, qualities, losses, settings.layer_quality),
        {method: np.array(each).reshape(-1, layer.rows) for method, each in counts.items()},
    )
