"""Masks and weights solved together: against the same steps written out in float64."""

import numpy as np
import pytest
import torch

from tests.trim.refit_cases import layer, objective, products
from trim.errors import NonFiniteError
from trim.methods import solve as module
from trim.methods.alps import alps
from trim.methods.least_squares import TextProducts, shift_inverse
from trim.methods.pattern import Pattern
from trim.methods.refit import refit
from trim.methods.solve import solve
from trim.methods.sparsegpt import sparsegpt


def written_out(weight, text, total, sensitivity):
    """The steps of `solve` on B, Z and V, in float64, with an inverse for each ρ: the set that they choose."""
    weight, gram, cross = (values.double().numpy() for values in (weight, text.gram, text.cross))
    ridge = 0.01 * np.diag(gram).mean()
    columns = np.sqrt(np.diag(gram) + ridge)
    rows = np.sqrt(sensitivity.double().numpy() / float(sensitivity.double().mean()))[:, None]
    scaled_gram = (gram + ridge * np.eye(len(gram))) / np.outer(columns, columns)
    target = (weight @ cross + ridge * weight) / columns * rows

    def largest(values):
        keep = np.zeros(values.size, dtype=bool)
        keep[np.argsort(abs(values).ravel(), kind="stable")[total:]] = True
        return keep.reshape(values.shape)

    dense = weight * columns * rows
    keep = last = largest(dense)
    chosen, multiplier, rho, moved = dense * keep, np.zeros_like(dense), 0.1, False
    for step in range(1, 301):
        free = (target - multiplier + rho * chosen) @ np.linalg.inv(scaled_gram + rho * np.eye(len(gram)))
        keep = largest(free + multiplier / rho)
        chosen = (free + multiplier / rho) * keep
        multiplier = multiplier + rho * (free - chosen)
        if step % 3 == 0:
            changed = (keep != last).sum()
            share, last = changed / keep.sum(), keep
            moved = moved or share > 0.005
            if (moved and not changed) or (step > 30 and share < 0.0003):
                break
            if not moved:
                rho /= 5
                if changed:
                    chosen, multiplier = dense * largest(dense), np.zeros_like(dense)
            else:
                rho *= 1.3 if share > 0.1 else 1.2 if share > 0.005 else 1.1
    return largest(free), step


@pytest.mark.parametrize("sparsity", [0.5, 0.8])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_steps_are_those_written_out(sparsity, seed):
    weight, _, *texts = layer(30, 40, 300, seed=seed)
    text, total = products(*texts), round(sparsity * weight.numel())
    sensitivity = torch.rand(30, generator=torch.Generator().manual_seed(seed)) + 0.1
    expected, steps = written_out(weight, text, total, sensitivity)
    found = solve(weight, text, total, sensitivity=sensitivity, descent=(4, 5))
    assert (found.steps, found.diverged) == (steps, False)
    assert np.array_equal(found.keep.numpy(), expected)
    assert int((~found.keep).sum()) == total
    for row in range(30):  # its kept weights are the exact least squares on them
        kept = found.keep[row]
        gram, cross, dense = (values.double() for values in (text.gram, text.cross, weight[row]))
        ridge = 0.01 * gram.diagonal().mean()
        exact = torch.linalg.solve(
            (gram + ridge * torch.eye(40, dtype=torch.float64))[kept][:, kept],
            (dense @ cross + ridge * dense)[kept],
        )
        torch.testing.assert_close(found.weight[row][kept].double(), exact, rtol=1e-3, atol=1e-4)
        assert not bool(found.weight[row][~kept].any())


@pytest.mark.parametrize("pattern", [None, Pattern(2, 4)])
@pytest.mark.parametrize("method", [solve, alps, sparsegpt])
def test_it_loses_less_than_the_mask_by_size(method, pattern):
    weight, _, dense, _ = layer(24, 32, 300)
    text, total = products(dense, dense), 24 * 16
    found = method(weight, text, total, pattern=pattern)
    assert int((~found.keep).sum()) == total
    if pattern:
        assert bool((found.keep.view(24, 8, 4).sum(dim=2) == 2).all())
    assert not bool(found.weight[~found.keep].any())
    by_size = weight * (weight.abs() >= weight.abs().flatten().kthvalue(total + 1).values)
    assert (
        objective(weight, found.weight, dense, dense).sum()
        < 0.8 * objective(weight, by_size, dense, dense).sum()
    )


@pytest.mark.parametrize("growth", [factor for _, factor in module.GROWTH])
def test_a_raised_inverse(growth):
    _, _, dense, _ = layer(columns=30, tokens=20)
    text = products(dense, dense)
    raised = text.inverse(0.1)
    shift_inverse(raised, 0.1, 0.1 * (growth - 1))
    torch.testing.assert_close(raised, text.inverse(0.1 * growth), rtol=1e-3, atol=1e-3)


def test_rows_that_matter_keep_more():
    weight, _, *texts = layer(20, 40, 300)
    sensitivity = torch.ones(20)
    sensitivity[:5] = 100
    kept = solve(weight, products(*texts), 600, sensitivity=sensitivity).keep.sum(dim=1)
    assert int(kept[:5].min()) > int(kept[5:].max())


@pytest.mark.parametrize("method", [solve, alps, sparsegpt])
def test_budgets_of_nothing_and_of_all(method):
    weight, _, dense, _ = layer()
    text = products(dense, dense)
    nothing, everything = (method(weight, text, total) for total in (0, weight.numel()))
    torch.testing.assert_close(nothing.weight, weight)
    assert bool(nothing.keep.all())
    assert not bool(everything.keep.any())
    assert not bool(everything.weight.any())


@pytest.mark.parametrize("method", [solve, alps, sparsegpt])
def test_silent_and_singular_inputs(method):
    """Inputs that never occur, all of them or some, and fewer tokens than columns."""
    weight, _, dense, _ = layer(columns=30, tokens=12)
    dense[::3] = 0
    for each in (dense, torch.zeros_like(dense)):
        found = method(weight, products(each, each), 90)
        assert int((~found.keep).sum()) == 90
        assert bool(found.weight.isfinite().all())


def test_rows_without_sensitivity_or_weights():
    weight, _, *texts = layer()
    weight[1] = 0
    for sensitivity in (torch.zeros(6), torch.tensor([1.0, 1, 1, 0, 0, 0])):
        found = solve(weight, products(*texts), 72, sensitivity=sensitivity)
        assert int(found.keep.sum()) == 48
        assert bool(found.weight.isfinite().all())


@pytest.mark.parametrize("failure", ["nan", "worse", "decomposition"])
def test_divergence_falls_back_to_the_refit(failure, monkeypatch):
    weight, _, *texts = layer()
    text = products(*texts)

    def broken(scaled, *rest):
        if failure == "decomposition":
            raise torch.linalg.LinAlgError("no eigenvalues")
        return torch.full_like(scaled, torch.nan) if failure == "nan" else 1 / scaled, 3

    monkeypatch.setattr(module, "_alternate", broken)
    found = solve(weight, text, 60)
    assert found.diverged
    begin = solve(weight, text, 60).keep
    torch.testing.assert_close(found.weight, refit(weight, begin, text))


def test_an_overflowing_text_is_refused():
    with pytest.raises(NonFiniteError, match="overflow"):
        TextProducts(torch.full((3, 3), 3e38), torch.eye(3))
