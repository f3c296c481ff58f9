"""One type of each kind of block goes through all checks of the table of architectures; others are refused at once."""

import pytest
import torch
from torch import nn
from transformers import PreTrainedModel

import trim
from benchmarks import architectures
from tests.trim import tiny
from trim.models.architecture import blueprint, find_blocks
from trim.models.reasons import Reason
from trim.models.replay import record_calls, run_after_blocks
from trim.models.towers import output_head

PRUNED = {
    "blocks return a tuple": "gptj",
    "positions by alibi": "bloom",
    "keys and values read by later blocks": "gemma4_text",
    "several streams of hidden states": "deepseek_v4",
    "blocks of different kinds": "gpt_neo",
    "norms in a list": "stablelm",
    "a norm with a row for each head": "cohere",
    "transposed weights": "gpt2",
    "tokens sorted by expert": "jetmoe",
}
REFUSED = {
    "cpmant": Reason.ENCODER,
    "hrm_text": Reason.RECURRENT_STATE,
    "qwen3_omni_moe": Reason.ENCODER,
    "zaya": Reason.RECURRENT_STATE,
    "bert-generation": Reason.ENCODER,
    "trocr": Reason.ENCODER,
}


@pytest.mark.parametrize("kind", PRUNED.values(), ids=PRUNED)
def test_a_type_of_each_kind_is_pruned(kind, tmp_path, own_cache):
    assert architectures.check(kind, tmp_path) == ""


@pytest.mark.parametrize("kind", REFUSED)
def test_a_type_is_refused_by_its_configuration(kind):
    with pytest.raises(trim.ModelError) as caught:
        blueprint(architectures.small_config(kind))
    assert architectures.reason(caught.value) == REFUSED[kind]
    assert "it prunes Llama" in str(caught.value)


class Headless(PreTrainedModel):
    """A model that is a causal model in a tower, and does not say where its head is."""

    _supports_sdpa = True

    def __init__(self, tower: PreTrainedModel) -> None:
        super().__init__(tower.config)
        self.language_model = tower

    def get_output_embeddings(self) -> None:
        return None


def test_a_head_may_be_that_of_a_tower():
    tower = tiny.module("llama")
    assert output_head(tower) is output_head(Headless(tower)) is tower.lm_head


class Changing(nn.Module):
    """A model that does something of its own between its blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(4, 4) for _ in range(2))

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> torch.Tensor:
        states = input_ids[..., None].expand(*input_ids.shape, 4).float()
        for block in self.blocks:
            states = block(states) + 1
        return states


def test_a_model_that_changes_states_between_blocks():
    module = Changing()
    with pytest.raises(trim.ModelError, match="changes the hidden states between its blocks"):
        record_calls(module, list(module.blocks), torch.ones((1, 3), dtype=torch.int64), None)


def test_a_decoder_that_may_be_an_encoder():
    config = architectures.small_config("bert-generation")
    config.is_decoder = True
    blueprint(config)


@pytest.mark.parametrize("kind", ["llama", "gptj", "mpt"])
def test_a_single_block(kind):
    """Here no second block tells in which form the model takes what a block returns."""
    config = architectures.small_config(kind)
    config.num_hidden_layers = 1
    module = architectures.random_model(config)
    tokens = torch.arange(3, 27).view(1, 24)
    blocks = find_blocks(module)
    with torch.no_grad():
        states, (call,) = record_calls(module, blocks, tokens, None)
        logits = run_after_blocks(module, blocks, tokens, None, call.replay(blocks[0], states))
    assert torch.allclose(logits, architectures.logits(module, tokens), atol=1e-6)


def test_blocks_that_are_mostly_something_else_are_refused():
    block = nn.Module()
    block.small, block.large = nn.Linear(4, 4, bias=False), nn.Parameter(torch.ones(5, 4))
    with pytest.raises(trim.ModelError, match="only 44% of their weights are in linear layers"):
        find_blocks(nn.Sequential(nn.ModuleList([block])))
    block.large = nn.Parameter(torch.ones(4, 4))
    assert find_blocks(nn.Sequential(nn.ModuleList([block]))) == [block]
