"""The gap between an allocation and the optimal one: in quality, and row by row."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diagnostics.allocation import RowAllocation
from diagnostics.comparison import RowMove


def captured_share(uniform: float, reached: float, best: float) -> float | None:
    """Return the share of the way from uniform (0) to the best (1); below 0 worse than uniform.

    The values may be qualities, or losses such as the logarithm of a perplexity. The share exceeds 1 if `best` is
    optimal in another measure.

    None if it is not defined: the best equals uniform, or a value is not finite.
    """
    if not all(map(math.isfinite, (uniform, reached, best))) or best == uniform:
        return None
    return (reached - uniform) / (best - uniform)


def quality_captured(uniform: float, reached: float, best: float) -> float | None:
    """Return `captured_share` of qualities (larger is better); None where the best is no better than uniform."""
    return captured_share(uniform, reached, best) if best > uniform else None


def _loss_captured(uniform: float, reached: float, best: float) -> float | None:
    """Return `captured_share` of losses (smaller is better), which no gain makes 0 and not −0."""
    return captured_share(-uniform, -reached, -best)


@dataclass(frozen=True, eq=False)
class AllocationGap:
    """The gap between an allocation of one layer and the optimum.

    Attributes:
        uniform_quality, reached_quality, best_quality: the layer's, at the same layer sparsity; larger is better.
        captured: `captured_share` of the three; None as well where the best is not better than uniform in this quality,
            because it is best in another measure.
        loss_captured: the captured share of the loss that the best minimises, 1 at most; None if not given or not
            defined.
        excess: (D,) row sparsity under `reached` less that under `best`: positive where too much of the row is pruned.
        over, under: the rows with the largest excess, and with the least; each by size, without rows that agree. Each
            `RowMove` goes from the best allocation to the reached one.
        misplaced_share: share of the layer's pruned weights that the best allocation takes from other rows.
    """

    reached: RowAllocation
    best: RowAllocation
    uniform_quality: float
    reached_quality: float
    best_quality: float
    captured: float | None
    loss_captured: float | None
    excess: np.ndarray
    over: tuple[RowMove, ...]
    under: tuple[RowMove, ...]
    misplaced_share: float


def allocation_gap(
    reached: RowAllocation,
    best: RowAllocation,
    *,
    uniform_quality: float,
    reached_quality: float,
    best_quality: float,
    losses: tuple[float, float, float] | None = None,
    limit: int = 10,
) -> AllocationGap:
    """Compare an allocation with the optimal one of the same layer and the same number of pruned weights.

    Args:
        reached: the allocation to judge.
        best: the reference, optimal for some measure.
        uniform_quality: the layer's quality under uniform.
        reached_quality: the layer's quality under `reached`.
        best_quality: the layer's quality under `best`.
        losses: the loss that `best` minimises, under uniform, `reached` and `best`.
        limit: the largest number of rows to list on either side.

    Raises:
        ValueError: the allocations are of different layers, or of different totals.
    """
    if reached.columns != best.columns or len(reached.counts) != len(best.counts):
        raise ValueError(
            f"{reached.label} and {best.label} must be of one layer, not {len(reached.counts)} × {reached.columns} and "
            f"{len(best.counts)} × {best.columns}"
        )
    counts = np.asarray(reached.counts, dtype=np.int64), np.asarray(best.counts, dtype=np.int64)
    total = int(counts[0].sum())
    if total != int(counts[1].sum()):
        raise ValueError(f"{reached.label} prunes {total} weights and {best.label} {int(counts[1].sum())}")
    moved = counts[0] - counts[1]
    excess = moved / reached.columns
    order = np.argsort(-moved, kind="stable")
    return AllocationGap(
        reached,
        best,
        uniform_quality,
        reached_quality,
        best_quality,
        quality_captured(uniform_quality, reached_quality, best_quality),
        None if losses is None else _loss_captured(*losses),
        excess,
        _moves(reached, best, [row for row in order[:limit] if moved[row] > 0]),
        _moves(reached, best, [row for row in np.argsort(moved, kind="stable")[:limit] if moved[row] < 0]),
        int(np.abs(moved).sum()) / 2 / total if total else 0.0,
    )


def _moves(reached: RowAllocation, best: RowAllocation, rows: list[int]) -> tuple[RowMove, ...]:
    return tuple(
        RowMove(int(row), float(best.row_sparsity[row]), float(reached.row_sparsity[row])) for row in rows
    )


@dataclass(frozen=True, eq=False)
class GapCurve:
    """The captured share of an allocation at several targets.

    Attributes:
        targets: (P,) layer sparsities, ascending.
        uniform, reached, best: (P,) the layer's quality.
        reached_loss, best_loss: (P,) the loss that the best minimises, relative to uniform's.
        captured, loss_captured: (P,) shares as in `AllocationGap`. NaN where not defined.
        measure: the quality's name.
    """

    targets: np.ndarray
    uniform: np.ndarray
    reached: np.ndarray
    best: np.ndarray
    reached_loss: np.ndarray
    best_loss: np.ndarray
    captured: np.ndarray
    loss_captured: np.ndarray
    measure: str

    @classmethod
    def of(
        cls,
        targets: Sequence[float],
        qualities: Sequence[tuple[float, float, float]],
        losses: Sequence[tuple[float, float, float]],
        measure: str,
    ) -> "GapCurve":
        """Make the curve from the qualities and losses of uniform, the allocation and the best at each target."""
        uniform, reached, best = np.asarray(qualities, dtype=np.float64).reshape(-1, 3).T
        loss = np.asarray(losses, dtype=np.float64).reshape(-1, 3)
        base = np.where(loss[:, 0] > 0, loss[:, 0], np.nan)
        return cls(
            np.asarray(targets, dtype=np.float64),
            uniform,
            reached,
            best,
            loss[:, 1] / base,
            loss[:, 2] / base,
            np.array([quality_captured(*each) for each in qualities], dtype=np.float64),
            np.array([_loss_captured(*each) for each in losses], dtype=np.float64),
            measure,
        )
