"""X-rays of checkpoints that are quantized, cut short or without blocks: what can be read is shown."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

import trim
from tests.trim import tiny
from tests.trim.evaluation.checkpoints import smallest_of_rows
from tests.trim.models import gguf_files
from trim.evaluation.xray_text import findings
from trim.models.gguf_header import read_gguf_header


def test_quantized_layers_are_named_and_the_rest_is_shown(tmp_path):
    kept = torch.ones(4, 8)
    kept[0] = 0
    tensors = {
        "model.layers.0.mlp.up_proj.weight": kept,
        "model.layers.0.mlp.down_proj.qweight": torch.zeros(4, 8, dtype=torch.int32),
        "model.layers.0.mlp.down_proj.scales": torch.ones(4, 8),
        "model.layers.1.mlp.up_proj.weight": torch.zeros(4, 8, dtype=torch.float8_e4m3fn),
    }
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    found = trim.xray(tmp_path)
    assert {layer.name: layer.zeros for layer in found.layers} == {"0.mlp.up_proj": 8}
    assert found.quantized == {"0.mlp.down_proj": "int32", "1.mlp.up_proj": "F8_E4M3"}
    (message,) = [sentence for sentence in findings(found) if "quantized" in sentence]
    assert message.startswith(
        "2 more layers are quantized (type F8_E4M3, int32) and left out: 0.mlp.down_proj, 1.mlp.up"
    )
    del tensors["model.layers.0.mlp.up_proj.weight"]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(trim.ModelError, match=r"all 2 layers of .* are quantized"):
        trim.xray(tmp_path)


def test_of_a_checkpoint_cut_short_the_rest_is_shown(folder, pruned, tmp_path):
    checkpoint = pruned(smallest_of_rows(0.5))
    weights = load_file(checkpoint / "model.safetensors")
    (checkpoint / "model.safetensors").unlink()
    parts = {
        f"part-{place}.safetensors": [name for name in weights if f".{place}." in name] for place in range(3)
    }
    for file, names in parts.items():
        save_file({name: weights[name] for name in names}, checkpoint / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, names in parts.items() for name in names}}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    whole = {layer.name: layer.zeros for layer in trim.xray(checkpoint).layers}
    assert len(whole) == 21
    cut = checkpoint / "part-1.safetensors"
    content = cut.read_bytes()
    cut.write_bytes(content[:-1])  # of the tensor that lies last
    found = trim.xray(checkpoint, folder)
    (lost,) = found.lost
    assert {layer.name: layer.zeros for layer in found.layers} == {
        name: zeros for name, zeros in whole.items() if f"model.layers.{name}.weight" != lost
    }
    assert findings(found)[-2:] == [
        f"{cut} is damaged or was not downloaded to its end (it has {len(content) - 1:,} bytes, and its header "
        f"describes {len(content):,}); get it again from where the model comes from",
        f"1 tensor is lost with it: {lost}. All numbers describe the other tensors.",
    ]
    cut.write_bytes(content[:20])
    (checkpoint / "part-2.safetensors").unlink()
    found = trim.xray(checkpoint)
    assert {layer.name for layer in found.layers} == {name for name in whole if name.startswith("0.")}
    assert set(found.lost) == {*parts["part-1.safetensors"], *parts["part-2.safetensors"]}
    assert [
        "its header is cut short" in message or "is missing; get it" in message for message in found.damaged
    ] == [True] * 2
    (checkpoint / "part-0.safetensors").write_bytes(b"")
    with pytest.raises(trim.ModelError, match=r"part-0.safetensors is damaged or was not"):
        trim.xray(checkpoint)
    with pytest.raises(trim.ModelError, match=r"lacks 1 of the 3 parts"):  # what computes with it needs all
        trim.load_model(checkpoint)


def test_of_a_gguf_file_cut_short_the_rest_is_shown(folder, tmp_path, own_cache):
    path, module = tmp_path / "cut.gguf", tiny.module("qwen2")
    with torch.no_grad():
        for block in module.model.layers:
            block.mlp.up_proj.weight[:3] = 0
    gguf_files.write(path, module, "qwen2", {})
    whole = trim.xray(path)
    path.write_bytes(path.read_bytes()[:-1])
    header = read_gguf_header(path, partly=True)
    last = max(header.tensors, key=lambda name: header.tensors[name].start)
    found = trim.xray(path, path)
    assert (found.lost, found.sparsity > 0) == ((last,), True)
    assert findings(found)[-2:] == [
        "cut.gguf is damaged or was not downloaded to its end; download it again",
        f"1 tensor is lost with it: {last}. All numbers describe the other tensors.",
    ]
    assert len(whole.layers) == len(found.layers) + last.startswith("blk.")
    zeros = {layer.name: layer.zeros for layer in whole.layers}
    assert {layer.name: layer.zeros for layer in found.layers}.items() <= zeros.items()
    with pytest.raises(trim.ModelError, match=r"cut\.gguf is damaged or was not downloaded to its end"):
        trim.load_model(path)


def test_a_checkpoint_without_blocks_is_refused(tmp_path):
    save_file({"weight": torch.ones(4, 4)}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(trim.ModelError, match="has no blocks: none of its 1 tensors is a matrix"):
        trim.xray(tmp_path)
