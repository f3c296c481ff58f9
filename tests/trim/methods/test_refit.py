"""Refitted weights against a least-squares solver, row by row."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import trim
from tests.trim import rough
from tests.trim.refit_cases import layer, objective, refitted
from trim.calibration.calibration import Calibration
from trim.calibration.input_listener import InputListener
from trim.calibration.inputs import DenseBatch
from trim.calibration.layers import BatchInput
from trim.calibration.products import ProductsRequest
from trim.methods import least_squares as module
from trim.methods.least_squares import TextProducts
from trim.methods.refit import refit


def solved(weight, keep, dense, pruned, damping=module.DAMPING):
    """The exact minimum, a row at a time."""
    dense, pruned = dense.double().numpy(), pruned.double().numpy()
    gram = pruned @ pruned.T
    ridge = damping * np.diag(gram).mean()
    fitted = np.zeros(weight.shape)
    for row, stays, out in zip(weight.double().numpy(), keep.numpy(), fitted, strict=True):
        wanted = (row @ dense @ pruned.T + ridge * row)[stays]
        out[stays] = np.linalg.solve((gram + ridge * np.eye(len(gram)))[np.ix_(stays, stays)], wanted)
    return torch.from_numpy(fitted)


@pytest.mark.parametrize("damping", [0.01, 1.0])
def test_enough_iterations_solve_it(damping):
    case = layer()
    fitted = refitted(*case, iterations=60, damping=damping)
    torch.testing.assert_close(fitted.double(), solved(*case, damping), rtol=1e-3, atol=1e-4)


def test_the_default_is_near_the_minimum():
    weight, keep, *texts = case = layer(rows=40, columns=200, tokens=1000)
    reached = objective(weight, refitted(*case), *texts)
    least, masked = (objective(weight, each, *texts) for each in (solved(*case), weight * keep))
    assert bool((reached - least < 0.05 * (masked - least)).all())


@given(
    st.integers(1, 5),
    st.integers(1, 12),
    st.integers(1, 30),
    st.floats(0, 1),
    st.integers(0, 9),
    st.integers(1, 30),
)
def test_never_worse_than_the_mask_alone(rows, columns, tokens, sparsity, seed, iterations):
    weight, keep, *texts = case = layer(rows, columns, tokens, sparsity, seed)
    fitted = refitted(*case, iterations=iterations)
    assert bool((fitted[~keep] == 0).all())
    assert bool(fitted.isfinite().all())
    before, after = (objective(weight, each, *texts) for each in (weight * keep, fitted))
    assert bool((after <= before * (1 + 1e-4) + 1e-6 * objective(weight, 0 * weight, *texts)).all())


def test_rows_with_nothing_to_make_up_for_stay():
    weight, keep, dense, _ = layer()
    keep[0], keep[1], weight[2] = True, False, 0
    dense[::3] = 0  # features that never occur
    fitted = refitted(weight, keep, dense, dense)
    assert torch.equal(fitted[0], weight[0])
    assert not bool(fitted[1:3].any())
    silent = refit(weight, keep, TextProducts(torch.zeros(20, 20), torch.zeros(20, 20)))
    assert torch.equal(silent, weight * keep)


def test_rows_at_a_time_do_not_matter(monkeypatch):
    case = layer()
    whole = refitted(*case)
    monkeypatch.setattr(module, "_BLOCK_ENTRIES", 41)
    # A product of fewer rows may round otherwise, and the iterations carry that on.
    torch.testing.assert_close(refitted(*case), whole, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("which", [0, 1])
def test_an_overflowing_text_is_named(which):
    matrices = [torch.eye(20), torch.eye(20)]
    matrices[which][3, 3] = torch.inf
    with pytest.raises(trim.NonFiniteError, match="overflow"):
        TextProducts(*matrices)


def test_products_count_real_tokens_once():
    tokens, mask = rough.random_tokens(), torch.ones(6, 16, dtype=torch.bool)
    mask[1, :5] = False
    linear = torch.nn.Linear(8, 4)
    generator = torch.Generator().manual_seed(0)
    states, dense = (torch.randn(6, 16, 8, generator=generator) for _ in range(2))
    calibration = Calibration.of(tokens, mask)
    whole, apart = (InputListener(calibration, {"0.up": linear}, ProductsRequest(held)) for held in (0, 3))
    for listener in (whole, apart):
        for part in (slice(0, 4), slice(4, 6)):
            with listener.listening(
                part, DenseBatch({"0.up": BatchInput(dense[part].reshape(-1, 8), None)}, None)
            ):
                linear(states[part])
    received = whole.received()["0.up"]
    real = states[mask]
    torch.testing.assert_close(received.text.gram, real.T @ real)
    torch.testing.assert_close(received.text.cross, dense[mask].T @ real)
    torch.testing.assert_close(received.text.gram.diagonal() / 6, received.input_norm.square())
    assert received.held_out is None
    split = apart.received()["0.up"]
    torch.testing.assert_close(split.held_out.gram, states[3:][mask[3:]].T @ states[3:][mask[3:]])
    torch.testing.assert_close((split.text + split.held_out).cross, received.text.cross)
    places = [
        (states[row, at] == received.inputs.T[2 * row]).all(-1).nonzero()[0]
        for row, at in ((0, ...), (5, ...))
    ]
    torch.testing.assert_close(received.dense_inputs.T[0], dense[0, places[0][0]])
    torch.testing.assert_close(received.dense_inputs.T[10], dense[5, places[1][0]])
