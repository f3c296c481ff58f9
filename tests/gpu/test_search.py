"""Searches on a CUDA device against the CPU's and the authors'."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import trim
from tests.gpu.layers import Layer, on_gpu
from tests.trim.methods.test_parity import DEAD_ROWS_UNDER_MSE

pytestmark = on_gpu

CASES = Path(__file__).resolve().parent.parent / "parity"


def assert_agree(
    on_cpu: trim.SearchResult[torch.Tensor],
    on_gpu: trim.SearchResult[torch.Tensor],
    columns: int,
    rel: float = 1e-5,
) -> None:
    """The GPU agreement of tests/parity/README.md: rates may differ only where their qualities all but tie."""
    close = {"rel": rel, "abs": 1e-9}
    assert on_gpu.uniform_quality == pytest.approx(on_cpu.uniform_quality, **close)
    assert on_gpu.layer_quality == pytest.approx(on_cpu.layer_quality, **close)
    assert int(on_gpu.counts.sum()) == int(on_gpu.uniform_counts.sum()) == int(on_cpu.counts.sum())
    assert torch.equal(on_gpu.uniform_counts.cpu(), on_cpu.uniform_counts)
    assert torch.equal(on_gpu.dead_rows.cpu(), on_cpu.dead_rows)
    if on_gpu.learning_rate != on_cpu.learning_rate:
        qualities = dict(on_cpu.tried)
        uniform = on_cpu.uniform_quality
        other = qualities.get(on_gpu.learning_rate, uniform)
        assert other == pytest.approx(qualities.get(on_cpu.learning_rate, uniform), rel=1e-6)
        return
    assert on_gpu.realised_quality == pytest.approx(on_cpu.realised_quality, **close)
    assert on_gpu.uniform_realised_quality == pytest.approx(on_cpu.uniform_realised_quality, **close)
    x, expected = on_gpu.row_sparsity.cpu(), on_cpu.row_sparsity
    assert float((x - expected).abs().max()) <= 2 / columns
    assert float((x - expected).abs().mean()) <= 1e-4


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("name", sorted(path.stem for path in CASES.glob("*.json")))
def test_parity(name, dtype):
    case = json.loads((CASES / f"{name}.json").read_text())
    tensors = load_file(CASES / "layers" / f"{case['layer']}.safetensors")
    weight = tensors["weight"]
    score = (
        trim.wanda_score(weight, tensors["input_norm"])
        if case["score"] == "wanda"
        else trim.magnitude_score(weight)
    )
    curves = trim.retention_curves(
        weight.to("cuda", dtype), tensors["inputs"].to("cuda", dtype), score.cuda(), name=name
    )
    settings = trim.SearchSettings(
        case["target_sparsity"],
        iterations=case["iterations"],
        layer_quality=case["layer_quality"],
        row_quality=case["row_quality"],
        **({} if case["negative_rates"] else {"negative_learning_rates": ()}),
    )
    result, expected = trim.search(curves, settings), case["expected"]
    assert result.uniform_quality == pytest.approx(expected["uniform_quality"], rel=1e-5)
    assert result.layer_quality == pytest.approx(expected["layer_quality"], rel=1e-5)
    if result.learning_rate != expected["learning_rate"]:
        qualities = dict(expected["tried"])
        uniform = expected["uniform_quality"]
        assert qualities.get(result.learning_rate, uniform) == pytest.approx(
            qualities.get(expected["learning_rate"], uniform), rel=1e-6
        )


def moved(curves: trim.RetentionCurves) -> trim.RetentionCurves:
    """The very same curves on the CPU."""
    fields = {each.name: getattr(curves, each.name) for each in dataclasses.fields(curves)}
    tensors = {name: value.cpu() for name, value in fields.items() if isinstance(value, torch.Tensor)}
    return dataclasses.replace(curves, **tensors, interleaved=None)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize(("target", "measure", "rate", "uniform", "best"), DEAD_ROWS_UNDER_MSE)
def test_dead_rows_under_mse_agree_with_the_authors(target, measure, rate, uniform, best, dtype):
    tensors = load_file(CASES / "layers" / "synthetic_dead_rows.safetensors")
    score = trim.wanda_score(tensors["weight"], tensors["input_norm"])
    weight, inputs = (tensors[name].to("cuda", dtype) for name in ("weight", "inputs"))
    curves = trim.retention_curves(weight, inputs, score.cuda())
    result = trim.search(curves, trim.SearchSettings(target, layer_quality=measure, row_quality="mse"))
    assert result.learning_rate == rate
    assert result.uniform_quality == pytest.approx(uniform, rel=1e-5)
    # In float32 curves one count more or less in a row, by rounding, turns the later updates of this layer elsewhere.
    assert result.layer_quality == pytest.approx(best, rel=2e-3)
    on_cpu = trim.search(moved(curves), result.settings)
    assert result.layer_quality == pytest.approx(on_cpu.layer_quality, rel=6e-8)  # the last digit of float32
    assert bool((result.row_sparsity[curves.dead_rows] == result.row_sparsity.max()).all())


@pytest.mark.parametrize("row_quality", trim.ROW_QUALITIES)
@pytest.mark.parametrize("layer_quality", trim.LAYER_QUALITIES)
@pytest.mark.parametrize("target", [0.5, 0.7, 0.93])
def test_every_pair_of_qualities(layer_quality, row_quality, target):
    layer = Layer(300, 350, 20, kind="dead rows", seed=3)
    settings = trim.SearchSettings(target, layer_quality=layer_quality, row_quality=row_quality)
    assert_agree(
        trim.search(layer.curves("cpu"), settings),
        trim.search(layer.curves("cuda"), settings),
        layer.columns,
        rel=5e-5 if row_quality == "mse" else 1e-5,  # where a count turns by rounding
    )


@pytest.mark.parametrize(
    "layer",
    [
        Layer(1, 1, 1),
        Layer(1, 50, 4),
        Layer(5000, 21, 3),
        Layer(2049, 64, 33, torch.bfloat16),
        Layer(40, 300, 8, kind="ties"),
        Layer(30, 60, 5, kind="zero inputs"),
    ],
    ids=str,
)
@pytest.mark.parametrize("cap", [0.95, 1.0])
@pytest.mark.parametrize("negative", [(), (-0.01, -0.3)])
def test_odd_layers_and_settings(layer, cap, negative):
    settings = trim.SearchSettings(
        0.9 if layer.columns > 20 else cap,
        learning_rates=(0.3, 0.05, 1.5),
        negative_learning_rates=negative,
        iterations=7,
        max_row_sparsity=cap,
    )
    if layer.columns == 1 and cap < 1:
        with pytest.raises(trim.SparsityError):
            trim.search(layer.curves("cuda"), settings)
        return
    assert_agree(
        trim.search(layer.curves("cpu"), settings), trim.search(layer.curves("cuda"), settings), layer.columns
    )


def test_only_negative_rates():
    layer, settings = Layer(64, 200, 9), trim.SearchSettings(0.6, learning_rates=())
    assert_agree(
        trim.search(layer.curves("cpu"), settings), trim.search(layer.curves("cuda"), settings), layer.columns
    )


def test_the_whole_trace():
    layer, settings = Layer(500, 400, 16, kind="dead rows"), trim.SearchSettings(0.7, row_quality="psnr")
    curves = layer.curves("cuda")
    on_gpu, on_cpu = trim.full_trace(curves, settings), trim.full_trace(moved(curves), settings)
    assert tuple(on_gpu.updates) == on_gpu.rates == on_cpu.rates
    torch.testing.assert_close(on_gpu.quality, on_cpu.quality, rtol=1e-5, atol=0)
    # One count more or less in a row, by rounding, moves the variance of a few hundred rows by this much.
    torch.testing.assert_close(on_gpu.row_variance, on_cpu.row_variance, rtol=1e-2, atol=0)
    for rate, x in on_cpu.updates.items():
        torch.testing.assert_close(on_gpu.updates[rate].cpu(), x, rtol=0, atol=3 / layer.columns)


def test_counts_are_those_that_the_cpu_would_find():
    layer = Layer(3000, 90, 12)
    for target in (0.31, 0.7, 0.94):
        result = trim.search(layer.curves("cuda"), trim.SearchSettings(target))
        expected = trim.project_counts(
            result.row_sparsity.cpu(), int(result.counts.sum()), layer.columns, 0.95
        )
        assert int(result.counts.sum()) == round(target * layer.rows * layer.columns)
        assert torch.equal(result.counts.cpu(), expected)


def test_rows_that_are_all_alike_stay_uniform():
    weight = torch.ones(2500, 40, device="cuda")
    curves = trim.retention_curves(weight, torch.ones(40, 3, device="cuda"), weight)
    result = trim.search(curves, trim.SearchSettings(0.5))
    assert result.learning_rate is None
    assert bool((result.row_sparsity == 0.5).all())
    assert result.layer_quality == result.uniform_quality


def test_the_same_twice():
    layer = Layer(700, 256, 64, torch.float16)
    curves = layer.curves("cuda")
    first, second = (trim.search(curves, trim.SearchSettings(0.8)) for _ in range(2))
    for rate, x in first.trace.updates.items():
        assert torch.equal(x, second.trace.updates[rate])
    assert torch.equal(first.trace.quality, second.trace.quality)
    assert torch.equal(first.counts, second.counts)
    assert first.realised_quality == second.realised_quality
