"""Allocations: how many weights each row of a layer loses, given how many the layer loses.

Each takes the scored layer, its total and the search's settings; `ALLOCATIONS` lists them. Those of
`ALLOCATIONS_OF_LAYERS` take layers that were swept together, a total for each, and settings that differ only in the
target.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from trim.methods.counts import largest_count, uniform_counts
from trim.methods.masks import keep_largest, keep_largest_of_groups
from trim.methods.optimal import lower_hull, optimal_counts_of_layers
from trim.methods.pattern import Pattern
from trim.methods.retention import Retained, RetentionCurves, row_cosine
from trim.methods.search import search_layers
from trim.methods.search_settings import SearchSettings
from trim.methods.search_types import SearchResult


@dataclass(frozen=True, eq=False)
class ScoredLayer:
    """A layer, or several that were swept together, with everything from which an allocation is made.

    Attributes:
        curves: the layer's retention curves, the lowest scores first.
        score: (D, N).
        sensitivity: (D,) the rows' weights f in an optimal allocation; None: equal weights.
    """

    curves: RetentionCurves
    score: Tensor
    sensitivity: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Allocation:
    """The pruned weights of a layer.

    Attributes:
        counts: (D,) int64, pruned weights of each row.
        keep: (D, N) bool, True where a weight is kept; None: each row loses its lowest scores.
        search: TRIM's result, where TRIM searched.
        retained: what the layer retains; None: looked up at the counts, which prune lowest scores first.
    """

    counts: Tensor
    keep: Tensor | None = field(default=None, repr=False)
    search: SearchResult[Tensor] | None = None
    retained: Retained | None = None

    def mask(self, curves: RetentionCurves) -> Tensor:
        """Return which weights of the layer of these curves are kept, (D, N) bool."""
        return curves.keep_mask(self.counts) if self.keep is None else self.keep


def join_allocations(allocations: Sequence[Allocation]) -> Allocation:
    """Join the counts of layers that were swept together; the allocation of a single layer is returned unchanged."""
    if len(allocations) == 1:
        return allocations[0]
    return Allocation(torch.cat([each.counts for each in allocations]))


def allocate_uniform(layer: ScoredLayer, total: int, settings: SearchSettings) -> Allocation:
    """Prune equally many weights of every row, as plain Wanda does; the first rows take the remainder."""
    return uniform_of_layers(layer, [total], [settings])[0]


def uniform_of_layers(
    layers: ScoredLayer, totals: Sequence[int], settings: Sequence[SearchSettings]
) -> list[Allocation]:
    """Prune layers as `allocate_uniform` does."""
    counts = uniform_counts(layers.curves.layer_rows, torch.tensor(totals))
    return [Allocation(each) for each in counts.to(layers.curves.dot.device)]


def allocate_trim(layer: ScoredLayer, total: int, settings: SearchSettings) -> Allocation:
    """Search by TRIM."""
    return trim_of_layers(layer, [total], [settings])[0]


def trim_of_layers(
    layers: ScoredLayer, totals: Sequence[int], settings: Sequence[SearchSettings]
) -> list[Allocation]:
    """Search layers by TRIM."""
    results = search_layers(layers.curves, settings, totals)
    return [Allocation(each.counts, search=each) for each in results]


def allocate_optimal(layer: ScoredLayer, total: int, settings: SearchSettings) -> Allocation:
    """Minimise Σ f_i · error_i with the rows' sensitivities f."""
    return optimal_of_layers(layer, [total], [settings])[0]


def optimal_of_layers(
    layers: ScoredLayer, totals: Sequence[int], settings: Sequence[SearchSettings]
) -> list[Allocation]:
    """Find the optimum of each layer by itself."""
    curves = layers.curves
    hull = lower_hull(curves.error, largest_count(curves.columns, settings[0].max_row_sparsity))
    return [Allocation(each) for each in optimal_counts_of_layers(hull, totals, layers.sensitivity)]


def allocate_variant(layer: ScoredLayer, total: int, settings: SearchSettings) -> Allocation:
    """Prune as Wanda's variant (appendix of arXiv 2306.11695): each row's lowest scores, up to a share α of their sum.

    α is the same for all rows of the layer: bisection finds the largest that does not prune more than the total. Rows
    are not capped, and the total is met only as nearly as thresholds allow.
    """
    cumulative = layer.score.gather(1, layer.curves.order).double().cumsum_(dim=1)
    sums = cumulative[:, -1:].clone()

    def counts_at(share: float) -> Tensor:
        # A row of zeros has no share of scores: it loses the average number of weights.
        average = round(total / len(sums))
        return torch.where(sums[:, 0] > 0, (cumulative <= share * sums).sum(dim=1), average)

    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if int(counts_at(middle).sum()) <= total else (low, middle)
    return Allocation(counts_at(low))


def allocate_layer(layer: ScoredLayer, total: int, settings: SearchSettings) -> Allocation:
    """Prune the lowest scores of the layer, whatever their rows; the first ones among equals, row by row.

    The published magnitude pruning ranks this way (in the code of Wanda, arXiv 2306.11695, and TRIM). Rows are not
    capped.
    """
    keep = keep_largest(layer.score.float(), layer.score.numel() - total)
    return Allocation((~keep).sum(dim=1), keep)


def allocate_pattern(layer: ScoredLayer, pattern: Pattern) -> Allocation:
    """Prune the lowest scores of each group of neighbours; the first ones among equals."""
    curves, keep = layer.curves, keep_largest_of_groups(layer.score, pattern)
    counts = torch.full((curves.rows,), pattern.count(curves.columns), device=keep.device)
    return Allocation(counts, keep, retained=MaskRetained(curves, keep))


class MaskRetained(Retained):
    """The retained output under any mask, from one product instead of the curves."""

    def __init__(self, curves: RetentionCurves, keep: Tensor, weight: Tensor | None = None) -> None:
        """Take a mask, and the changed weights (D, N) float32, 0 where pruned; None: the kept ones are unchanged."""
        super().__init__(curves, (~keep).sum(dim=1))
        self.pruned_weight = curves.weight * keep if weight is None else weight

    @cached_property
    def pruned_output(self) -> Tensor:
        """Ŷ, (D, L) float32."""
        return self.pruned_weight @ self.curves.inputs

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
        """Yield the pruned output."""
        yield self.pruned_output
