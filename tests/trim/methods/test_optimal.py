"""The optimal allocation against every possible one, against random exchanges, and what must hold of any."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from trim.errors import NonFiniteError, SettingsError, ShapeError, SparsityError
from trim.methods.optimal import (
    halfway_totals,
    last_price,
    lower_hull,
    optimal_counts,
    price_summary,
    shared_totals,
)

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")],
    ),
]


def random_error(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    """Curves as pruning makes them: from 0, mostly rising and mostly convex, each row of its own size."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    steps = uniform(rows, columns).sort(dim=1).values ** 3 + 0.2 * uniform(rows, columns) - 0.05
    error = torch.zeros(rows, columns + 1, dtype=torch.float64)
    error[:, 1:] = steps.cumsum(dim=1)
    return error * (4 * uniform(rows, 1)).exp()


def lost(error: torch.Tensor, counts: torch.Tensor, sensitivity: torch.Tensor | None = None) -> float:
    each = error.gather(1, counts[:, None])[:, 0]
    return float((each if sensitivity is None else each * sensitivity).sum())


def least(error: torch.Tensor, total: int, limit: int, sensitivity: torch.Tensor) -> float:
    """The smallest possible loss, by trying every allocation."""
    table = (error * sensitivity[:, None]).numpy()
    return min(
        sum(table[row, k] for row, k in enumerate(counts))
        for counts in itertools.product(range(limit + 1), repeat=len(table))
        if sum(counts) == total
    )


def naive_hull(curve: np.ndarray) -> list[int]:
    """The vertices of one curve's lower hull: always on to the point to which the line is flattest."""
    vertices = [0]
    while (here := vertices[-1]) < len(curve) - 1:
        slopes = [(curve[k] - curve[here]) / (k - here) for k in range(here + 1, len(curve))]
        vertices.append(here + 1 + max(j for j, slope in enumerate(slopes) if slope <= min(slopes) + 1e-12))
    return vertices


def hull_totals(error: torch.Tensor, limit: int, sensitivity: torch.Tensor) -> list[int]:
    """The totals at which the optimum lies on the hull: ends of edges in order of price."""
    hull = lower_hull(error, limit)
    order = torch.sort(hull.price(sensitivity), stable=True).indices
    return [0, *hull.length[order].cumsum(0).tolist()]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("limit", [3, 37, 40, 150])
def test_hull_is_that_of_each_row(limit, device):
    error = random_error(9, 150, seed=limit)
    error[4] = 0.0  # a dead row
    error[5] = torch.arange(151.0)  # a straight line
    error[6] = torch.arange(151.0).sqrt()  # concave: one edge
    error[7, -8:] = error[7, 10]  # falls at the end
    hull = lower_hull(error.to(device), limit)
    for row in range(9):
        mine = hull.row.cpu() == row
        vertices = [0, *hull.length.cpu()[mine].cumsum(0).tolist()]
        assert vertices == naive_hull(error[row, : limit + 1].numpy())
        slopes = hull.slope.cpu()[mine]
        assert bool((slopes[1:] > slopes[:-1]).all())


