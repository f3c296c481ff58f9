"""What layers receive equals what a naive forward pass shows; the cache and the hooks survive what goes wrong."""

import contextlib
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

import trim
from tests.trim import rough, tiny
from trim import cache
from trim.calibration.calibration import Calibration
from trim.calibration.capture import load_cached_capture
from trim.models import architecture
from trim.progress import Progress

pytestmark = pytest.mark.usefixtures("own_cache")

FEATURES, INNER, VOCABULARY = 8, 12, 16


def windows(sequences: int = 6, length: int = 20, vocabulary: int = 256) -> Tensor:
    return torch.randint(3, vocabulary, (sequences, length), generator=torch.Generator().manual_seed(1))


def model_of(kind: str, dtype: torch.dtype = torch.float32) -> trim.Model:
    return trim.Model(kind, kind, f"{kind}-fingerprint", tiny.module(kind).to(dtype), tiny.tokenizer())


class FlatBlock(nn.Module):
    """Hands its layers (batch · tokens, features), as OPT once did."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(FEATURES, INNER), nn.Linear(INNER, FEATURES)
        self.unused = nn.Linear(3, 3)

    def forward(self, states: Tensor) -> Tensor:
        flat = self.fc2(self.fc1(states.reshape(-1, FEATURES)).relu())
        return states + flat.view_as(states)


class Toy(nn.Module):
    """The least that a model must have, and something to call with which a test can make it fail.

    Attributes:
        shapes: of the tokens of every forward pass.
        fail: called with the block's index and the tokens before each block.
    """

    def __init__(self) -> None:
        super().__init__()
        self.config = PretrainedConfig(max_position_embeddings=64)
        # transformers cannot build it to find out
        architecture._TRIALS[architecture._structure_key(self.config)] = architecture.Trial(
            {}, (FEATURES,), False
        )
        self.embedding = nn.Embedding(VOCABULARY, FEATURES)
        self.place = nn.Embedding(64, FEATURES)
        self.layers = nn.ModuleList([FlatBlock(), FlatBlock(), FlatBlock()])
        self.shapes: list[tuple[int, ...]] = []
        self.fail = lambda block, tokens: None

    def get_input_embeddings(self) -> nn.Module:
        return self.embedding

    def forward(self, tokens: Tensor, use_cache: bool) -> Tensor:
        assert not use_cache
        self.shapes.append(tuple(tokens.shape))
        states = self.embedding(tokens) + self.place(torch.arange(tokens.shape[1]))
        for index, block in enumerate(self.layers):
            self.fail(index, tokens)
            states = block(states)
        return states


def make_toy() -> trim.Model:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return trim.Model("toy", "Toy", "toy-fingerprint", Toy().requires_grad_(False), None)


@pytest.fixture
def toy() -> trim.Model:
    return make_toy()


def toy_windows(sequences: int = 6, length: int = 10) -> Tensor:
    return windows(sequences, length, VOCABULARY)


def naive(model: trim.Model, tokens: Tensor) -> dict[str, np.ndarray]:
    """Every input of every layer, (windows, length, N) float64, one window at a time."""
    seen: dict[str, list[np.ndarray]] = {name: [] for name in model.layers}

    def note(name: str, inputs: Tensor) -> None:
        seen[name].append(inputs.double().numpy().reshape(tokens.shape[1], -1).copy())

    with contextlib.ExitStack() as hooks, torch.no_grad():
        for name, layer in model.layers.items():
            hooks.enter_context(
                layer.register_forward_pre_hook(lambda _, given, name=name: note(name, given[0]))
            )
        for window in tokens:
            model.module(window[None], use_cache=False)
    return {name: np.stack(inputs) for name, inputs in seen.items() if inputs}


def check(samples: dict[str, trim.LayerSample], expected: dict[str, np.ndarray], atol: float = 1e-5) -> None:
    for name, sample in samples.items():
        received = expected[name]
        norm = np.sqrt((received**2).sum(axis=(0, 1)) / len(received))
        np.testing.assert_allclose(sample.input_norm.double(), norm, rtol=1e-4, atol=atol)
        kept = sample.inputs.double().T.reshape(len(received), -1, received.shape[2]).numpy()
        for vectors, window in zip(kept, received, strict=True):
            distance = np.abs(vectors[:, None] - window[None]).max(axis=2)
            places = distance.argmin(axis=1)
            assert distance.min(axis=1).max() < atol
            assert (np.diff(places) > 0).all()  # distinct tokens, in their order


@pytest.mark.parametrize("kind", tiny.SUPPORTED)
def test_captures_equal_a_naive_forward_pass(kind):
    model, tokens = model_of(kind), windows()
    samples = trim.capture(model, tokens, vectors_per_sequence=3)
    assert list(samples) == list(model.layers)
    check(samples, naive(model, tokens))
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
    check(trim.capture(toy, tokens, ["*.fc1", "*.fc2"]), naive(toy, tokens))


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
    for sample, windows in zip(shown, (8, 16), strict=True):
        assert torch.equal(sample.inputs, whole.inputs[:, : 2 * windows])
        first = trim.capture(toy, tokens[:windows], [name])[name]
        assert torch.equal(sample.input_norm, first.input_norm)


@pytest.mark.parametrize("stop_at", [0, 1.5, 3])
def test_cancelled_at_any_block_it_leaves_nothing_behind(toy, monkeypatch, stop_at):
    monkeypatch.setattr("trim.calibration.capture.CPU_PASS_TOKENS", 35)

    def stop(step: Progress) -> None:
        if step.done == stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trim.capture(toy, toy_windows(7), ["1.fc1"], progress=stop)
    assert rough.hooks_left(toy.module) == 0
    assert load_cached_capture(toy, toy_windows(7), ["1.fc1"]) is None


def test_a_full_memory_makes_batches_smaller(toy):
    tokens = toy_windows()
    expected = naive(toy, tokens)

    def fill(block: int, part: Tensor) -> None:
        if block == 1 and len(part) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    toy.module.fail = fill
    check(trim.capture(toy, tokens, ["*.fc?"]), expected)
    assert rough.hooks_left(toy.module) == 0


def test_not_even_one_window_fits(toy):
    toy.module.fail = Mock(
        side_effect=RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"
        )
    )
    with pytest.raises(trim.NotEnoughMemoryError, match="one window of 10 tokens"):
        trim.capture(toy, toy_windows(), ["*.fc?"])
    assert toy.module.shapes[-1] == (1, 10)
    assert rough.hooks_left(toy.module) == 0


def test_a_layer_that_is_never_called(toy):
    with pytest.raises(trim.ModelError, match=r"0\.unused"):
        trim.capture(toy, toy_windows())


def test_values_that_are_not_finite_name_the_layer(toy):
    toy.blocks[1].fc1.weight[0, 0] = torch.inf
    with pytest.raises(trim.NonFiniteError, match=r"^1\.fc2 receives"):
        trim.capture(toy, toy_windows(), ["*.fc?"])
    # A layer in front of it can be explored all the same, also when the others should come along.
    samples = trim.capture(toy, toy_windows(), ["0.fc2"], also=["*.fc?"])
    assert torch.isfinite(samples["0.fc2"].inputs).all()


def test_layers_captured_along_cost_no_further_pass(toy):
    assert list(trim.capture(toy, toy_windows(), ["0.fc1"], also=["*.fc?"])) == ["0.fc1"]
    toy.module.fail = lambda block, part: pytest.fail("a forward pass")
    assert list(trim.capture(toy, toy_windows(), ["*.fc2"])) == ["0.fc2", "1.fc2", "2.fc2"]


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


def test_different_seeds_choose_different_vectors(toy):
    first, second = (trim.capture(toy, toy_windows(), ["0.fc1"], seed=seed)["0.fc1"] for seed in (0, 1))
    assert not torch.equal(first.inputs, second.inputs)
    assert torch.equal(first.input_norm, second.input_norm)


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
        check(trim.capture(toy, toy_windows(), ["*.fc?"]), expected)
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


@pytest.mark.parametrize(
    ("tokens", "settings", "message"),
    [
        (toy_windows()[0], {}, "windows, length"),
        (toy_windows()[:0], {}, "not empty"),
        (toy_windows().float(), {}, "token numbers"),
        (toy_windows(2, 65), {}, "at most 64 tokens"),
        (toy_windows() + VOCABULARY, {}, "vocabulary of Toy"),
        (-toy_windows(), {}, "vocabulary of Toy"),
        (toy_windows(), {"vectors_per_sequence": 11}, "between 1 and 10"),
        (toy_windows(), {"vectors_per_sequence": 0}, "between 1 and 10"),
    ],
)
def test_windows_that_cannot_be_read(tokens, settings, message, toy):
    with pytest.raises((trim.SettingsError, trim.CorpusError), match=message):
        trim.capture(toy, tokens, ["*.fc?"], **settings)
    assert toy.module.shapes == []


def test_a_pattern_that_matches_nothing(toy):
    with pytest.raises(trim.LayerNotFoundError, match=r"closest names: .*0\.fc1"):
        trim.capture(toy, toy_windows(), ["0.fc"])
