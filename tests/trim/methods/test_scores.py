"""Scores against loops, and the order in which a row loses its weights."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import trim
from tests.trim import oracle
from trim.methods.scores import ranks_of, score_order

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# Few values in small arrays: nearly every row has ties, and zeros.
tied_scores = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 4), st.integers(1, 40)),
    elements=st.sampled_from([0.0, -0.0, 1e-45, 1e-38, 0.5, 0.50000006, 1.0, 3e38]),
)


@pytest.mark.parametrize("dtype", FLOATS)
def test_wanda_is_size_times_norm(dtype):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(5, 7, generator=generator).to(dtype)
    norm = torch.rand(7, generator=generator).to(dtype)
    score = trim.wanda_score(weight, norm)
    assert score.dtype == torch.float32
    np.testing.assert_allclose(score, weight.float().abs() * norm.float(), rtol=2e-7)


@pytest.mark.parametrize("dtype", FLOATS)
def test_magnitude_is_size(dtype):
    weight = torch.tensor([[-2.0, 0.0, 0.5], [1.0, -0.25, -0.0]], dtype=dtype)
    score = trim.magnitude_score(weight)
    assert score.dtype == torch.float32
    assert score.tolist() == [[2.0, 0.0, 0.5], [1.0, 0.25, 0.0]]


@pytest.mark.parametrize("shape", [(6,), (8,), (7, 1), (1, 7), ()])
def test_wanda_refuses_norms_that_do_not_fit(shape):
    with pytest.raises(trim.ShapeError, match="needs 7 input norms"):
        trim.wanda_score(torch.ones(5, 7), torch.ones(shape))


def test_scores_leave_their_inputs_alone():
    weight, norm = torch.full((2, 3), -1.0), torch.ones(3)
    trim.wanda_score(weight, norm).zero_()
    trim.magnitude_score(weight).zero_()
    assert bool((weight == -1).all())
    assert bool((norm == 1).all())


@given(st.one_of(tied_scores, hnp.arrays(np.float32, (3, 17), elements=st.floats(0, 2.0**127, width=32))))
def test_order_is_stable_and_ranks_are_its_inverse(score):
    order = score_order(torch.from_numpy(score))
    assert order.dtype == torch.int64
    np.testing.assert_array_equal(order.numpy(), oracle.order_of(score))
    np.testing.assert_array_equal(ranks_of(order).numpy(), np.argsort(oracle.order_of(score), axis=1))


@pytest.mark.parametrize("dtype", FLOATS)
def test_order_of_every_float_type(dtype):
    score = torch.tensor([[2.0, 1.0, 2.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0, 0.0]]).to(dtype)
    assert score_order(score).tolist() == [[3, 1, 4, 0, 2], [0, 1, 2, 3, 4]]


def test_float64_scores_are_told_apart_beyond_float32():
    score = torch.tensor([[1.0 + 1e-12, 1.0, 1.0 + 2e-12]], dtype=torch.float64)
    assert score_order(score).tolist() == [[1, 0, 2]]


def test_order_of_scores_that_are_not_contiguous():
    score = torch.rand(9, 6, generator=torch.Generator().manual_seed(1))
    assert torch.equal(score_order(score.T), score_order(score.T.contiguous()))
    assert torch.equal(score_order(score[:, ::2]), score_order(score[:, ::2].contiguous()))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), -1e-3])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_what_is_not_a_score_is_refused(bad, dtype):
    score = torch.ones(3, 4, dtype=dtype)
    score[1, 2] = bad
    with pytest.raises(trim.NonFiniteError, match="finite and at least 0"):
        score_order(score)
