"""What a search hands back, its degenerate cases, and the settings it refuses."""

import numpy as np
import pytest
import torch

import trim
from trim.methods.search import exact_qualities


def curves_of(seed: int = 0, rows: int = 24, columns: int = 41, vectors: int = 5, dead: int = 0):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator)
    weight *= torch.exp(
        torch.rand(rows, 1, generator=generator) * torch.randn(rows, columns, generator=generator)
    )
    weight[:dead] = 0
    inputs = torch.randn(columns, vectors, generator=generator)
    return trim.retention_curves(weight, inputs, trim.wanda_score(weight, inputs.norm(dim=1)))


@pytest.mark.parametrize("seed", range(4))
def test_trace(seed):
    curves = curves_of(seed)
    settings = trim.SearchSettings(0.66, iterations=7)
    result, full = trim.search(curves, settings), trim.full_trace(curves, settings)
    tried = dict(result.tried)
    assert result.trace.rates == full.rates == settings.learning_rates + settings.negative_learning_rates
    assert set(tried) <= set(result.trace.updates)
    assert tuple(full.updates) == full.rates
    for trace in (result.trace, full):
        assert trace.quality.shape == trace.row_variance.shape == (9, 8)
        assert bool((trace.quality[:, 0] == result.uniform_quality).all())
        for row, rate in enumerate(trace.rates):
            if rate not in trace.updates:
                for values in (trace.quality, trace.row_variance):
                    assert bool(torch.isnan(values[row, 1:]).all())
                continue
            x = trace.updates[rate]
            assert x.shape == (8, 24)
            assert bool((x[0] == 0.66).all())
            torch.testing.assert_close(x.mean(dim=1), torch.full((8,), 0.66, dtype=torch.float64))
            # Each quality belongs to the x beside it.
            counts = (x * 41).floor().clamp(0, 41).long()
            retained = curves.at(counts)
            quality = trim.layer_quality(retained, settings.layer_quality)
            torch.testing.assert_close(trace.quality[row], quality, rtol=1e-12, atol=0)
            variance = trim.row_quality(retained, settings.row_quality).var(dim=1, correction=0)
            torch.testing.assert_close(trace.row_variance[row], variance, rtol=1e-9, atol=1e-15)
            best = int(trace.quality[row].numpy().argmax())
            assert trace.best_iteration(rate) == best
    for rate, quality in result.tried:
        row = full.rates.index(rate)
        assert quality == float(result.trace.quality[row].max())
        assert quality == pytest.approx(float(full.quality[row].max()), rel=1e-12)
        torch.testing.assert_close(result.trace.updates[rate], full.updates[rate], rtol=0, atol=1e-9)


@pytest.mark.parametrize("layer_quality", sorted(trim.LAYER_QUALITIES))
def test_realised_quality_belongs_to_the_exact_counts(layer_quality):
    curves = curves_of(1)
    result = trim.search(curves, trim.SearchSettings(0.66, layer_quality=layer_quality))
    assert result.counts.dtype == result.uniform_counts.dtype == torch.int64
    for quality, counts in (
        (result.realised_quality, result.counts),
        (result.uniform_realised_quality, result.uniform_counts),
    ):
        assert quality == pytest.approx(
            float(trim.layer_quality(curves.at(counts), layer_quality)), rel=1e-12
        )
    assert int(result.counts.sum()) == round(0.66 * 24 * 41)
    floor = (result.row_sparsity * 41).floor().clamp(0, 41).long()
    published = float(trim.layer_quality(curves.at(floor), layer_quality))
    assert result.layer_quality == pytest.approx(published, rel=1e-12)
    assert int(floor.sum()) < int(result.counts.sum())
    # Every update is judged at exact counts too.
    exact = torch.from_numpy(exact_qualities(curves, result))
    assert exact.shape == result.trace.quality.shape
    assert bool((exact[:, 0] == result.uniform_realised_quality).all())
    for row, rate in enumerate(result.trace.rates):
        if rate not in result.trace.updates:
            assert bool(torch.isnan(exact[row, 1:]).all())
            continue
        x = result.trace.updates[rate]
        counts = torch.stack([trim.project_counts(each, round(0.66 * 24 * 41), 41, 0.95) for each in x])
        assert counts.sum(dim=1).tolist() == [round(0.66 * 24 * 41)] * 11
        expected = trim.layer_quality(curves.at(counts), layer_quality)
        torch.testing.assert_close(exact[row], expected, rtol=1e-12, atol=0)
        if rate == result.learning_rate:
            kept = result.trace.best_iteration(rate)
            assert float(exact[row, kept]) == result.realised_quality


@pytest.mark.parametrize("layer_quality", ["cosim_flat", "mae", "psnr_dim"])
def test_the_same_twice(layer_quality):
    settings = trim.SearchSettings(0.7, layer_quality=layer_quality, row_quality="psnr")
    first, second = (trim.search(curves_of(2, rows=150, columns=70), settings) for _ in range(2))
    assert first.learning_rate == second.learning_rate
    assert first.tried == second.tried
    assert first.realised_quality == second.realised_quality
    assert torch.equal(first.row_sparsity, second.row_sparsity)
    assert torch.equal(first.counts, second.counts)


