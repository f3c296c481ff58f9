"""Exact counts: they add up, keep the bounds, follow x; and masks remove exactly the lowest scores."""

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from scipy.optimize import bisect

import trim
from tests.trim import oracle
from trim.methods.masks import pack_bits
from trim.methods.scores import ranks_of, score_order

sparsities = st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.29, 0.3, 0.5, 0.7, 0.95, 1.0]))
# x leaves [0, 1] after the search's mean shift; few distinct values give ties and rows on the bounds.
rows_of_x = st.one_of(
    st.lists(st.floats(-0.3, 1.3), min_size=1, max_size=30),
    st.lists(st.sampled_from([-0.1, 0.0, 0.25, 0.5, 0.7, 0.95, 1.0]), min_size=1, max_size=30),
)
columns = st.integers(1, 200)


def bounds(rows: int, target: float, columns: int, cap: float) -> tuple[int, int]:
    """The total and the most that one row may lose, cap · N as an exact product where it is one."""
    return round(target * rows * columns), min(columns, int(np.floor(np.round(cap * columns, 9))))


def levelled(wanted: np.ndarray, total: int, limit: int) -> np.ndarray:
    """clip(wanted + s, 0, limit) whose sum is the total."""
    ends = -wanted.max() - 1, limit - wanted.min() + 1
    return np.clip(wanted + bisect(lambda s: np.clip(wanted + s, 0, limit).sum() - total, *ends), 0, limit)


@given(rows_of_x, sparsities, columns, sparsities)
@example([0.7] * 3, 0.7, 10, 0.95)
@example([0.5, 0.5, 0.5], 1.0, 1, 1.0)
@example([0.1, 0.9], 0.29, 100, 0.29)
@example([0.2, 0.4, 0.6, 0.8], 0.5, 10, 0.95)  # nothing to round
@example([1.2, 0.5, 0.5, -0.2], 0.5, 10, 0.9)  # a row beyond the cap hands the rest to the others
@example([0.24, 0.26, 0.24, 0.26], 0.25, 10, 0.95)  # to the largest remainders
@example([0.25] * 4, 0.25, 10, 0.95)  # to the first rows
def test_counts_are_the_projection_of_x(x, target, columns, cap):
    total, limit = bounds(len(x), target, columns, cap)
    assume(cap > 0)
    if total > len(x) * limit:
        with pytest.raises(trim.SparsityError, match="cannot lose"):
            trim.project_counts(torch.tensor(x, dtype=torch.float64), total, columns, cap)
        return
    counts = trim.project_counts(torch.tensor(x, dtype=torch.float64), total, columns, cap)
    assert counts.dtype == torch.int64
    counts = counts.numpy()
    assert counts.sum() == total
    assert counts.min() >= 0
    assert counts.max() <= limit

    x = np.array(x)
    exact = levelled(x * columns, total, limit)
    assert (np.abs(counts - exact) < 1 + 1e-6).all()
    # Largest remainder: who was rounded up had no less left over than who was rounded down.
    left_over = exact - np.floor(exact + 1e-7)
    up = counts > np.floor(exact + 1e-7)
    if up.any() and not up.all():
        below = ~up & (counts < limit)
        assert left_over[up].min() >= left_over[below].max(initial=-1) - 1e-6
    # Monotone up to one weight; among equals a lower row never gets less.
    order = np.argsort(-x, kind="stable")
    ordered = counts[order]
    assert (ordered[:-1] >= ordered[1:] - 1).all()
    same = np.diff(x[order]) == 0
    assert (ordered[:-1][same] >= ordered[1:][same]).all()


@given(st.integers(1, 60), sparsities, columns, sparsities)
@example(3, 0.7, 10, 0.95)
@example(1536, 0.7, 576, 0.95)
@example(7, 0.29, 100, 0.29)
def test_uniform_counts(rows, target, columns, cap):
    total, limit = bounds(rows, target, columns, cap)
    assume(cap > 0)
    if total > rows * limit:
        with pytest.raises(trim.SparsityError, match="Lower the target or raise the row cap"):
            trim.total_count(target, rows, columns, cap)
        return
    assert trim.total_count(target, rows, columns, cap) == total
    counts = trim.uniform_counts(rows, total)
    assert torch.equal(trim.uniform_counts(rows, torch.tensor(total)), counts)
    assert counts.dtype == torch.int64
    assert counts.tolist() == [total // rows + (row < total % rows) for row in range(rows)]
    assert int(counts.max()) <= limit
    same = torch.full((rows,), target, dtype=torch.float64)
    assert torch.equal(trim.project_counts(same, total, columns, cap), counts)


def test_a_target_at_the_cap_that_whole_weights_cannot_reach():
    with pytest.raises(
        trim.SparsityError, match=r"layer sparsity of 0\.95 cannot be reached.*reaches 0\.9\."
    ):
        trim.total_count(0.95, 10, 10, 0.95)
    assert trim.total_count(0.9, 10, 10, 0.95) == 90


@pytest.mark.parametrize("target", [-0.1, 1.1, float("nan"), float("inf")])
def test_targets_that_are_not_sparsities(target):
    with pytest.raises(trim.SparsityError, match="target"):
        trim.total_count(target, 4, 10, 1.0)


@given(st.integers(1, 6), st.integers(1, 30), st.integers(0, 1000), st.booleans())
def test_masks_remove_exactly_the_lowest_scores(rows, columns, seed, tied):
    generator = torch.Generator().manual_seed(seed)
    score = torch.rand(rows, columns, generator=generator)
    score = (score * 4).floor() if tied else score
    counts = torch.randint(0, columns + 1, (rows,), generator=generator)
    keep = trim.keep_mask(ranks_of(score_order(score)), counts)
    assert keep.dtype == torch.bool
    for row, lowest in enumerate(oracle.order_of(score)):
        removed = set((~keep[row]).nonzero()[:, 0].tolist())
        assert removed == set(lowest[: int(counts[row])])
    packed = np.packbits(keep.numpy(), axis=1)
    np.testing.assert_array_equal(pack_bits(keep).numpy(), packed)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_apply_mask_in_place(dtype):
    weight = torch.nn.Parameter(torch.randn(5, 8, generator=torch.Generator().manual_seed(0)).to(dtype))
    before = weight.detach().clone()
    keep = torch.rand(5, 8, generator=torch.Generator().manual_seed(1)) > 0.5
    assert trim.apply_mask(weight, keep) is None
    assert weight.requires_grad
    assert weight.dtype == dtype
    assert torch.equal(weight[keep], before[keep])
    assert bool((weight[~keep] == 0).all())
