"""What goes wrong while layers are captured leaves no hook behind, and a message says what to do."""

from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

import trim
from tests.trim import rough
from tests.trim.calibration.toys import VOCABULARY, check_samples, naive, toy_windows
from trim.calibration.capture import load_cached_capture
from trim.progress import Progress

pytestmark = pytest.mark.usefixtures("own_cache")


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
    check_samples(trim.capture(toy, tokens, ["*.fc?"]), expected)
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
