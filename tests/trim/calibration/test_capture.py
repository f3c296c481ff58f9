"""What layers receive equals what a naive forward pass shows."""

import numpy as np
import pytest
import torch

import trim
from tests.trim import tiny
from tests.trim.calibration.toys import check_samples, naive, toy_windows, windows
from trim import cache
from trim.calibration.calibration import Calibration
from trim.calibration.capture import load_cached_capture

pytestmark = pytest.mark.usefixtures("own_cache")


def model_of(kind: str, dtype: torch.dtype = torch.float32) -> trim.Model:
    return trim.Model(kind, kind, f"{kind}-fingerprint", tiny.module(kind).to(dtype), tiny.tokenizer())


@pytest.mark.parametrize("kind", tiny.SUPPORTED)
def test_captures_equal_a_naive_forward_pass(kind):
    model, tokens = model_of(kind), windows()
    samples = trim.capture(model, tokens, vectors_per_sequence=3)
    assert list(samples) == list(model.layers)
    check_samples(samples, naive(model, tokens))
    for name, sample in samples.items():
        rows, columns = model.layers[name].weight.shape
        assert sample.weight.shape == (rows, columns)
        assert sample.inputs.shape == (columns, 18)
        assert sample.input_norm.dtype == torch.float32
        assert not sample.weight.requires_grad


def test_the_last_tokens_of_each_window():
    model, tokens = model_of("llama"), windows()
    samples = trim.capture(model, tokens, vectors_per_sequence=2, input_vectors="last", seed=1)
    for name, received in naive(model, tokens).items():
        last = torch.as_tensor(received)[:, -2:].reshape(-1, received.shape[2])
        torch.testing.assert_close(samples[name].inputs.T, last, check_dtype=False, rtol=1e-4, atol=1e-5)
    random = trim.capture(model, tokens, vectors_per_sequence=2)
    assert not torch.equal(random["1.mlp.up_proj"].inputs, samples["1.mlp.up_proj"].inputs)
    assert torch.equal(random["1.mlp.up_proj"].input_norm, samples["1.mlp.up_proj"].input_norm)


def test_the_last_tokens_are_real_ones():
    mask = torch.ones(3, 6, dtype=torch.bool)
    mask[0, 4:] = mask[1, :2] = mask[2, 1:3] = False
    chosen = Calibration.of(
        torch.zeros(3, 6, dtype=torch.int64), mask, vectors_per_sequence=3, input_vectors="last"
    )
    assert chosen.positions.tolist() == [[1, 2, 3], [3, 4, 5], [3, 4, 5]]
    with pytest.raises(trim.SettingsError, match="input_vectors must be one of random, last, not 'first'"):
        Calibration.of(torch.zeros(3, 6, dtype=torch.int64), input_vectors="first")


def test_layers_that_share_an_input_share_its_vectors():
    samples = trim.capture(model_of("llama"), windows())
    q, k, v = (samples[f"1.self_attn.{name}_proj"] for name in "qkv")
    assert torch.equal(q.inputs, k.inputs)
    assert torch.equal(q.input_norm, v.input_norm)
    assert not torch.equal(q.inputs, samples["1.mlp.up_proj"].inputs)


def test_flattened_inputs(toy):
    tokens = toy_windows()
    check_samples(trim.capture(toy, tokens, ["*.fc1", "*.fc2"]), naive(toy, tokens))


def test_a_half_type():
    model, tokens = model_of("llama", torch.bfloat16), windows()
    samples = trim.capture(model, tokens, ["*.mlp.*"])
    assert samples["0.mlp.up_proj"].inputs.dtype == torch.bfloat16
    norm = naive(model, tokens)["0.mlp.up_proj"]
    norm = np.sqrt((norm**2).sum(axis=(0, 1)) / len(norm))
    np.testing.assert_allclose(samples["0.mlp.up_proj"].input_norm, norm, rtol=0.02)
    again = trim.capture(model, tokens, ["*.mlp.*"])
    assert torch.equal(again["0.mlp.up_proj"].inputs, samples["0.mlp.up_proj"].inputs)


def test_the_forward_pass_ends_before_the_last_chosen_layer(toy, monkeypatch):
    monkeypatch.setattr("trim.calibration.capture.CPU_PASS_TOKENS", 30)
    seen, done = [], []
    toy.module.fail = lambda block, tokens: seen.append(block)
    for name, layer in toy.layers.items():
        layer.register_forward_hook(lambda *_, name=name: done.append(name))
    trim.capture(toy, toy_windows(), ["0.fc1", "1.fc2"])
    assert seen == [0, 1] * 2  # two batches, the first one too
    assert done == ["0.fc1", "0.fc2", "1.fc1"] * 2


def test_batches_follow_the_tokens(toy, monkeypatch):
    tokens, told = toy_windows(7), []
    whole = trim.capture(toy, tokens, ["*.fc?"], seed=5)
    monkeypatch.setattr("trim.calibration.capture.CPU_PASS_TOKENS", 35)
    monkeypatch.setattr("trim.calibration.text_pass.GPU_BATCH_TOKENS", 35)
    cache.clear()
    toy.module.shapes.clear()
    parted = trim.capture(toy, tokens, ["*.fc?"], seed=5, progress=told.append)
    assert toy.module.shapes == [(3, 10), (3, 10), (1, 10)]
    by_block = [
        0,
        1,
        2,
        3,
        3,
        4,
        5,
        6,
        6,
        6 + 1 / 3,
        6 + 2 / 3,
        7,
    ]  # before each of three blocks, and after the pass
    assert [step.done for step in told] == pytest.approx(by_block)
    assert {step.of for step in told} == {7}
    for name, sample in parted.items():
        torch.testing.assert_close(sample.inputs, whole[name].inputs)
        torch.testing.assert_close(sample.input_norm, whole[name].input_norm)


def test_a_first_result_is_a_view_of_the_running_sums(toy, monkeypatch):
    monkeypatch.setattr("trim.calibration.capture.CPU_PASS_TOKENS", 40)
    tokens, name, shown = toy_windows(20), "1.fc1", []
    assert load_cached_capture(toy, tokens, [name]) is None
    whole = trim.capture(toy, tokens, [name], also=["*.fc?"])[name]
    stored = load_cached_capture(toy, tokens, [name])[name]
    cache.clear()
    again = trim.capture(toy, tokens, [name], also=["*.fc?"], partial=lambda seen: shown.append(seen[name]))[
        name
    ]
    for sample in (again, stored):
        assert torch.equal(sample.inputs, whole.inputs)
        assert torch.equal(sample.input_norm, whole.input_norm)
    assert [sample.inputs.shape[1] for sample in shown] == [2 * 8, 2 * 16]
    for sample, count in zip(shown, (8, 16), strict=True):
        assert torch.equal(sample.inputs, whole.inputs[:, : 2 * count])
        first = trim.capture(toy, tokens[:count], [name])[name]
        assert torch.equal(sample.input_norm, first.input_norm)


def test_different_seeds_choose_different_vectors(toy):
    first, second = (trim.capture(toy, toy_windows(), ["0.fc1"], seed=seed)["0.fc1"] for seed in (0, 1))
    assert not torch.equal(first.inputs, second.inputs)
    assert torch.equal(first.input_norm, second.input_norm)
