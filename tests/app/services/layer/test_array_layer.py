"""A layer swept without torch has every number of the same layer swept through the library's public functions."""

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import trim
from app.services.layer.array_layer import ArrayLayer
from app.services.layer.keys import ModelKey, SampleKey, StudyKey
from app.services.layer.shipped import SCORES
from app.services.layer.study import Outcome, Study
from app.services.layer.tensor_layer import TensorLayer
from tests.app.small import ORIGIN, layer_sample
from trim.compiled import sweep


def close(one: object, other: object) -> None:
    """Compare up to rounding: of square roots, and by the order in which rows are summed."""
    np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-13)


def both(score: str, sample: trim.LayerSample) -> tuple[Study, Study]:
    """Return the layer in arrays, and in tensors."""
    weight, inputs, norm = (values.numpy() for values in (sample.weight, sample.inputs, sample.input_norm))
    key = StudyKey(ModelKey(), SampleKey(), sample.name, score)
    layers = ArrayLayer(weight, inputs, SCORES[score](weight, norm), norm), TensorLayer(sample, score)
    return tuple(Study(key, layer, ORIGIN) for layer in layers)


def assert_same_layer(shipped: Study, live: Study) -> None:
    """Compare everything that does not depend on the target."""
    assert (shipped.rows, shipped.columns, shipped.vectors) == (live.rows, live.columns, live.vectors)
    np.testing.assert_array_equal(shipped.layer.score, live.layer.score)
    np.testing.assert_array_equal(shipped.gini.coefficients, live.gini.coefficients)
    close(shipped.cosine, live.cosine)
    np.testing.assert_array_equal(shipped.layer.dead_rows, live.layer.dead_rows)
    close(shipped.layer.output_norm, live.layer.output_norm)
    np.testing.assert_allclose(shipped.layer.weight_norm, live.layer.weight_norm, rtol=1e-6)


def assert_same_outcome(shipped: Outcome, live: Outcome) -> None:
    """Compare everything that a search finds, and what views show of it."""
    one, other = shipped.result, live.result
    assert (one.settings, one.learning_rate) == (other.settings, other.learning_rate)
    close(one.tried, other.tried)
    for name in (
        "layer_quality",
        "uniform_quality",
        "realised_quality",
        "uniform_realised_quality",
        "row_sparsity",
    ):
        close(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(one.counts, other.counts)
    np.testing.assert_array_equal(one.uniform_counts, other.uniform_counts)
    assert one.trace.rates == other.trace.rates
    close(one.trace.quality, other.trace.quality)
    close(shipped.view.search.trace.quality, live.view.search.trace.quality)
    close(one.trace.row_variance, other.trace.row_variance)
    for rate in one.trace.rates:
        close(one.trace.updates[rate], other.trace.updates[rate])
    np.testing.assert_array_equal(shipped.optimum.counts, live.optimum.counts)
    assert (shipped.optimum.price, shipped.optimum.cap) == (live.optimum.price, live.optimum.cap)
    close(shipped.optimum.losses, live.optimum.losses)
    close(shipped.optimum.quality, live.optimum.quality)
    for mine, theirs in zip(shipped.view.cosines, live.view.cosines, strict=True):
        close(mine.cosine, theirs.cosine)
    close(shipped.view.search.x, live.view.search.x)
    assert shipped.view.search.kept_iteration == live.view.search.kept_iteration
    for method, mask in shipped.view.masks.items():
        np.testing.assert_array_equal(mask(), live.view.masks[method]())
    for row in (0, len(one.counts) - 1):
        mine, theirs = shipped.view.prices(row), live.view.prices(row)
        np.testing.assert_array_equal(mine.prices, theirs.prices)
        np.testing.assert_array_equal(mine.row_sparsity, theirs.row_sparsity)
        assert (mine.pruned, mine.common) == (theirs.pruned, theirs.common)


@pytest.mark.parametrize("score", sorted(SCORES))
def test_every_number_at_every_target(score):
    assert set(SCORES) == set(trim.SCORES)
    shipped, live = both(score, layer_sample(rows=30, columns=41, vectors=50))
    assert_same_layer(shipped, live)
    for percent in (1, 37, 70, 88, 92):
        settings = trim.SearchSettings(percent / 100)
        assert_same_outcome(shipped.outcome(settings), live.outcome(settings))
    curve = shipped.all_targets(shipped.outcome(trim.SearchSettings(0.7))).curve
    expected = live.all_targets(live.outcome(trim.SearchSettings(0.7))).curve
    close(curve.reached, expected.reached)
    close(curve.best, expected.best)


@pytest.mark.parametrize("measures", [("mse", "mse"), ("snr", "psnr"), ("psnr_dim", "cosim")])
def test_every_number_by_other_qualities_with_a_dead_row(measures):
    sample = layer_sample()
    sample.weight[3] = 0
    shipped, live = both("wanda", sample)
    assert_same_layer(shipped, live)
    settings = trim.SearchSettings(
        0.6, iterations=4, layer_quality=measures[0], row_quality=measures[1], max_row_sparsity=0.9
    )
    assert_same_outcome(shipped.outcome(settings), live.outcome(settings))


def test_threads_that_use_a_layer_first_share_one_sweep(monkeypatch):
    layer, swept, plain = both("wanda", layer_sample())[0].layer, [], sweep.sweep

    def slow_sweep(*arrays: np.ndarray) -> tuple[np.ndarray, ...]:
        swept.append(arrays)
        time.sleep(0.05)
        return plain(*arrays)

    monkeypatch.setattr(sweep, "sweep", slow_sweep)
    with ThreadPoolExecutor(2) as threads:
        one, other = threads.map(lambda _: layer.tables, range(2))
    assert one is other
    assert len(swept) == 1


def test_what_needs_the_model_is_refused():
    shipped, _ = both("wanda", layer_sample())
    with pytest.raises(trim.SettingsError, match="as soon as the live model is loaded"):
        shipped.outcome(trim.SearchSettings(0.5, layer_quality="mae"))
    with pytest.raises(trim.SparsityError, match="cannot be reached"):
        shipped.outcome(trim.SearchSettings(0.92, max_row_sparsity=0.93))
