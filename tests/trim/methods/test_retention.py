"""Retention curves against masking and multiplying anew at every k, in float64."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import load_file

import trim
from tests.trim import oracle

EPS = float(np.finfo(np.float32).eps)
LAYERS = Path(__file__).resolve().parents[2] / "parity" / "layers"


@dataclass(frozen=True)
class Case:
    """A random layer; `kind` says what is special about it."""

    rows: int
    columns: int
    vectors: int
    kind: str
    seed: int

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        generator = np.random.default_rng(self.seed)
        weight = generator.standard_normal((self.rows, self.columns)).astype(np.float32)
        inputs = generator.standard_normal((self.columns, self.vectors)).astype(np.float32)
        if "zero weights" in self.kind:
            weight[generator.random(weight.shape) < 0.4] = 0
        if "dead rows" in self.kind:
            weight[generator.random(self.rows) < 0.4] = 0
        if "zero inputs" in self.kind:
            inputs[generator.random(self.columns) < 0.4] = 0
        if "heavy" in self.kind:
            weight *= np.exp(2 * generator.standard_normal(weight.shape)).astype(np.float32)
            inputs *= np.exp(2 * generator.standard_normal((self.columns, 1))).astype(np.float32)
        score = np.abs(weight) * np.linalg.norm(inputs, axis=1)
        if "ties" in self.kind:
            score = np.floor(score / 3)
        if "shuffled" in self.kind:  # a score that knows nothing of the weights
            score = generator.random(weight.shape)
        return weight, inputs, score.astype(np.float32)


def curves_of(weight, inputs, score) -> trim.RetentionCurves:
    return trim.retention_curves(torch.from_numpy(weight), torch.from_numpy(inputs), torch.from_numpy(score))


kinds = st.sampled_from(
    ["plain", "zero weights", "dead rows", "zero inputs", "ties", "heavy", "shuffled",
     "zero weights, ties", "dead rows, zero inputs, ties", "heavy, shuffled, ties"]
)  # fmt: skip
cases = st.builds(
    Case,
    rows=st.sampled_from([1, 2, 3, 17]),
    columns=st.one_of(st.integers(1, 40), st.sampled_from([31, 32, 33, 63, 64, 65, 97])),
    vectors=st.sampled_from([1, 2, 5, 16]),
    kind=kinds,
    seed=st.integers(0, 1000),
)


@given(cases)
@example(Case(1, 1, 1, "plain", 0))
@example(Case(1, 70, 3, "plain", 1))
@example(Case(300, 1, 2, "dead rows", 2))
@example(Case(128, 32, 4, "ties", 3))
@example(Case(129, 33, 4, "zero weights", 4))
@example(Case(300, 70, 3, "heavy", 5))
@example(Case(4, 60, 1, "zero inputs", 6))
@example(Case(3, 50, 600, "plain", 7))
@example(Case(2, 700, 4, "shuffled", 8))
def test_curves_equal_direct_evaluation_at_every_k(case):
    weight, inputs, score = case.arrays()
    curves = curves_of(weight, inputs, score)
    dot, energy, error = oracle.curves_of(weight, inputs, score)
    for curve in (curves.dot, curves.energy, curves.error):
        assert curve.shape == (case.rows, case.columns + 1)
        assert curve.dtype == torch.float64
    # Where large terms cancel, float32 products leave a difference that is small beside the terms and not
    # beside their sum: 8 roundings of the summed sizes of the terms, root of squares over the vectors.
    ranks = np.argsort(oracle.order_of(score), axis=1)
    sizes = np.abs(weight).astype(np.float64), np.abs(inputs).astype(np.float64)
    dense_slack = 8 * EPS * np.linalg.norm(sizes[0] @ sizes[1], axis=1)[:, None]
    pruned_slack = np.stack(
        [
            8 * EPS * np.linalg.norm(np.where(ranks < k, sizes[0], 0) @ sizes[1], axis=1)
            for k in range(case.columns + 1)
        ],
        axis=1,
    )
    output = np.sqrt(energy[:, :1])
    own = np.maximum(1e-5 * error, 2 * np.sqrt(error) * pruned_slack + pruned_slack**2)
    assert (np.abs(curves.error.numpy() - error) <= own).all()
    own = np.maximum(1e-5 * energy, 2 * np.sqrt(energy) * dense_slack + dense_slack**2)
    assert (np.abs(curves.energy.numpy() - energy) <= own).all()
    own = (output + np.sqrt(energy) + dense_slack) * dense_slack
    assert (np.abs(curves.dot.numpy() - dot) <= np.maximum(1e-5 * np.abs(dot), own)).all()


@given(cases)
def test_ends_of_the_curves_are_exact(case):
    weight, inputs, score = case.arrays()
    curves = curves_of(weight, inputs, score)
    norm = curves.output.double().square().sum(dim=1)
    for exact in (curves.energy[:, 0], curves.dot[:, 0], curves.error[:, -1]):
        torch.testing.assert_close(exact, norm, rtol=1e-12, atol=0)
    for zero in (curves.error[:, 0], curves.energy[:, -1], curves.dot[:, -1]):
        assert bool((zero == 0).all())
    assert bool((curves.energy >= 0).all())
    assert bool((curves.error >= 0).all())
    assert torch.equal(curves.output_energy, curves.energy[:, 0])
    torch.testing.assert_close(curves.output_norm, norm.sqrt(), rtol=1e-12, atol=0)
    peak = curves.output.double().square().amax(dim=1)
    torch.testing.assert_close(curves.output_peak, peak, rtol=1e-12, atol=0)


@pytest.mark.parametrize("layer", ["smollm2_block12_v_proj", "synthetic_heavy_tail"])
def test_error_of_a_real_layer_to_a_hundred_thousandth_of_itself(layer):
    tensors = load_file(LAYERS / f"{layer}.safetensors")
    weight, inputs = tensors["weight"][:16].float(), tensors["inputs"][:, :24].float()
    score = trim.wanda_score(weight, tensors["input_norm"])
    curves = trim.retention_curves(weight, inputs, score)
    dot, energy, error = oracle.curves_of(weight.numpy(), inputs.numpy(), score.numpy())
    np.testing.assert_allclose(curves.error, error, rtol=1e-5, atol=0)
    np.testing.assert_allclose(curves.energy[:, :-1], energy[:, :-1], rtol=1e-4, atol=0)
    np.testing.assert_allclose(curves.dot, dot, rtol=0, atol=1e-6 * energy[:, 0].max())


def test_cosine_falls_from_one_to_zero():
    weight, inputs, score = Case(5, 30, 8, "plain", 4).arrays()
    cosine = curves_of(weight, inputs, score).cosine
    torch.testing.assert_close(cosine[:, 0], torch.ones(5, dtype=torch.float64), rtol=0, atol=1e-6)
    assert bool((cosine[:, -1] == 0).all())
    assert float(cosine.abs().max()) <= 1
    some = torch.tensor([0, 7, 30])
    torch.testing.assert_close(curves_of(weight, inputs, score).cosine_at(some), cosine[:, some])


def test_look_up_of_counts():
    weight, inputs, score = Case(4, 11, 3, "plain", 5).arrays()
    curves = curves_of(weight, inputs, score)
    counts = torch.randint(0, 12, (2, 3, 4), generator=torch.Generator().manual_seed(0))
    retained = curves.at(counts)
    for name in ("dot", "energy", "error", "cosine"):
        expected = getattr(curves, name)[torch.arange(4), counts]
        assert torch.equal(getattr(retained, name), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_float_type_becomes_float32(dtype):
    weight, inputs, score = (
        torch.from_numpy(array).to(dtype) for array in Case(6, 9, 4, "plain", 6).arrays()
    )
    curves = trim.retention_curves(weight, inputs, score)
    single = trim.retention_curves(weight.float(), inputs.float(), score.float())
    assert curves.weight.dtype == curves.inputs.dtype == curves.output.dtype == torch.float32
    for name in ("dot", "energy", "error"):
        assert torch.equal(getattr(curves, name), getattr(single, name))


def test_parameters_and_views_are_welcome():
    weight, inputs, score = (torch.from_numpy(array) for array in Case(6, 9, 4, "plain", 7).arrays())
    expected = trim.retention_curves(weight, inputs, score)
    parameter = torch.nn.Parameter(weight.clone())
    curves = trim.retention_curves(parameter, inputs.T.contiguous().T, trim.magnitude_score(parameter))
    assert not curves.error.requires_grad
    transposed = trim.retention_curves(weight.T.contiguous().T, inputs.T.contiguous().T, score)
    torch.testing.assert_close(transposed.error, expected.error, rtol=1e-6, atol=1e-12)


def test_the_inputs_are_left_alone_and_the_same_twice():
    tensors = [torch.from_numpy(array) for array in Case(140, 45, 7, "plain", 8).arrays()]
    before = [tensor.clone() for tensor in tensors]
    first, second = trim.retention_curves(*tensors), trim.retention_curves(*tensors)
    assert all(torch.equal(*pair) for pair in zip(tensors, before, strict=True))
    for name in ("dot", "energy", "error", "order"):
        assert torch.equal(getattr(first, name), getattr(second, name))


@pytest.mark.parametrize("which", ["weight", "inputs", "score"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_non_finite_values_name_the_layer(which, bad):
    tensors = {"weight": torch.ones(3, 4), "inputs": torch.ones(4, 5), "score": torch.ones(3, 4)}
    tensors[which][2, 1] = bad
    with pytest.raises(trim.NonFiniteError, match=r"15\.mlp\.gate_proj"):
        trim.retention_curves(**tensors, name="15.mlp.gate_proj")


@pytest.mark.parametrize("size", [1e38, 1e30, 1e20, 1e19])
def test_overflow_names_the_layer(size):
    weight = torch.ones(3, 4)
    with pytest.raises(trim.NonFiniteError, match=r"15\.mlp\.gate_proj.*too large"):
        trim.retention_curves(weight, torch.full((4, 5), size), weight, name="15.mlp.gate_proj")


@pytest.mark.parametrize(
    ("weight", "inputs", "score"),
    [
        ((3, 4), (5, 2), (3, 4)),
        ((3, 4), (4, 2), (4, 3)),
        ((3, 4), (4, 2), (3,)),
        ((3, 4), (4,), (3, 4)),
        ((4,), (4, 2), (4,)),
        ((2, 3, 4), (4, 2), (2, 3, 4)),
        ((0, 4), (4, 2), (0, 4)),
        ((3, 0), (0, 2), (3, 0)),
        ((3, 4), (4, 0), (3, 4)),
    ],
)
def test_shapes_that_do_not_fit_name_the_layer(weight, inputs, score):
    with pytest.raises(trim.ShapeError, match=r"0\.self_attn\.q_proj"):
        trim.retention_curves(
            torch.ones(weight), torch.ones(inputs), torch.ones(score), name="0.self_attn.q_proj"
        )
