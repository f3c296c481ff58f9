"""Models from folders: structure, types, memory; what cannot be loaded says what to do."""

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load, load_file, save_file

import trim
from tests.trim import tiny
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


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.folder(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture
def damaged(llama: Path, tmp_path: Path) -> Path:
    """A folder that a test may damage."""
    return Path(shutil.copytree(llama, tmp_path / "damaged"))


def refusal(source: str | Path, error: type[trim.TrimError] = trim.ModelError, **settings: object) -> str:
    """The message of the error that loading ends with: one paragraph, no traceback of a library."""
    with pytest.raises(error) as caught:
        trim.load_model(source, device=settings.pop("device", "cpu"), **settings)
    message = str(caught.value)
    assert "\n" not in message
    assert "Traceback" not in message
    return message


@pytest.mark.parametrize("kind", tiny.SUPPORTED)
def test_blocks_and_layers_are_found_by_structure(kind: str, tmp_path: Path):
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
def test_other_architectures_are_refused_by_name(architecture: str, tmp_path: Path):
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
    ("changed", "said"),
    [
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantized"),
        ({"model_type": "unheard-of", "architectures": ["UnheardForCausalLM"]}, "UnheardForCausalLM"),
        ({"model_type": "own", "auto_map": {"AutoConfig": "code.Config"}}, "never runs"),
        ({"hidden_size": "wide"}, "damaged"),
    ],
)
def test_a_configuration_that_cannot_be_used(damaged: Path, changed: dict, said: str):
    path = damaged / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    assert said in refusal(damaged)


def test_code_in_a_folder_never_runs(damaged: Path):
    (damaged / "code.py").write_text("raise SystemExit('it ran')")
    path = damaged / "config.json"
    auto_map = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": auto_map}))
    assert trim.load_model(damaged, device="cpu").architecture == "LlamaForCausalLM"


def test_what_is_known_before_loading(llama: Path):
    described = trim.describe_model(llama)
    model = trim.load_model(llama, device="cpu")
    assert described.title == model.title == "tiny-llama"
    assert described.architecture == model.architecture == "LlamaForCausalLM"
    assert (described.kind, described.download_bytes, described.blocks) == ("folder", 0, tiny.BLOCKS)
    assert described.parameters == sum(parameter.numel() for parameter in model.module.parameters())
    assert described.layers_text == f"{7 * tiny.BLOCKS} linear layers in {tiny.BLOCKS} blocks."


def test_the_type_and_device_can_be_chosen(llama: Path):
    assert trim.load_model(llama, device="cpu").dtype == torch.float32
    assert trim.load_model(llama, device="cpu", dtype="bfloat16").dtype == torch.bfloat16
    assert "float8" in refusal(llama, trim.SettingsError, dtype="float8")
    assert "cuda:99" in refusal(llama, trim.SettingsError, device="cuda:99")
    assert "not a device" in refusal(llama, trim.SettingsError, device="toaster")
    assert "not on 'mps'" in refusal(llama, trim.SettingsError, device="mps")


def test_a_gpu_gets_the_half_type_of_the_checkpoint(monkeypatch: pytest.MonkeyPatch):
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


def test_memory_is_estimated_before_anything_is_allocated(llama: Path, monkeypatch: pytest.MonkeyPatch):
    needed = int(1.1 * 4 * sum(t.numel() for t in load_file(llama / "model.safetensors").values()))
    monkeypatch.setattr(devices, "available_bytes", lambda device: needed - 1)
    message = refusal(llama, trim.NotEnoughMemoryError)
    assert "tiny-llama" in message
    assert 'dtype="bfloat16"' in message
    assert trim.load_model(llama, device="cpu", dtype="bfloat16").dtype == torch.bfloat16


def test_the_limit_of_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 150\n")
    monkeypatch.setattr(devices, "_CGROUP", tmp_path)
    assert devices.available_bytes(torch.device("cpu")) == 450
    (tmp_path / "memory.max").write_text("max\n")
    assert devices.available_bytes(torch.device("cpu")) > 2**20


