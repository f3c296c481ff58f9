"""The optimal allocation: the counts that minimise a layer's weighted error, and totals of layers that share a price.

Minimise Σ_i f_i · error_i(k_i) over the rows, with Σ k_i fixed and 0 ≤ k_i ≤ limit. For a price λ of a weight each row
takes argmin_k f_i · error_i(k) − λ · k on its own, and a λ whose counts add up solves the problem (Everett,
"Generalized Lagrange multiplier method", Operations Research 11, 1963; Shoham and Gersho, "Efficient bit allocation
for an arbitrary set of quantizers", IEEE Trans. ASSP 36, 1988). A row's choice is a vertex of the lower convex hull of
its curve. So sort all edges of all hulls by ascending price: the solution for a total is a prefix of that order. It is
exact where the prefix ends with an edge; otherwise the last row stops within its edge.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from trim.devices import has_kernels
from trim.errors import NonFiniteError, SettingsError, ShapeError, SparsityError
from trim.methods.counts import check_total
from trim.methods.scores import as_array

_KERNEL_ENTRIES = 2**26  # curve entries that the kernels process at a time, with 8 bytes of memory for each
# Layers that share a price sum up their prices in bins: 64 to the octave are 1.1% wide.
BINS_PER_OCTAVE = 64
_FREE = -(2**30)  # the bin of all edges that cost 0 or less


@dataclass(frozen=True, eq=False)
class Hull:
    """The edges of the lower convex hulls of a layer's error curves, row after row, from k = 0 to the limit.

    Attributes:
        rows: D.
        limit: the most weights that a row may lose.
        row: (E,) int64, the row of each edge.
        length: (E,) int64, how many weights each edge spans.
        slope: (E,) float64, error per weight; strictly ascending within a row.
    """

    rows: int
    limit: int
    row: Tensor = field(repr=False)
    length: Tensor = field(repr=False)
    slope: Tensor = field(repr=False)
    _orders: list[tuple[np.ndarray, Tensor]] = field(default_factory=list, init=False, repr=False)

    def price(self, sensitivity: Tensor | None) -> Tensor:
        """Return what each edge costs per weight, f_i · slope, (E,) float64.

        Args:
            sensitivity: (D,) the rows' weights f, finite and not negative; None: equal weights.

        Raises:
            ShapeError: `sensitivity` does not hold one number for each row.
            NonFiniteError: a row's weight is NaN or infinite.
            SettingsError: a row's weight is negative.
        """
        if sensitivity is None:
            return self.slope
        if sensitivity.shape != (self.rows,):
            raise ShapeError(
                f"{self.rows} rows need one weight each, not the shape {tuple(sensitivity.shape)}"
            )
        weight = sensitivity.to(self.slope.device, torch.float64)
        if not bool(weight.isfinite().all()):
            raise NonFiniteError("a row's weight in the optimal allocation is NaN or infinite")
        if bool((weight < 0).any()):
            raise SettingsError("a row's weight in the optimal allocation is negative")
        return weight[self.row] * self.slope + 0.0  # turns −0 into 0: a sort may order them

    def by_price(self, sensitivity: Tensor | None) -> Tensor:
        """Sort the edges by ascending price, then by slope, then by row: (E,) int64.

        On the CPU the last order is cached: another total under the same weights needs no sort.

        Args:
            sensitivity: as for `price`.
        """
        if self.slope.is_cuda:
            order = torch.sort(self.slope, stable=True).indices
            if sensitivity is not None:
                order = order[torch.sort(self.price(sensitivity)[order], stable=True).indices]
            return order
        price = as_array(self.price(sensitivity))
        for cached_price, order in self._orders:  # the last one, which another thread may replace at any time
            if np.array_equal(cached_price, price):
                return order
        order = torch.from_numpy(np.lexsort((as_array(self.slope), price)))
        self._orders[:] = [(price, order)]
        return order


def lower_hull(error: Tensor, limit: int) -> Hull:
    """Find the lower convex hull of each row's curve over 0 ≤ k ≤ limit.

    Args:
        error: (D, N + 1); column k belongs to k pruned weights.
        limit: from 1 to N.
    """
    rows = error.shape[0]
    if has_kernels(error.device) and error.dtype == torch.float32:
        from trim.kernels import hull as kernels

        blocks = min(rows, -(-rows * (limit + 1) // _KERNEL_ENTRIES))
        step = -(-rows // blocks)  # blocks of equal size: a small last one would take as long as the others
        parts = [
            kernels.hull_edges(error[top : top + step, : limit + 1], top) for top in range(0, rows, step)
        ]
        return Hull(rows, limit, *(torch.cat(part) for part in zip(*parts, strict=True)))
    from trim.compiled.hull import hull_edges

    edges = hull_edges(as_array(error.double()), limit)
    return Hull(rows, limit, *(torch.from_numpy(part).to(error.device) for part in edges))


def optimal_counts(hull: Hull, total: int, sensitivity: Tensor | None = None) -> Tensor:
    """Find the counts of the least weighted error, Σ f_i · error_i(k_i).

    Edges are taken in the order of `Hull.by_price`. The flatter edge goes first among equal prices, which decides
    between rows of weight 0. The first edge that does not fit is taken in part.

    Args:
        hull: the lower hull of the layer's error curves.
        total: Σ k_i.
        sensitivity: (D,) the rows' weights f, finite and not negative; None: equal weights.

    Returns:
        (D,) int64, from 0 to the hull's limit.

    Raises:
        SparsityError: the rows cannot lose `total` weights.
        ShapeError, NonFiniteError, SettingsError: as for `Hull.price`.
    """
    return optimal_counts_of_layers(hull, [total], sensitivity)[0]


def optimal_counts_of_layers(hull: Hull, totals: Sequence[int], sensitivity: Tensor | None = None) -> Tensor:
    """Find the counts of each of G layers, (G, D), as `optimal_counts` does.

    Args:
        hull: the hull of the rows of all layers, layer after layer.
        totals: how many weights each layer loses.
        sensitivity: (G · D,) the rows' weights; None: equal weights.
    """
    rows = hull.rows // len(totals)
    for total in totals:
        check_total(total, rows, hull.limit)
    order = hull.by_price(sensitivity)
    if not order.is_cuda and len(totals) == 1:
        from trim.compiled.hull import take_edges

        edges = (as_array(order), as_array(hull.row), as_array(hull.length))
        return torch.from_numpy(take_edges(*edges, totals[0], rows))[None]
    if len(totals) > 1:
        order = order[torch.sort(hull.row[order] // rows, stable=True).indices]
    length, row = hull.length[order], hull.row[order]
    layer = row // rows
    # The edges of a row span the limit together, so those of the layers before span rows · limit each.
    before = torch.cumsum(length, dim=0) - length - layer * (rows * hull.limit)
    room = torch.tensor(totals, device=row.device)[layer] - before
    counts = torch.zeros(hull.rows, dtype=torch.int64, device=row.device)
    return counts.scatter_add_(0, row, torch.minimum(length, room.clamp_(min=0))).view(len(totals), rows)


def last_price(hull: Hull, counts: Tensor, sensitivity: Tensor | None = None) -> float:
    """Return λ, the highest price at which a row lost a weight; 0 if no row lost any.

    Args:
        hull: as for `optimal_counts`.
        counts: (D,) int64, what `optimal_counts` returned.
        sensitivity: as for `optimal_counts`.
    """
    before = torch.cumsum(hull.length, dim=0) - hull.length - hull.row * hull.limit  # in its row
    prices = hull.price(sensitivity)[before < counts[hull.row]]
    return float(prices.max()) if len(prices) else 0.0


@dataclass(frozen=True, eq=False)
class PriceSummary:
    """A histogram of the prices of a layer's weights, a few kilobytes: enough to find a price that layers share.

    Attributes:
        bins: (B,) int64, ascending; floor(64 · log₂ price).
        weights: (B,) int64, how many weights the edges of each bin span.
    """

    bins: np.ndarray
    weights: np.ndarray


def price_summary(hull: Hull, sensitivity: Tensor | None = None) -> PriceSummary:
    """Make the histogram of the prices of a layer's weights.

    Args:
        hull: the layer's lower hull; its error curves must be sums over the same calibration vectors in every layer.
        sensitivity: (D,) the rows' weights f, as for `optimal_counts`.
    """
    price = hull.price(sensitivity)
    bins = torch.where(price > 0, (price.log2() * BINS_PER_OCTAVE).floor(), _FREE).long()
    found, bin_of_edge = torch.unique(bins, return_inverse=True)
    weights = torch.zeros_like(found).scatter_add_(0, bin_of_edge, hull.length)
    return PriceSummary(found.cpu().numpy(), weights.cpu().numpy())


def shared_totals(summaries: Mapping[str, PriceSummary], total: int) -> dict[str, int]:
    """Share a total among layers so that all of them have the same price λ.

    Layers lose all weights below the bin of λ, and equal shares of that bin, rounded by largest remainder.

    Args:
        summaries: the price histograms of any layers, by name.
        total: how many weights the layers lose together.

    Raises:
        SparsityError: the layers cannot lose `total` weights.
    """
    summaries = dict(summaries)
    room = sum(int(summary.weights.sum()) for summary in summaries.values())
    if not 0 <= total <= room:
        raise SparsityError(f"layers that can lose {room:,} weights cannot lose {total:,}; lower the target")
    bins = np.concatenate([summary.bins for summary in summaries.values()])
    weights = np.concatenate([summary.weights for summary in summaries.values()])
    layer = np.repeat(np.arange(len(summaries)), [len(summary.bins) for summary in summaries.values()])
    order = np.argsort(bins, kind="stable")
    reached = np.searchsorted(np.cumsum(weights[order]), total)
    last = bins[order[min(int(reached), len(order) - 1)]]
    below = np.zeros(len(summaries), dtype=np.int64)
    np.add.at(below, layer[bins < last], weights[bins < last])
    within = np.zeros(len(summaries), dtype=np.int64)
    within[layer[bins == last]] = weights[bins == last]
    missing = total - int(below.sum())
    share = within * (missing / within.sum())
    extra = np.minimum(np.floor(share).astype(np.int64), within)
    by_remainder = np.argsort(-np.where(extra < within, share - extra, -1.0), kind="stable")
    extra[by_remainder[: missing - int(extra.sum())]] += 1
    return dict(zip(summaries, (below + extra).tolist(), strict=True))


def halfway_totals(totals: Mapping[str, int], sizes: Mapping[str, int]) -> dict[str, int]:
    """Return the mean of these totals and of uniform ones, with the same sum.

    Prices are computed from masks alone. Where the kept weights are solved, they make up for most of the error, and
    layers differ by less than their prices (docs/optimal.md).

    Args:
        totals: how many weights each layer loses.
        sizes: how many weights each layer has.
    """
    total = sum(totals.values())
    share = total / sum(sizes[name] for name in totals)
    halfway = {name: round((count + share * sizes[name]) / 2) for name, count in totals.items()}
    halfway[max(halfway, key=lambda name: halfway[name])] += total - sum(halfway.values())
    return halfway
