"""The cache of captures: what it tells apart, and what is done if its files are damaged or lost."""

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import pytest
import torch

import trim
from tests.trim.calibration.toys import check_samples, make_toy, naive, toy_windows
from trim import cache

pytestmark = pytest.mark.usefixtures("own_cache")


def test_layers_captured_along_cost_no_further_pass(toy):
    assert list(trim.capture(toy, toy_windows(), ["0.fc1"], also=["*.fc?"])) == ["0.fc1"]
    toy.module.fail = lambda block, part: pytest.fail("a forward pass")
    assert list(trim.capture(toy, toy_windows(), ["*.fc2"])) == ["0.fc2", "1.fc2", "2.fc2"]


def test_the_storing_of_many_layers_is_reported(toy, monkeypatch):
    monkeypatch.setattr("trim.calibration.capture.STORED_AT_ONCE", 2)
    told = []
    trim.capture(toy, toy_windows(), ["*.fc?"], progress=told.append)
    storing = [(step.done, step.of) for step in told if step.what == "Storing the inputs of 6 layers"]
    assert storing == [(2, 6), (4, 6)]


def test_the_cache_knows_what_changes_the_result(toy):
    def passes(**changed: object) -> int:
        toy.module.shapes.clear()
        settings = {"windows": toy_windows(), "layers": ["0.fc1"]} | changed
        trim.capture(toy, **settings)
        return len(toy.module.shapes)

    assert passes() == 1
    assert passes() == 0
    assert passes(seed=1) == 1
    assert passes(vectors_per_sequence=3) == 1
    assert passes(input_vectors="last") == 1
    assert passes(input_vectors="last", seed=1) == 0  # the seed decides nothing then
    assert passes(windows=toy_windows(5)) == 1
    assert passes(windows=toy_windows().flip(0)) == 1
    toy.fingerprint = "other weights"
    assert passes() == 1
    assert passes() == 0


def test_a_damaged_file_is_captured_anew(toy, own_cache):
    whole = trim.capture(toy, toy_windows(), ["*.fc?"])
    for path in own_cache.glob("captures/*/1.*.safetensors"):
        content = path.read_bytes()
        path.write_bytes(content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
    toy.module.shapes.clear()
    again = trim.capture(toy, toy_windows(), ["*.fc?"])
    assert len(toy.module.shapes) == 1
    for name, sample in again.items():
        assert torch.equal(sample.inputs, whole[name].inputs)
    toy.module.shapes.clear()
    trim.capture(toy, toy_windows(), ["*.fc?"])
    assert toy.module.shapes == []


def test_a_full_disk_costs_the_cache_and_not_the_result(toy, own_cache, monkeypatch):
    monkeypatch.setattr(cache, "new_file", Mock(side_effect=OSError(28, "No space left on device")))
    expected = naive(toy, toy_windows())
    with pytest.warns(trim.CacheWarning, match="TRIM_CACHE"):
        check_samples(trim.capture(toy, toy_windows(), ["*.fc?"]), expected)
    assert not [path for path in own_cache.rglob("*") if path.is_file()]


def test_captures_side_by_side():
    """Readers, writers and somebody who empties the cache do not disturb each other's results."""
    tokens, models = toy_windows(), [make_toy() for _ in range(4)]
    stop = threading.Event()

    def work(model: trim.Model) -> list[trim.LayerSample]:
        return [trim.capture(model, tokens, ["*.fc?"])["2.fc2"] for _ in range(5)]

    def empty() -> None:
        while not stop.is_set():
            cache.clear()

    with warnings.catch_warnings(), ThreadPoolExecutor(5) as pool:
        warnings.simplefilter("ignore", trim.CacheWarning)  # a folder emptied while it was written to
        emptying = pool.submit(empty)
        try:
            results = list(pool.map(work, models))
        finally:
            stop.set()  # else the pool would wait for ever
        emptying.result()
    first = results[0][0]
    for sample in (sample for samples in results for sample in samples):
        assert torch.equal(sample.inputs, first.inputs)
        assert torch.equal(sample.input_norm, first.input_norm)