@pytest.mark.parametrize("seed", range(6))
def test_optimum_against_every_allocation(seed):
    """At hull totals nothing is better; at others no more is lost than one row's jump explains."""
    error = random_error(4, 6, seed)
    sensitivity = torch.rand(4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    limit = 5
    hull = lower_hull(error, limit)
    on_hull = set(hull_totals(error, limit, sensitivity))
    for total in range(4 * limit + 1):
        counts = optimal_counts(hull, total, sensitivity)
        assert int(counts.sum()) == total
        mine, best = lost(error, counts, sensitivity), least(error, total, limit, sensitivity)
        if total in on_hull:
            assert mine == pytest.approx(best, rel=1e-12, abs=1e-12)
        else:
            jump = float((error * sensitivity[:, None]).diff(dim=1).abs().sum(dim=1).max())
            assert best <= mine + 1e-12 <= best + jump


@given(st.integers(1, 12), st.integers(2, 30), st.integers(0, 10**6), st.floats(0, 1), st.floats(0.2, 1))
def test_sums_bounds_exchanges_and_scale(rows, columns, seed, share, cap):
    error = random_error(rows, columns, seed)
    generator = torch.Generator().manual_seed(seed)
    sensitivity = torch.rand(rows, generator=generator, dtype=torch.float64)
    limit = max(1, int(cap * columns))
    hull = lower_hull(error, limit)
    total = round(share * rows * limit)
    counts = optimal_counts(hull, total, sensitivity)
    assert int(counts.sum()) == total
    assert int(counts.min()) >= 0
    assert int(counts.max()) <= limit
    assert torch.equal(counts, optimal_counts(hull, total, sensitivity * 2.0**-40))
    if total:  # more pruned never means less pruned of any row
        assert bool((optimal_counts(hull, total - 1, sensitivity) <= counts).all())
    at_hull = max(t for t in hull_totals(error, limit, sensitivity) if t <= total)
    best = optimal_counts(hull, at_hull, sensitivity)
    kept = lost(error, best, sensitivity)
    for _ in range(20):  # any exchange between two rows loses at least as much
        one, other, moved = torch.randint(0, max(rows, limit), (3,), generator=generator).tolist()
        other_counts = best.clone()
        other_counts[one % rows] += moved % limit + 1
        other_counts[other % rows] -= moved % limit + 1
        if int(other_counts.min()) >= 0 and int(other_counts.max()) <= limit:
            assert lost(error, other_counts, sensitivity) >= kept - 1e-9 * abs(kept) - 1e-12


def test_rows_without_weight_go_first_and_the_flattest_of_them():
    error = random_error(6, 20).cummax(dim=1).values + torch.arange(21.0)  # every weight costs something
    sensitivity = torch.tensor([1.0, 0.0, 2.0, 0.0, 1.0, 3.0])
    hull = lower_hull(error, 19)
    assert optimal_counts(hull, 38, sensitivity).tolist() == [0, 19, 0, 19, 0, 0]
    assert torch.equal(optimal_counts(hull, 60, torch.zeros(6)), optimal_counts(hull, 60))


def test_dead_rows_go_first_and_alike_rows_in_row_order():
    error = random_error(5, 10).abs().cummax(dim=1).values + torch.arange(11.0)
    error[:, 0] = 0
    error[2] = 0
    hull = lower_hull(error, 9)
    assert optimal_counts(hull, 9).tolist() == [0, 0, 9, 0, 0]
    straight = torch.arange(11.0, dtype=torch.float64).expand(4, 11)
    assert optimal_counts(lower_hull(straight, 9), 20).tolist() == [9, 9, 2, 0]


@pytest.mark.parametrize("total", [-1, 46])
def test_a_total_out_of_reach_is_refused(total):
    with pytest.raises(SparsityError, match="cannot lose"):
        optimal_counts(lower_hull(random_error(5, 10), 9), total)


@pytest.mark.parametrize(
    ("sensitivity", "error", "message"),
    [
        (torch.ones(4), ShapeError, "one weight each"),
        (torch.tensor([1, 1, torch.nan, 1, 1]), NonFiniteError, "NaN or infinite"),
        (torch.tensor([1, 1, -1, 1, 1]), SettingsError, "negative"),
    ],
)
def test_sensitivities_that_cannot_be_are_refused(sensitivity, error, message):
    with pytest.raises(error, match=message):
        optimal_counts(lower_hull(random_error(5, 10), 9), 20, sensitivity)


def test_shared_price_adds_up_and_is_that_of_one_layer_made_of_all():
    """Layers that share a price are pruned as if their rows stood in one layer, to the width of a price bin."""
    layers = {f"{index}.fc1": random_error(40, 60, seed=index) * 3.0**index for index in range(4)}
    hulls = {name: lower_hull(error, 59) for name, error in layers.items()}
    sensitivity = {name: torch.rand(40, generator=torch.Generator().manual_seed(9)) for name in layers}
    summaries = {name: price_summary(hull, sensitivity[name]) for name, hull in hulls.items()}
    together = lower_hull(torch.cat(list(layers.values())), 59)
    for total in (0, 1, 777, 4800, 7001, 160 * 59):
        totals = shared_totals(summaries, total)
        assert sum(totals.values()) == total
        assert all(0 <= part <= 40 * 59 for part in totals.values())
        counts = optimal_counts(together, total, torch.cat(list(sensitivity.values())))
        exact = counts.view(4, 40).sum(dim=1).tolist()
        assert totals == pytest.approx(dict(zip(layers, exact, strict=True)), abs=80)


def test_shared_price_splits_a_bin_evenly_and_takes_what_is_free_first():
    rising = torch.arange(11.0, dtype=torch.float64).expand(6, 11)
    alike = price_summary(lower_hull(rising, 10))
    assert shared_totals({"a": alike, "b": alike, "c": alike}, 100) == {"a": 34, "b": 33, "c": 33}
    free = price_summary(lower_hull(torch.zeros(6, 11, dtype=torch.float64), 10))
    assert shared_totals({"a": alike, "b": free}, 61) == {"a": 1, "b": 60}
    with pytest.raises(SparsityError, match="cannot lose"):
        shared_totals({"a": alike, "b": free}, 121)


def test_totals_half_way_to_uniform_ones():
    sizes = {"a": 100, "b": 200, "c": 100}
    assert halfway_totals({"a": 90, "b": 101, "c": 10}, sizes) == {"a": 70, "b": 101, "c": 30}
    assert halfway_totals({"a": 50, "b": 100, "c": 50}, sizes) == {"a": 50, "b": 100, "c": 50}


def test_the_last_price_parts_what_goes_from_what_stays():
    generator = torch.Generator().manual_seed(4)
    error = torch.rand(6, 41, generator=generator, dtype=torch.float64).cumsum(dim=1).square()
    error[:, 0] = 0
    weights = torch.rand(6, generator=generator)
    hull = lower_hull(error, 40)
    for total in (1, 60, 239):
        counts = optimal_counts(hull, total, weights)
        price = last_price(hull, counts, weights)
        for row, count in enumerate(counts.tolist()):
            ends = hull.length[hull.row == row].cumsum(dim=0)
            asked = hull.price(weights)[hull.row == row]
            assert bool((asked[ends <= count] <= price).all())
            assert bool((asked[ends > count] >= price).all())
    assert last_price(hull, torch.zeros(6, dtype=torch.int64), weights) == 0


def test_an_order_by_price_stays_the_caller_s_when_another_thread_stores_its_own():
    hull = lower_hull(random_error(5, 20), 20)
    own, others = torch.linspace(1, 2, 5), torch.linspace(2, 1, 5)
    expected, other = hull.by_price(own).tolist(), (hull.price(others).numpy(), hull.by_price(others))
    assert expected != other[1].tolist()

    class Replaced(list):
        def __setitem__(self, place: slice, stored: list) -> None:
            super().__setitem__(place, [other])

    object.__setattr__(hull, "_orders", Replaced())
    assert hull.by_price(own).tolist() == expected
