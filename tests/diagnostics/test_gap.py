import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diagnostics.allocation import RowAllocation
from diagnostics.gap import allocation_gap, captured_share


def allocation(counts, columns=50, method="trim"):
    return RowAllocation(method, method, np.asarray(counts), columns)


def gap(reached, best, **more):
    qualities = {"uniform_quality": 0.5, "reached_quality": 0.6, "best_quality": 0.9} | more
    return allocation_gap(allocation(reached), allocation(best, method="optimal"), **qualities)


@pytest.mark.parametrize(
    ("uniform", "reached", "best", "share"),
    [
        (0.5, 0.6, 0.9, 0.25),
        (0.5, 0.5, 0.9, 0.0),
        (0.5, 0.9, 0.9, 1.0),
        (0.5, 0.3, 0.9, -0.5),
        (
            math.log(651),
            math.log(651 / 2),
            math.log(651 / 8),
            1 / 3,
        ),  # perplexities: halved three times, once reached
        (0.5, 0.6, 0.5, None),
        (0.5, 0.6, math.inf, None),
        (math.nan, 0.6, 0.9, None),
    ],
)
def test_captured_share(uniform, reached, best, share):
    found = captured_share(uniform, reached, best)
    assert found is None if share is None else found == pytest.approx(share)


def test_rows_pruned_too_much_and_too_little():
    found = gap([10, 30, 20, 40], [20, 30, 5, 45], gini=np.array([0.1, 0.2, 0.9, 0.15]))
    assert found.captured == pytest.approx(0.25)
    np.testing.assert_allclose(found.excess, [-0.2, 0, 0.3, -0.1])
    assert [(move.row, move.first, move.second) for move in found.over] == [(2, 0.1, 0.4)]
    assert [move.row for move in found.under] == [0, 3]
    assert found.under[0].change == pytest.approx(-0.2)
    assert found.misplaced_share == pytest.approx(0.15)
    assert found.gini.coefficient == pytest.approx(1.0)
    assert found.sensitivity is None


def test_the_same_allocation_leaves_nothing():
    found = gap([10, 20, 30], [10, 20, 30], reached_quality=0.9, sensitivity=np.array([1.0, 2.0, 3.0]))
    assert (found.captured, found.over, found.under, found.misplaced_share) == (1.0, (), (), 0.0)
    assert found.sensitivity is None  # an excess of 0 everywhere has no rank
    assert gap([0, 0], [0, 0]).misplaced_share == 0.0


def test_ties_by_row_and_only_so_many():
    found = gap([5] * 10 + [15] * 10, [10] * 20)
    assert [move.row for move in found.over] == list(range(10, 20))
    assert [move.row for move in found.under] == list(range(10))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=3, max_size=30), st.randoms(use_true_random=False))
def test_misplaced_weights_against_a_count_of_them(counts, random):
    best = list(counts)
    random.shuffle(best)
    found = gap(counts, best)
    taken = sum(max(one - other, 0) for one, other in zip(counts, best, strict=True))
    assert found.misplaced_share == pytest.approx(taken / sum(counts) if sum(counts) else 0)
    assert found.excess.sum() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("reached", "best", "more", "said"),
    [
        ([1, 2], [1, 1, 1], {}, "one layer"),
        ([1, 2], [1, 1], {}, "prunes 3 weights"),
        ([1, 2], [2, 1], {"gini": np.ones(3)}, "gini"),
        ([1, 2], [2, 1], {"sensitivity": np.ones((2, 1))}, "sensitivity"),
    ],
)
def test_what_does_not_fit_is_refused(reached, best, more, said):
    with pytest.raises(ValueError, match=said):
        gap(reached, best, **more)