@pytest.mark.parametrize("row_quality", sorted(trim.ROW_QUALITIES))
@pytest.mark.parametrize("layer_quality", sorted(trim.LAYER_QUALITIES))
def test_a_layer_without_output_stays_uniform(layer_quality, row_quality):
    settings = trim.SearchSettings(0.7, layer_quality=layer_quality, row_quality=row_quality)
    result = trim.search(curves_of(4, rows=6, columns=10, dead=6), settings)
    assert result.learning_rate is None
    assert bool((result.row_sparsity == 0.7).all())
    assert result.counts.tolist() == [7] * 6
    assert bool((result.trace.row_variance[:2] == 0).all())


@pytest.mark.parametrize("rows", [1, 2, 3, 6, 7, 12, 15])
@pytest.mark.parametrize("target", [0.5, 0.6, 0.7])
def test_rows_that_are_all_alike_stay_uniform(rows, target):
    # N · T is a whole number: one rounding in a mean would let floor(N · x) drop by one, and "beat" uniform.
    weight = torch.arange(1.0, 11).expand(rows, 10).contiguous()
    curves = trim.retention_curves(weight, torch.eye(10), weight)
    result = trim.search(curves, trim.SearchSettings(target))
    assert result.learning_rate is None
    assert bool((result.row_sparsity == target).all())
    assert result.counts.tolist() == [round(10 * target)] * rows


@pytest.mark.parametrize("layer_quality", sorted(trim.LAYER_QUALITIES))
def test_an_update_too_small_to_move_a_weight_is_never_better(layer_quality):
    rows = 40_000 if layer_quality == "cosim_flat" else 257  # many rows: sums are split among threads
    curves = curves_of(5, rows=rows, columns=7, vectors=2)
    tiny = trim.SearchSettings(
        0.5,
        learning_rates=(1e-9, 2e-9, 4e-9),
        negative_learning_rates=(-1e-9, -2e-9),
        layer_quality=layer_quality,
    )
    result = trim.search(curves, tiny)
    assert result.learning_rate is None
    assert {quality for _, quality in result.tried} == {result.uniform_quality}
    assert [rate for rate, _ in result.tried] == [1e-9, 2e-9, -1e-9, -2e-9]
    full = trim.full_trace(curves, tiny)
    assert full.quality.max(dim=1).values.unique().tolist() == [result.uniform_quality]


def test_a_layer_that_loses_nothing_stays_uniform():
    weight = torch.zeros(5, 20)
    weight[:, :3] = torch.tensor([1.0, 2.0, 3.0])
    curves = trim.retention_curves(weight, torch.ones(20, 2), weight)
    result = trim.search(curves, trim.SearchSettings(0.7, layer_quality="snr"))
    assert result.learning_rate is None
    assert result.uniform_quality == result.layer_quality == result.realised_quality == float("inf")


@pytest.mark.parametrize(
    ("rows", "columns", "target"), [(1, 1, 0.5), (1, 40, 0.7), (9, 1, 0.5), (2, 2, 0.5), (3, 5, 0.01)]
)
def test_smallest_layers(rows, columns, target):
    curves = curves_of(6, rows=rows, columns=columns, vectors=1)
    result = trim.search(curves, trim.SearchSettings(target, max_row_sparsity=1.0))
    assert int(result.counts.sum()) == round(target * rows * columns)
    assert np.isfinite(result.layer_quality)


@pytest.mark.parametrize("target", [0, -0.1, 0.951, 1.0, float("nan"), float("inf")])
def test_targets_out_of_reach(target):
    with pytest.raises(
        trim.SparsityError, match=r"at most the row cap of 0\.95.*lower the target or raise the cap"
    ):
        trim.SearchSettings(target)


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"max_row_sparsity": 0}, "row cap must be above 0 and at most 1"),
        ({"max_row_sparsity": 1.01}, "row cap must be above 0 and at most 1"),
        ({"max_row_sparsity": float("nan")}, "row cap must be above 0 and at most 1"),
        ({"learning_rates": (), "negative_learning_rates": ()}, "at least one learning rate"),
        ({"learning_rates": (0.1, float("nan"))}, "finite ones only"),
        ({"negative_learning_rates": (-float("inf"),)}, "finite ones only"),
        ({"learning_rates": (0.1, -0.1)}, "must all be above 0"),
        ({"learning_rates": (0.0,)}, "must all be above 0"),
        ({"negative_learning_rates": (0.01,)}, "negative_learning_rates below 0"),
        ({"learning_rates": (0.1, 0.2, 0.1)}, "once only"),
        ({"negative_learning_rates": [-0.1, -0.1]}, "once only"),
        ({"iterations": 0}, "whole number, 1 or more"),
        ({"iterations": -3}, "whole number, 1 or more"),
        ({"iterations": 10.0}, "whole number, 1 or more"),
        ({"iterations": "10"}, "whole number, 1 or more"),
        ({"layer_quality": "cosine"}, "layer_quality must be one of cosim_flat"),
        ({"row_quality": "mae"}, "row_quality must be one of cosim, mse, psnr"),
    ],
)
def test_settings_that_no_search_can_follow(settings, advice):
    with pytest.raises(trim.SettingsError, match=advice):
        trim.SearchSettings(0.7, **settings)


def test_settings_take_lists_and_numpy_numbers():
    settings = trim.SearchSettings(
        np.float64(0.7), learning_rates=[0.01, 0.02], negative_learning_rates=[-0.01], iterations=np.int64(3)
    )
    assert settings.learning_rates == (0.01, 0.02)
    assert settings == trim.SearchSettings(0.7, (0.01, 0.02), (-0.01,), 3)
    assert hash(settings) == hash(trim.SearchSettings(0.7, (0.01, 0.02), (-0.01,), 3))
    assert trim.search(curves_of(), settings).trace.quality.shape == (3, 4)