def test_memory_that_fills_up_while_loading(llama: Path, monkeypatch: pytest.MonkeyPatch):
    def fill(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", fill)
    assert "choose a smaller model" in refusal(llama, trim.NotEnoughMemoryError)


def test_the_fingerprint_follows_the_weights(damaged: Path):
    def fingerprint() -> str:
        return trim.load_model(damaged, device="cpu").fingerprint

    before = fingerprint()
    assert fingerprint() == before
    tensors = load_file(damaged / "model.safetensors")
    save_file({name: 2 * tensor for name, tensor in tensors.items()}, damaged / "model.safetensors")
    assert fingerprint() != before


def test_parts_with_an_index(llama: Path, tmp_path: Path):
    model = tiny.module("llama")
    model.save_pretrained(tmp_path, max_shard_size="20kB")
    tiny.tokenizer().save_pretrained(tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    loaded = trim.load_model(tmp_path, device="cpu")
    whole = trim.load_model(llama, device="cpu")
    assert torch.equal(loaded.layers["1.mlp.up_proj"].weight, whole.layers["1.mlp.up_proj"].weight)
    gone = sorted(tmp_path.glob("model-*.safetensors"))[-1]
    gone.unlink()
    assert gone.name in refusal(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    assert "damaged" in refusal(tmp_path)


def test_pickles_are_never_opened(damaged: Path):
    (damaged / "model.safetensors").rename(damaged / "pytorch_model.bin")
    message = refusal(damaged)
    assert "pytorch_model.bin" in message
    assert "save_pretrained" in message


def test_a_folder_without_weights(damaged: Path, tmp_path: Path):
    weights = damaged / "model.safetensors"
    weights.rename(damaged / "adapter_model.safetensors")
    assert "adapter" in refusal(damaged)
    (damaged / "adapter_model.safetensors").rename(damaged / "model.gguf")
    assert "model.gguf" in refusal(damaged)
    (damaged / "model.gguf").unlink()
    assert "no weights" in refusal(damaged)
    with pytest.raises(trim.ModelError, match="no weights"):
        trim.describe_model(damaged)
    (tmp_path / "empty").mkdir()
    assert "no weights" in refusal(tmp_path / "empty")


def test_damaged_weights(damaged: Path):
    path = damaged / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "downloaded to its end" in refusal(damaged)
    path.write_bytes(b"<html>404</html>")
    assert "damaged" in refusal(damaged)
    tensors = load(whole)
    save_file({}, path)
    assert "without a single tensor" in refusal(damaged)
    lacking = {name: tensor for name, tensor in tensors.items() if "1.mlp.up_proj" not in name}
    save_file(lacking, path)
    assert "1.mlp.up_proj.weight" in refusal(damaged)
    name = "model.layers.0.mlp.up_proj.weight"
    save_file(tensors | {name: tensors[name][:3].clone()}, path)
    assert "do not fit" in refusal(damaged)
    save_file({name: tensor.to(torch.int8) for name, tensor in tensors.items()}, path)
    assert "quantized (type I8)" in refusal(damaged)


def test_damaged_configuration_and_tokenizer(damaged: Path):
    tokenizer = damaged / "tokenizer.json"
    tokenizer.write_text("{")
    assert "tokenizer" in refusal(damaged)
    tokenizer.unlink()
    assert "no tokenizer" in refusal(damaged)
    (damaged / "config.json").write_text("{")
    assert "config.json is damaged" in refusal(damaged)
    (damaged / "config.json").unlink()
    assert "no config.json" in refusal(damaged)


@pytest.mark.parametrize(
    "source", ["", "\0", "demos", "./nowhere/model", "model.gguf", "a/b/c/d", "org/na me"]
)
def test_what_is_not_a_model_at_all(source: str):
    assert "folder" in refusal(source)


def test_one_file_of_a_folder(llama: Path):
    assert str(llama) in refusal(llama / "model.safetensors")


def test_titles_are_short_and_printable(damaged: Path):
    strange = damaged.rename(damaged.with_name("a\nb\x1b[31m" + "x" * 200))
    title = trim.load_model(strange, device="cpu").title
    assert title.isprintable()
    assert len(title) <= 80


def test_select_takes_names_and_patterns(llama: Path):
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
