"""Which weights of a layer go, once it is known how many: the allocations and the baselines.

Each takes the layer's curves, its scores, the search's settings, of which most need only the target and the row cap,
and the row weights of the optimal allocation; `ALLOCATIONS` is their table.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from trim.methods.counts import largest_count, total_count, uniform_counts
from trim.methods.masks import keep_highest, keep_largest_of_groups
from trim.methods.optimal import lower_hull, optimal_counts
from trim.methods.pattern import Pattern
from trim.methods.retention import Retained, RetentionCurves, row_cosine
from trim.methods.search import search
from trim.methods.search_settings import SearchSettings
from trim.methods.search_types import SearchResult


@dataclass(frozen=True, eq=False)
class Allocation:
    """What a layer loses.

    Attributes:
        counts: (D,) int64, pruned weights of each row.
        keep: (D, N) bool, True where a weight stays.
        search: TRIM's result, where TRIM searched.
        retained: what the layer retains; None: looked up at the counts, which prune lowest scores first.
    """

    counts: Tensor
    keep: Tensor = field(repr=False)
    search: SearchResult | None = None
    retained: Retained | None = None


def allocate_uniform(
    curves: RetentionCurves, score: Tensor, settings: SearchSettings, sensitivity: Tensor | None = None
) -> Allocation:
    """Plain Wanda: every row the same, the remainder spread over the first rows."""
    counts = uniform_counts(
        curves.rows, settings.target_sparsity, curves.columns, settings.max_row_sparsity
    ).to(curves.dot.device)
    return Allocation(counts, keep_highest(score, curves.sorted_columns, counts))


def allocate_trim(
    curves: RetentionCurves, score: Tensor, settings: SearchSettings, sensitivity: Tensor | None = None
) -> Allocation:
    """TRIM's search."""
    result = search(curves, settings)
    return Allocation(result.counts, keep_highest(score, curves.sorted_columns, result.counts), search=result)


def allocate_optimal(
    curves: RetentionCurves, score: Tensor, settings: SearchSettings, sensitivity: Tensor | None = None
) -> Allocation:
    """The counts that lose least: Σ f_i · error_i with the row weights f (D,); None: all rows weigh alike."""
    total = total_count(settings.target_sparsity, curves.rows, curves.columns, settings.max_row_sparsity)
    hull = lower_hull(curves.error, largest_count(curves.columns, settings.max_row_sparsity))
    counts = optimal_counts(hull, total, sensitivity)
    return Allocation(counts, keep_highest(score, curves.sorted_columns, counts))


def allocate_variant(
    curves: RetentionCurves, score: Tensor, settings: SearchSettings, sensitivity: Tensor | None = None
) -> Allocation:
    """Wanda's variant (appendix of arXiv 2306.11695): each row loses the lowest scores that together hold a share α.

    One α for the layer, found by bisection: the largest whose layer sparsity is not above the target. Rows are not
    capped, and the target is met only as nearly as thresholds allow.
    """
    held = score.gather(1, curves.order).double().cumsum_(dim=1)
    totals = held[:, -1:].clone()
    most = settings.target_sparsity * score.numel()

    def counts_at(share: float) -> Tensor:
        # A row of zeros holds nothing at any share: it counts as the others do on average.
        return torch.where(totals[:, 0] > 0, (held <= share * totals).sum(dim=1), round(most / curves.rows))

    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if int(counts_at(middle).sum()) <= most else (low, middle)
    counts = counts_at(low)
    return Allocation(counts, keep_highest(score, curves.sorted_columns, counts))


def allocate_layer(
    curves: RetentionCurves, score: Tensor, settings: SearchSettings, sensitivity: Tensor | None = None
) -> Allocation:
    """Prune the lowest scores of the whole layer, whatever their rows; of equal ones the first, row by row.

    So the published magnitude pruning ranks (in the code of Wanda, arXiv 2306.11695, and of TRIM). Rows are not capped.
    """
    total = total_count(settings.target_sparsity, curves.rows, curves.columns, 1.0)
    threshold = score.flatten().kthvalue(total).values if total else score.new_tensor(-1.0)
    below, equal = ((score < threshold).sum(dim=1), (score == threshold).sum(dim=1))
    before = equal.cumsum(0) - equal
    counts = below + (total - below.sum() - before).clamp(min=0).minimum(equal)
    return Allocation(counts, keep_highest(score, curves.sorted_columns, counts))


def allocate_pattern(curves: RetentionCurves, score: Tensor, pattern: Pattern) -> Allocation:
    """Prune the lowest scores of each group of neighbours; of equal ones the first."""
    rows, columns = score.shape
    keep = keep_largest_of_groups(score, pattern)
    counts = torch.full((rows,), columns // pattern.group * pattern.zeros, device=score.device)
    return Allocation(counts, keep, retained=MaskRetained(curves, keep))


class MaskRetained(Retained):
    """What is retained under any mask, by one masked product instead of looking up."""

    def __init__(self, curves: RetentionCurves, keep: Tensor) -> None:
        super().__init__(curves, (~keep).sum(dim=1), None)
        self.keep = keep

    @cached_property
    def pruned_output(self) -> Tensor:
        """Ŷ, (D, L) float32."""
        return (self.curves.weight * self.keep) @ self.curves.inputs

    @cached_property
    def dot(self) -> Tensor:
        """(D,) float64."""
        return (self.curves.output.double() * self.pruned_output).sum(dim=1)

    @cached_property
    def energy(self) -> Tensor:
        """(D,) float64."""
        return self.pruned_output.double().square().sum(dim=1)

    @cached_property
    def error(self) -> Tensor:
        """(D,) float64."""
        return (self.curves.output.double() - self.pruned_output).square().sum(dim=1)

    @cached_property
    def cosine(self) -> Tensor:
        """(D,) float64."""
        return row_cosine(self.dot, self.curves.output_norm, self.energy)

    def outputs(self) -> Iterator[Tensor]:
        """The pruned output."""
        yield self.pruned_output
