"""Checkpoints that name, join or split their tensors otherwise than the model are read as `transformers` reads them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

import trim
from tests.trim import tiny
from trim.models.experts import MatrixPart
from trim.models.streamed import StreamedModel

SIZES = {
    "vocab_size": 256, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GROUPED = {**SIZES, "num_key_value_heads": 2, "head_dim": 8}
LINEAR = {
    "linear_num_key_heads": 2, "linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8,
}  # fmt: skip
# Of each kind a name that only its files have, and one that only the model has.
KINDS: dict[str, tuple[dict[str, object], str, str]] = {
    "gpt_neox": (SIZES, "embed_out.weight", "lm_head.weight"),
    "flint": (GROUPED, "model.layers.0.self_attn.softmax_offset", "model.layers.0.self_attn.sinks"),
    "olmo_hybrid": (
        {**GROUPED, **LINEAR, "layer_types": ["linear_attention", "full_attention"]},
        "model.layers.0.linear_attn.q_conv1d.weight",
        "model.layers.0.linear_attn.conv1d.weight",
    ),
}


def saved(path: Path, kind: str, settings: dict[str, object]) -> PreTrainedModel:
    """A tiny random model in a folder, as transformers loads it from there."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings))
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.normal_()
    module.save_pretrained(path)
    tiny.tokenizer().save_pretrained(path)
    loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(path)
    return loaded


def require_same(module: PreTrainedModel, path: Path) -> StreamedModel:
    """Compare every tensor of a streamed model with that of a loaded one; returns the streamed one."""
    streamed = StreamedModel(path, device=torch.device("cpu"))
    with streamed.outside() as outside:
        (head, table) = outside.get_output_embeddings().weight, outside.get_input_embeddings().weight
        assert torch.equal(head, module.get_output_embeddings().weight)
        assert torch.equal(table, module.get_input_embeddings().weight)
    stack = module.get_submodule(streamed._prefixes[0].rpartition(".")[0])
    for index, block in enumerate(stack.children()):
        with streamed.block(index) as ours:
            tensors = ours.state_dict()
            assert tensors.keys() == block.state_dict().keys()
            for name, tensor in block.state_dict().items():
                assert torch.equal(tensors[name], tensor), name
    return streamed


@pytest.mark.parametrize("kind", KINDS)
def test_names_of_the_files(kind, tmp_path):
    settings, stored, own = KINDS[kind]
    module = saved(tmp_path, kind, settings)
    names = load_file(tmp_path / "model.safetensors").keys()
    assert stored in names
    assert own not in names
    assert own in module.state_dict()
    assert (
        trim.load_model(tmp_path, device="cpu").layers.keys() == require_same(module, tmp_path).layers.keys()
    )


@pytest.mark.parametrize("kind", ["gpt_neox", "flint"])
def test_names_of_the_model(kind, tmp_path):
    settings, stored, own = KINDS[kind]
    module = saved(tmp_path, kind, settings)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors[own] = tensors.pop(stored)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    require_same(module, tmp_path)


def test_files_of_the_bare_model(tmp_path):
    module = saved(tmp_path, "llama", {**SIZES, "tie_word_embeddings": True})
    module.model.save_pretrained(tmp_path)
    assert "layers.0.mlp.up_proj.weight" in load_file(tmp_path / "model.safetensors")
    streamed = require_same(module, tmp_path)
    assert streamed.stored("0.mlp.up_proj")[0].name == "layers.0.mlp.up_proj.weight"


def test_tensors_of_an_older_version_that_nothing_needs(tmp_path):
    module = saved(tmp_path, "gpt_neox", SIZES)
    tensors = load_file(tmp_path / "model.safetensors")
    for index in range(2):
        tensors[f"gpt_neox.layers.{index}.attention.bias"] = torch.ones(1, 1, 8, 8)
        tensors[f"gpt_neox.layers.{index}.attention.masked_bias"] = torch.tensor(-1e9)
        tensors[f"gpt_neox.layers.{index}.attention.rotary_emb.inv_freq"] = torch.ones(4)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    require_same(module, tmp_path)


def test_a_part_that_is_missing(tmp_path):
    settings, stored, own = KINDS["olmo_hybrid"]
    saved(tmp_path, "olmo_hybrid", settings)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors[stored]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(trim.ModelError, match=f"{own} has the shape"):
        StreamedModel(tmp_path, device=torch.device("cpu"))


def test_a_number_among_the_tensors_has_no_rows():
    assert MatrixPart("0.mlp.act_fn.alpha").of(torch.tensor(3.0)) == 3
