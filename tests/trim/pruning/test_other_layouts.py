"""Blocks with more than plain layers, and checkpoints with more than text: resumed and exported bit for bit."""

from functools import partial

import pytest
from safetensors.torch import load_file

import trim
from benchmarks import architectures
from tests.trim import rough, tiny
from trim.models.checkpoint import quiet
from trim.models.streamed import StreamedModel

LAYOUTS = {  # what stays dense
    "mamba": ("conv1d", "A_log", "dt_proj"),
    "zamba": ("conv1d", "A_log", "shared_transf"),
    "llava": (),
    "gpt2": (),  # transposed
    "gemma4_text": (),  # blocks that read keys and values of others
    "deepseek_v4": ("o_a_proj",),  # several streams of hidden states
    "qwen3_vl_moe": ("mlp.gate.",),  # experts that the files hold transposed
    "minimax_m3_vl": ("mlp.gate.",),  # a layer of which the files hold the rows in two tensors
    "ernie4_5_vl_moe": ("mlp.text_moe.gate.", "vision_moe"),  # experts of text and of pictures in one row
}


pruned = partial(rough.pruned, tokens=rough.random_tokens(2, 8), allocation="uniform")


@pytest.mark.parametrize("kind", LAYOUTS)
def test_resumed_and_exported_bit_for_bit(kind, tmp_path):
    config = architectures.small_config(kind)
    if kind == "zamba":
        config.num_hidden_layers, config.layers_block_type = 3, ["linear_attention", "hybrid", "hybrid"]
    with quiet():
        architectures.random_model(config).save_pretrained(tmp_path / "model")
    tiny.tokenizer().save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "preprocessor_config.json").write_text("{}")
    run = pruned(tmp_path / "model", tmp_path / "run")
    rough.stopped(pruned, tmp_path / "model", tmp_path / "stopped")
    trim.resume(tmp_path / "stopped")
    rough.assert_same_blocks(tmp_path / "stopped", tmp_path / "run")

    out = trim.export(run, tmp_path / "out")
    assert (out / "preprocessor_config.json").read_text() == "{}"
    before, after = load_file(tmp_path / "model" / "model.safetensors"), load_file(out / "model.safetensors")
    model = StreamedModel(out, device=trim.devices.choose_device("cpu"))
    stored = {place.name for layer in run.layers for place in model.stored(layer)}
    assert stored == {name for name in before if not before[name].equal(after[name])}
    assert list(before) == list(after)
    assert not [name for name in stored if "vision" in name or any(part in name for part in LAYOUTS[kind])]
    assert sum(int((after[name] == 0).sum()) for name in stored) == run.metrics["weights"]["pruned"]
