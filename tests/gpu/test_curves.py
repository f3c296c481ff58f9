"""Orders and curves on a CUDA device against those of the CPU."""

import pytest
import torch

import trim
from tests.gpu.layers import Layer, on_gpu

pytestmark = on_gpu

LAYERS = [
    Layer(1, 1, 1),
    Layer(1, 1, 1, torch.float16),
    Layer(5, 1, 3),
    Layer(1, 70, 1),
    Layer(37, 333, 5),
    Layer(130, 1000, 70, torch.bfloat16),
    Layer(64, 4096, 128, torch.float16),
    Layer(33, 5120, 256, torch.float16),
    Layer(9, 41, 300, torch.float16),
    Layer(7, 9001, 513),
    Layer(6, 20000, 17, torch.bfloat16),
    Layer(3, 40000, 9, torch.float16),
    Layer(50, 129, 33, kind="dead rows"),
    Layer(50, 129, 33, kind="ties"),
    Layer(50, 2000, 64, torch.float16, kind="dead rows, zero inputs, ties"),
]


@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_curves_equal_those_of_the_cpu(layer):
    on_cpu, on_gpu = layer.curves("cpu"), layer.curves("cuda")
    assert torch.equal(on_gpu.order.cpu(), on_cpu.order)
    assert torch.equal(on_gpu.ranks.cpu(), on_cpu.ranks)
    whole = on_cpu.output_energy[:, None]
    # Running outputs are float32 on both: of itself for the error, of the dense output's where the output is what
    # remains, and there the more, the more columns were added.
    share = 4e-6 if layer.columns <= 10_000 else 1e-5
    torch.testing.assert_close(on_gpu.error.cpu().double(), on_cpu.error, rtol=1e-5, atol=0)
    assert bool(((on_gpu.energy.cpu() - on_cpu.energy).abs() <= share * whole + 1e-5 * on_cpu.energy).all())
    assert bool(((on_gpu.dot.cpu() - on_cpu.dot).abs() <= share * (whole + on_cpu.error)).all())
    torch.testing.assert_close(
        on_gpu.output.cpu(), on_cpu.output, rtol=1e-5, atol=1e-5 * float(whole.max()) ** 0.5
    )
    for at_ends, expected in ((on_gpu.energy, [1, 0]), (on_gpu.error, [0, 1]), (on_gpu.dot, [1, 0])):
        assert torch.equal(at_ends[:, [0, -1]], on_gpu.energy[:, :1] * torch.tensor(expected, device="cuda"))


@pytest.mark.parametrize("layer", LAYERS[4:8], ids=str)
def test_the_same_twice(layer):
    first, second = layer.curves("cuda"), layer.curves("cuda")
    for name in ("dot", "energy", "error", "order", "output"):
        assert torch.equal(getattr(first, name), getattr(second, name))


@pytest.mark.parametrize("columns", [100, 300, 384, 385, 3000, 6000, 9000, 20000])
@pytest.mark.parametrize("kind", ["close", "equal", "close and equal", "wide", "zeros"])
def test_order_of_scores_that_are_hard_to_tell_apart(kind, columns):
    generator = torch.Generator().manual_seed(columns)
    uniform = torch.rand(6, columns, generator=generator)
    close = 1 + 1e-4 * uniform
    score = {
        "close": close,
        "equal": torch.ones(6, columns),
        "close and equal": torch.where(uniform < 0.5, torch.ones(()), close),
        "wide": torch.exp(15 * torch.randn(6, columns, generator=generator)),
        "zeros": torch.where(uniform < 0.7, torch.zeros(()), uniform * 1e-30),
    }[kind]
    curves = trim.retention_curves(
        torch.ones(6, columns, device="cuda"), torch.ones(columns, 4, device="cuda"), score.cuda()
    )
    assert torch.equal(curves.order.cpu(), torch.argsort(score, dim=1, stable=True))


def test_a_float64_score_is_ordered_as_such():
    score = torch.tensor([[1 + 1e-12, 1.0, 1 - 1e-12]], dtype=torch.float64, device="cuda")
    curves = trim.retention_curves(torch.ones(1, 3, device="cuda"), torch.ones(3, 2, device="cuda"), score)
    assert curves.order.tolist() == [[2, 1, 0]]


def test_views_of_larger_arrays():
    weight, inputs, score = (values.cuda() for values in Layer(12, 96, 40, torch.float16).arrays())
    expected = trim.retention_curves(weight, inputs, score)
    strided = trim.retention_curves(
        weight.T.contiguous().T, torch.cat([inputs, inputs], dim=1)[:, :40], score.T.contiguous().T
    )
    torch.testing.assert_close(strided.error, expected.error, rtol=1e-5, atol=0)


@pytest.mark.parametrize("what", ["weight", "calibration activation", "score"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_named(what, value):
    weight, inputs, score = Layer(12, 96, 40).arrays()
    {"weight": weight, "calibration activation": inputs, "score": score}[what][7, 3] = value
    with pytest.raises(trim.NonFiniteError, match=f"3.up has a {what}|3.up: a {what}"):
        trim.retention_curves(weight.cuda(), inputs.cuda(), score.cuda(), name="3.up")


@pytest.mark.parametrize("vectors", [200, 300, 1000])
@pytest.mark.parametrize(
    ("columns", "value", "message"),
    [(1, float("nan"), "has a cal"), (1, 3e19, "overflows"), (2, 1.2e19, "overflows")],
)
def test_what_only_the_first_vectors_show_is_found(columns, value, message, vectors):
    inputs = torch.ones(columns, vectors)
    inputs[:, 3] = value
    weight, score = torch.ones(3, columns), torch.ones(3, columns)
    with pytest.raises(trim.NonFiniteError, match=message):
        trim.retention_curves(weight.cuda(), inputs.cuda(), score.cuda())


def test_negative_scores_and_overflow_are_refused():
    weight, inputs, score = (values.cuda() for values in Layer(12, 96, 40).arrays())
    negative = score.clone()
    negative[3, 90] = -1e-20
    with pytest.raises(trim.NonFiniteError, match="negative"):
        trim.retention_curves(weight, inputs, negative)
    with pytest.raises(trim.NonFiniteError, match="overflows float32"):
        trim.retention_curves(weight * 1e15, inputs * 1e15, score)
