"""The layer that comes with the app: what is in its file, and what is said of one that cannot be read."""

import dataclasses

import numpy as np
import pytest

from app.services.layer import shipped
from app.services.layer.array_layer import ArrayLayer
from app.services.layer.keys import FIRST_LAYER, FIRST_TARGET_PERCENT, SampleKey
from app.services.layer.prepared import FirstView, PreparedLayer
from app.services.layer.shipped import FILE, SCORES, ShippedLayer
from trim.errors import RunError
from trim.methods.search_settings import SearchSettings


@pytest.fixture(scope="module")
def layer() -> ShippedLayer:
    return ShippedLayer.read(FILE)


def test_it_is_small_and_the_one_in_which_trim_gains_most(layer):
    assert FILE.stat().st_size < 2_000_000
    assert layer.key.layer == FIRST_LAYER == layer.gains.most.layer
    assert FIRST_LAYER in layer.names
    assert layer.gains.layers == len(layer.names) == 210
    assert (layer.weight.shape, layer.inputs.shape) == ((192, 576), (576, 128))
    outcome = layer.study("wanda").outcome(SearchSettings(FIRST_TARGET_PERCENT / 100))
    gain = outcome.result.realised_quality - outcome.result.uniform_realised_quality
    assert gain == pytest.approx(layer.gains.most.gain, rel=1e-9)
    assert gain > 0.004
    assert outcome.optimum.quality - outcome.result.uniform_realised_quality == pytest.approx(
        layer.gains.most.room, rel=1e-9
    )
    assert layer.gains.least.learning_rate is None
    assert abs(layer.gains.least.agreement) < abs(layer.gains.most.agreement)


@pytest.fixture(scope="module")
def swept(layer):
    score = SCORES["wanda"](layer.weight, layer.input_norm)
    return ArrayLayer(layer.weight, layer.inputs, score, layer.input_norm)


def test_its_first_view_is_what_the_layer_gives(layer, swept):
    fresh, stored = FirstView.of(swept), layer.first
    assert fresh.arrays.keys() == stored.arrays.keys()
    for name, values in fresh.arrays.items():
        if values.dtype == np.int64:  # ties may fall otherwise on another processor
            assert np.abs(values - stored.arrays[name]).sum() <= 1e-4 * values.sum(), name
        else:
            np.testing.assert_allclose(stored.arrays[name], values, rtol=1e-4, atol=1e-6, err_msg=name)
    assert fresh.result.settings == stored.result.settings
    np.testing.assert_allclose(stored.result.tried, fresh.result.tried)
    assert stored.result.learning_rate == fresh.result.learning_rate
    assert stored.optimum.price == pytest.approx(fresh.optimum.price)


def test_any_other_question_is_computed(layer, swept):
    study = layer.study("wanda")
    prepared = study.layer
    assert isinstance(prepared, PreparedLayer)
    other = prepared.search(SearchSettings(0.5), complete=True)
    assert other.counts.sum() == round(0.5 * study.rows * study.columns)
    best = prepared.optimum(other, None)
    np.testing.assert_array_equal(prepared.cosine(best.counts), swept.cosine(best.counts))
    np.testing.assert_array_equal(prepared.exact_qualities(other), swept.exact_qualities(other))
    counts = np.array([0, 288, 575])
    np.testing.assert_array_equal(prepared.cosine_curves(counts), swept.cosine_curves(counts))
    assert prepared.keep_mask(best.counts).sum() == study.rows * study.columns - best.counts.sum()
    assert prepared.prices(best, 3).row == 3


def test_it_is_read_as_it_was_written(layer, tmp_path):
    layer.save(tmp_path / "layer.safetensors")
    again = ShippedLayer.read(tmp_path / "layer.safetensors")
    for name in ("weight", "inputs", "input_norm"):
        np.testing.assert_array_equal(getattr(again, name), getattr(layer, name))
    assert (again.key, again.origin, again.names, again.gains) == (
        layer.key,
        layer.origin,
        layer.names,
        layer.gains,
    )
    with pytest.raises(RunError, match="float16 cannot represent"):
        dataclasses.replace(layer, weight=layer.weight * 1.0001).save(tmp_path / "other")


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "flipped", "folder"])
def test_a_damaged_file_is_reported(damage, tmp_path, monkeypatch):
    file, content = tmp_path / "layer.safetensors", FILE.read_bytes()
    if damage == "folder":
        file.mkdir()
    elif damage != "missing":
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        file.write_bytes({"empty": b"", "cut": content[:-1], "flipped": flipped}[damage])
    with pytest.raises(
        RunError, match=r"The layer that comes with the app, layer\.safetensors, cannot be read: "
    ):
        ShippedLayer.read(file)
    monkeypatch.setattr(shipped, "FILE", file)
    assert "cannot be read" in shipped.shipped_layer.__wrapped__()


def test_a_file_for_another_text_is_refused(monkeypatch):
    monkeypatch.setattr(shipped, "SampleKey", lambda: SampleKey(windows=65))
    with pytest.raises(RunError, match="another layer or text"):
        ShippedLayer.read(FILE)
