"""Models from folders: structure, types, memory; what cannot be loaded says what to do."""

from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import trim
from tests.trim import rough, tiny
from trim import devices

_MANY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 256}
UNSUPPORTED = {
    "BertForMaskedLM": ("BertConfig", _MANY, "encoder"),
    "BertLMHeadModel": ("BertConfig", _MANY, "encoder"),
    "RobertaForCausalLM": ("RobertaConfig", _MANY, "encoder"),
    "T5ForConditionalGeneration": ("T5Config", {}, "encoder"),
    "CpmAntForCausalLM": ("CpmAntConfig", {"num_hidden_layers": 2}, "is not a decoder that only"),
    "ViTForImageClassification": ("ViTConfig", {}, "is not a decoder"),
}


def refusal(source: str | Path, error: type[trim.TrimError] = trim.ModelError, **settings: object) -> str:
    """The message of the error that loading ends with: one paragraph, no traceback of a library."""
    with pytest.raises(error) as caught:
        trim.load_model(source, device=settings.pop("device", "cpu"), **settings)
    message = str(caught.value)
    assert "\n" not in message
    assert "Traceback" not in message
    return message


@pytest.mark.parametrize("kind", tiny.SUPPORTED)
def test_blocks_and_layers_are_found_by_structure(kind, tmp_path):
    model = trim.load_model(str(tiny.folder(tmp_path / kind, kind)), device="cpu")
    expected = [f"{block}.{layer}" for block in range(tiny.BLOCKS) for layer in tiny.SUPPORTED[kind][2]]
    assert sorted(model.layers) == sorted(expected)
    assert len(model.blocks) == tiny.BLOCKS
    inside = {parameter for block in model.blocks for parameter in block.parameters()}
    assert {layer.weight for layer in model.layers.values()} <= inside
    assert model.module.get_output_embeddings() not in model.layers.values()
    assert not model.module.training
    assert not any(parameter.requires_grad for parameter in model.module.parameters())


@pytest.mark.parametrize("architecture", UNSUPPORTED)
def test_other_architectures_are_refused_by_name(architecture, tmp_path):
    name, settings, reason = UNSUPPORTED[architecture]
    config = getattr(transformers, name)(**settings)
    config.architectures = [architecture]
    config.save_pretrained(tmp_path)
    save_file({"weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    tiny.tokenizer().save_pretrained(tmp_path)
    message = refusal(tmp_path)
    assert f"cannot prune {architecture}" in message
    assert reason in message
    assert "Llama" in message
    with pytest.raises(trim.ModelError, match=architecture):
        trim.describe_model(tmp_path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantized"),
        ({"model_type": "unheard-of", "architectures": ["UnheardForCausalLM"]}, "UnheardForCausalLM"),
        ({"model_type": "own", "auto_map": {"AutoConfig": "code.Config"}}, "never runs"),
        ({"hidden_size": "wide"}, "damaged"),
    ],
)
def test_a_configuration_that_cannot_be_used(own_llama, changed, message):
    rough.edit_json(own_llama / "config.json", **changed)
    assert message in refusal(own_llama)


def test_code_in_a_folder_never_runs(own_llama):
    (own_llama / "code.py").write_text("raise SystemExit('it ran')")
    auto_map = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    rough.edit_json(own_llama / "config.json", auto_map=auto_map)
    assert trim.load_model(own_llama, device="cpu").architecture == "LlamaForCausalLM"


def test_a_model_is_described_without_loading_it(llama):
    described = trim.describe_model(llama)
    model = trim.load_model(llama, device="cpu")
    assert described.title == model.title == "llama"
    assert described.architecture == model.architecture == "LlamaForCausalLM"
    assert (described.kind, described.download_bytes, described.blocks) == ("folder", 0, tiny.BLOCKS)
    assert described.parameters == sum(parameter.numel() for parameter in model.module.parameters())
    assert described.layers_text == f"{7 * tiny.BLOCKS} linear layers in {tiny.BLOCKS} blocks."


def test_the_type_and_device_can_be_chosen(llama):
    assert trim.load_model(llama, device="cpu").dtype == torch.float32
    assert trim.load_model(llama, device="cpu", dtype="bfloat16").dtype == torch.bfloat16
    assert "float8" in refusal(llama, trim.SettingsError, dtype="float8")
    assert "cuda:99" in refusal(llama, trim.SettingsError, device="cuda:99")
    assert "not a device" in refusal(llama, trim.SettingsError, device="toaster")
    assert "not on 'mps'" in refusal(llama, trim.SettingsError, device="mps")


def test_a_gpu_gets_the_half_type_of_the_checkpoint(monkeypatch):
    gpu = torch.device("cuda")
    for has_bfloat16, checkpoint, chosen in (
        (True, torch.float32, torch.bfloat16),
        (True, torch.bfloat16, torch.bfloat16),
        (True, torch.float16, torch.float16),
        (False, torch.bfloat16, torch.float16),
    ):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda has=has_bfloat16: has)
        assert devices.choose_dtype(None, checkpoint, gpu) == chosen
    assert devices.choose_dtype("float32", torch.float16, gpu) == torch.float32


