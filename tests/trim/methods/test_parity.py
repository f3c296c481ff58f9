"""The twenty parity cases: the authors' own search code, by the agreement of tests/parity/README.md."""

import json
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import trim

CASES = Path(__file__).resolve().parents[2] / "parity"
NAMES = sorted(path.stem for path in CASES.glob("*.json"))
DECIBEL_OR_SQUARE = ("mse", "mse_dim", "snr", "psnr_flat", "psnr_dim", "psnr_sample")


@lru_cache(maxsize=2)
def curves_of(layer: str, score: str) -> trim.RetentionCurves:
    tensors = load_file(CASES / "layers" / f"{layer}.safetensors")
    weight = tensors["weight"].float()
    scores = (
        trim.wanda_score(weight, tensors["input_norm"]) if score == "wanda" else trim.magnitude_score(weight)
    )
    return trim.retention_curves(weight, tensors["inputs"].float(), scores, name=layer)


def test_there_are_twenty_cases():
    assert len(NAMES) == 20
    assert all((CASES / f"{name}.safetensors").exists() for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_agrees_with_the_authors(name):
    case = json.loads((CASES / f"{name}.json").read_text())
    arrays = load_file(CASES / f"{name}.safetensors")
    expected = case["expected"]
    curves = curves_of(case["layer"], case["score"])
    settings = trim.SearchSettings(
        target_sparsity=case["target_sparsity"],
        iterations=case["iterations"],
        layer_quality=case["layer_quality"],
        row_quality=case["row_quality"],
        **({} if case["negative_rates"] else {"negative_learning_rates": ()}),
    )
    result = trim.search(curves, settings)

    assert result.learning_rate == expected["learning_rate"]
    assert [rate for rate, _ in result.tried] == [rate for rate, _ in expected["tried"]]
    assert result.uniform_quality == pytest.approx(expected["uniform_quality"], rel=1e-6, abs=0)
    assert result.layer_quality == pytest.approx(expected["layer_quality"], rel=1e-6, abs=0)
    tolerance = 5e-4 if case["layer_quality"] in DECIBEL_OR_SQUARE else 1e-6
    for (_, quality), (_, expected_quality) in zip(result.tried, expected["tried"], strict=True):
        assert quality == pytest.approx(expected_quality, rel=tolerance, abs=0)

    x, expected_x = result.row_sparsity.double(), arrays["row_sparsity"].double()
    assert (x - expected_x).abs().max() <= 2 / curves.columns
    assert (x - expected_x).abs().mean() <= 1e-4

    uniform = torch.full_like(expected_x, case["target_sparsity"])
    for key, row_sparsity in (("row_cosine_uniform", uniform), ("row_cosine_trim", expected_x)):
        counts = (row_sparsity.double() * curves.columns).floor().clamp(0, curves.columns).long()
        torch.testing.assert_close(curves.at(counts).cosine, arrays[key], rtol=0, atol=1e-6)

    total = round(case["target_sparsity"] * curves.rows * curves.columns)
    assert int(result.counts.sum()) == int(result.uniform_counts.sum()) == total


def test_the_cases_cover_every_outcome():
    rates = [json.loads((CASES / f"{name}.json").read_text())["expected"]["learning_rate"] for name in NAMES]
    assert None in rates
    assert any(rate is not None and rate > 0 for rate in rates)
    assert any(rate is not None and rate < 0 for rate in rates)


# Found by the authors' search on the layer with rows without output, under row quality mse. At 50% their float32 lets
# floor(N · x) of one row be 306 where float64 has N · x = 305.9999984: mse and snr are those of the oracle there.
DEAD_ROWS_UNDER_MSE = [
    (0.5, "cosim_flat", 0.08, 0.997067563851918, 0.999078290338963),
    (0.5, "mse", 0.08, -57.56610492996526, -18.09805025891321),
    (0.5, "snr", 0.08, 22.3237565404629, 27.34910707288808),
    (0.7, "cosim_flat", 0.04, 0.9852637212478856, 0.992181889779209),
    (0.7, "mse", 0.04, -287.5877997482751, -153.10349568288024),
    (0.7, "snr", 0.04, 15.337720408636997, 18.07557392328739),
]


@pytest.mark.parametrize(("target", "measure", "rate", "uniform", "best"), DEAD_ROWS_UNDER_MSE)
def test_dead_rows_under_mse_agree_with_the_authors(target, measure, rate, uniform, best):
    curves = curves_of("synthetic_dead_rows", "wanda")
    assert int(curves.dead_rows.sum()) == 10
    result = trim.search(curves, trim.SearchSettings(target, layer_quality=measure, row_quality="mse"))
    assert result.learning_rate == rate
    assert result.uniform_quality == pytest.approx(uniform, rel=1e-6, abs=0)
    assert result.layer_quality == pytest.approx(best, rel=1e-6, abs=0)
    # Nothing is lost in them, so they lose as much as the cap allows, and no row loses more.
    assert bool((result.row_sparsity[curves.dead_rows] == result.row_sparsity.max()).all())
