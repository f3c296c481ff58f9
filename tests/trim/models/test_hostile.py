"""Malicious models: each is refused at once with a message, whatever it asks for."""

import json
import struct
from pathlib import Path

import pytest
from transformers import Qwen3MoeConfig

import trim
from benchmarks.mutations import read_header_of
from tests.trim import rough
from trim.models.architecture import blueprint
from trim.models.checkpoint import read_config
from trim.models.gguf_header import read_gguf_header
from trim.models.loaded import fetch_model
from trim.models.tensor_files import TensorFiles
from trim.names import absolute

DEEP = json.loads("[" * 500 + "]" * 500)


def configured(folder: Path, **changes: object) -> Path:
    rough.edit_json(folder / "config.json", **changes)
    return folder


def headed(folder: Path, header: bytes | dict) -> Path:
    """Give the safetensors another header; a dictionary changes the entry of one tensor."""
    path = folder / "model.safetensors"
    before, rest = read_header_of(path)
    if isinstance(header, dict):
        before["model.layers.0.mlp.up_proj.weight"] |= header
        header = json.dumps(before).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + rest)
    return folder


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": 10**6},
        {"num_hidden_layers": -1},
        {"num_hidden_layers": 400},  # more than the files hold
        {"head_dim": 2 * 10**9},
        {"hidden_size": 10**12},
        {"hidden_size": 10**40},
        {"max_position_embeddings": "long"},
        {"vocab_size": 10**9},
        {"num_attention_heads": 0},
        {"hidden_act": None},
        {"architectures": 5},
        {"rope_parameters": {"rope_type": 0, "rope_theta": 1e4}},
        {"quantization_config": 5},
        {"layer_types": 5},
        {"rms_norm_eps": DEEP},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_configurations(own_llama, changes):
    with pytest.raises(trim.ModelError) as caught:
        fetch_model(configured(own_llama, **changes))
    assert len(str(caught.value)) < 1000


def test_how_a_model_is_loaded_is_ours_to_say(own_llama):
    config = read_config(configured(own_llama, _attn_implementation="org/kernel", dtype="int8"))
    assert (config._attn_implementation, config.dtype) == (None, None)
    assert trim.load_model(own_llama, device="cpu").module.config._attn_implementation == "sdpa"


@pytest.mark.parametrize(
    "header",
    [
        {"shape": [-32, -32]},
        {"shape": [2**64]},
        {"shape": None},
        {"data_offsets": ["0", float("inf")]},
        {"dtype": []},
        b'{"x":' * 100_000 + b"1" + b"}" * 100_000,
        b" " * (33 * 2**20),
    ],
    ids=lambda header: str(header)[:20],
)
def test_headers_of_safetensors(own_llama, header):
    with pytest.raises(trim.ModelError, match=r"model\.safetensors"):
        fetch_model(headed(own_llama, header))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
def test_deep_json(own_llama, name):
    if "index" in name:
        (own_llama / "model.safetensors").unlink()
    (own_llama / name).write_text("[" * 200_000 + "]" * 200_000)
    with pytest.raises(trim.ModelError, match="damaged"):
        fetch_model(own_llama)


def gguf(path: Path, dimensions: int, size: int, blocks: int = 1) -> Path:
    """A header of two fields and one tensor of that many dimensions, each of that size."""

    def text(content: str) -> bytes:
        return struct.pack("<Q", len(content)) + content.encode()

    fields = text("general.architecture") + struct.pack("<I", 8) + text("llama")
    fields += text("llama.block_count") + struct.pack("<II", 4, blocks)
    tensor = text("t") + struct.pack("<I", dimensions) + struct.pack("<Q", size) * dimensions
    path.write_bytes(
        b"GGUF" + struct.pack("<IQQ", 3, 1, 2) + fields + tensor + struct.pack("<IQ", 0, 0) + bytes(64)
    )
    return path


@pytest.mark.parametrize(
    ("dimensions", "size", "blocks"), [(400_000, 2**64 - 1, 1), (2, 2**32, 1), (1, 8, 2**31 - 1)]
)
def test_headers_of_gguf(tmp_path, dimensions, size, blocks):
    assert read_gguf_header(gguf(tmp_path / "good.gguf", 1, 8)).parameters == 8
    with pytest.raises(trim.ModelError, match="damaged"):
        read_gguf_header(gguf(tmp_path / "bad.gguf", dimensions, size, blocks))


def test_more_tensors_than_any_model_has(llama, monkeypatch):
    monkeypatch.setattr("trim.models.tensor_files.MAX_TENSORS", 3)
    with pytest.raises(trim.ModelError, match="over 3 tensors"):
        TensorFiles(llama)


def test_as_many_tensors_as_the_largest_mixtures_have(tmp_path):
    """128 experts of three layers in 94 blocks, by the headers alone."""
    entries = {
        f"model.layers.{block}.mlp.experts.{place}": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 0]}
        for block in range(94)
        for place in range(128 * 3)
    }
    for place, entry in enumerate(entries.values()):
        entry["data_offsets"] = [2 * place, 2 * place + 2]
    header = json.dumps(entries).encode()
    content = struct.pack("<Q", len(header)) + header + bytes(2 * len(entries))
    (tmp_path / "model.safetensors").write_bytes(content)
    (tmp_path / "config.json").write_text("{}")
    files = TensorFiles(tmp_path)
    assert files.parameters == 36_096
    files.fingerprint()


def test_more_experts_than_any_model_has(monkeypatch):
    monkeypatch.setattr("trim.models.architecture.MAX_TENSORS", 200)
    config = Qwen3MoeConfig(
        hidden_size=32, num_attention_heads=4, num_key_value_heads=2, num_experts=2**20, num_experts_per_tok=2,
        moe_intermediate_size=8, num_hidden_layers=1, vocab_size=64,
    )  # fmt: skip
    with pytest.raises(trim.ModelError, match="over 200 tensors"):
        blueprint(config)


@pytest.mark.parametrize("name", ["É" * 200, "x" * 5000, "a\0b", "~nobody-of-this-name/x"])
def test_names_that_no_file_can_have_are_names(name):
    assert absolute(name) == name