def test_memory_is_estimated_before_anything_is_allocated(llama, monkeypatch):
    needed = int(1.1 * 4 * sum(t.numel() for t in load_file(llama / "model.safetensors").values()))
    monkeypatch.setattr(devices, "available_bytes", lambda device: needed - 1)
    message = refusal(llama, trim.NotEnoughMemoryError)
    assert "llama" in message
    assert 'dtype="bfloat16"' in message
    assert trim.load_model(llama, device="cpu", dtype="bfloat16").dtype == torch.bfloat16


def test_the_limit_of_a_container_counts(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 150\n")
    monkeypatch.setattr(devices, "_CGROUP", tmp_path)
    assert devices.available_bytes(torch.device("cpu")) == 450
    (tmp_path / "memory.max").write_text("max\n")
    assert devices.available_bytes(torch.device("cpu")) > 2**20


def test_memory_that_fills_up_while_loading(llama, monkeypatch):
    def fill(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", fill)
    assert "choose a smaller model" in refusal(llama, trim.NotEnoughMemoryError)


def test_the_fingerprint_follows_the_weights(own_llama):
    def fingerprint() -> str:
        return trim.load_model(own_llama, device="cpu").fingerprint

    before = fingerprint()
    assert fingerprint() == before
    tensors = load_file(own_llama / "model.safetensors")
    save_file({name: 2 * tensor for name, tensor in tensors.items()}, own_llama / "model.safetensors")
    assert fingerprint() != before


def test_a_folder_without_weights(own_llama, tmp_path):
    weights = own_llama / "model.safetensors"
    weights.rename(own_llama / "adapter_model.safetensors")
    assert "adapter" in refusal(own_llama)
    (own_llama / "adapter_model.safetensors").rename(own_llama / "model.gguf")
    assert "model.gguf" in refusal(own_llama)
    (own_llama / "model.gguf").unlink()
    assert "no weights" in refusal(own_llama)
    with pytest.raises(trim.ModelError, match="no weights"):
        trim.describe_model(own_llama)
    (tmp_path / "empty").mkdir()
    assert "no weights" in refusal(tmp_path / "empty")


def test_damaged_configuration_and_tokenizer(own_llama):
    tokenizer = own_llama / "tokenizer.json"
    tokenizer.write_text("{")
    assert "tokenizer" in refusal(own_llama)
    tokenizer.unlink()
    assert "no tokenizer" in refusal(own_llama)
    (own_llama / "config.json").write_text("{")
    assert "config.json is damaged" in refusal(own_llama)
    (own_llama / "config.json").unlink()
    assert "no config.json" in refusal(own_llama)


@pytest.mark.parametrize(
    "source", ["", "\0", "demos", "./nowhere/model", "model.gguf", "a/b/c/d", "org/na me"]
)
def test_what_is_not_a_model_at_all(source):
    assert "folder" in refusal(source)


def test_one_file_of_a_folder(llama):
    assert str(llama) in refusal(llama / "model.safetensors")


def test_titles_are_short_and_printable(own_llama):
    strange = own_llama.rename(own_llama.with_name("a\nb\x1b[31m" + "x" * 200))
    title = trim.load_model(strange, device="cpu").title
    assert title.isprintable()
    assert len(title) <= 80


def test_select_takes_names_and_patterns(llama):
    model = trim.load_model(llama, device="cpu")
    assert model.select(["1.mlp.*", "0.mlp.up_proj"]) == [
        "0.mlp.up_proj", "1.mlp.gate_proj", "1.mlp.up_proj", "1.mlp.down_proj",
    ]  # fmt: skip
    assert model.select("*.q_proj") == [f"{block}.self_attn.q_proj" for block in range(tiny.BLOCKS)]
    with pytest.raises(trim.LayerNotFoundError, match=r"closest names: .*1\.mlp\.gate_proj"):
        model.select(["1.mlp.gate"])


def test_the_demo():
    described = trim.describe_model("demo")
    assert (described.parameters, described.blocks, described.download_bytes) == (134_515_008, 30, 0)
