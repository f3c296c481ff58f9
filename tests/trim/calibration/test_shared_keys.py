"""Blocks that read keys and values of earlier ones, as Gemma 4 has them: each pass of a text has its own."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import trim
from benchmarks import architectures
from trim.calibration.block_states import BlockStates
from trim.calibration.calibration import Calibration
from trim.calibration.hidden_states import HiddenStates
from trim.calibration.text_pass import TextPass, text_pass
from trim.models.architecture import trial_of
from trim.models.streamed import StreamedModel

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> StreamedModel:
    """Four blocks, of which the last two have no keys and values of their own."""
    folder = tmp_path_factory.mktemp("gemma4")
    architectures.random_model(architectures.small_config("gemma4_text")).save_pretrained(folder)
    return StreamedModel(folder, device=CPU)


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return Calibration.of(torch.randint(3, 250, (4, 8), generator=torch.Generator().manual_seed(0)))


pytestmark = pytest.mark.usefixtures("inference")


def propagate(text: TextPass, index: int, factor: float = 1.0) -> None:
    """Let a text through a block, whose keys and values are multiplied by a factor."""
    with text.model.block(index) as block:
        for name, parameter in block.named_parameters():
            if "k_proj" in name or "v_proj" in name:
                parameter.mul_(factor)
        text.propagate(index, block)


def states(text: TextPass) -> Tensor:
    return text.states.read(slice(0, 4), CPU).clone()


def after_all(model: StreamedModel, calibration: Calibration, folder: Path, factor: float) -> Tensor:
    with text_pass(model, calibration, batch=4, folder=folder) as text:
        for index in range(4):
            propagate(text, index, factor)
        return states(text)


def test_layers_of_blocks_that_share(model):
    assert trial_of(model.module).shares
    own = {name.partition(".")[0] for name in model.layers if name.endswith("k_proj")}
    assert own == {"0", "1"}


def test_two_passes_do_not_mix(model, calibration, tmp_path):
    expected = [after_all(model, calibration, tmp_path, factor) for factor in (1.0, -1.0)]
    with (
        text_pass(model, calibration, batch=4, folder=tmp_path) as pruned,
        text_pass(model, calibration, batch=4, folder=tmp_path, alongside=pruned) as dense,
    ):
        for index in range(4):
            propagate(dense, index)
            propagate(pruned, index, -1.0)
        assert torch.equal(states(dense), expected[0])
        assert torch.equal(states(pruned), expected[1])
    assert not torch.allclose(*expected, atol=1e-3)


@pytest.mark.parametrize("block", [2, 3])
def test_a_batch_that_halves_on_the_way(block, model, calibration, tmp_path):
    with text_pass(model, calibration, batch=4, folder=tmp_path) as text:
        for index in range(4):
            if index == block:
                text._shrink(2)
            propagate(text, index)
        torch.testing.assert_close(states(text), after_all(model, calibration, tmp_path, 1.0))


def test_blocks_that_are_looked_at_alone(model, calibration):
    with pytest.raises(trim.ModelError, match="read keys and values that others computed"):
        BlockStates(model, calibration, HiddenStates(torch.empty(0), "ram"), 1, "")
