"""What a GGUF header says of the computation is taken over, by the logits of the same weights, or refused."""

import math
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file

import trim
from tests.trim.models.gguf_files import Fields, write
from trim.models.gguf_config import read_config
from trim.models.gguf_header import read_gguf_header
from trim.models.loaded import fetch_model

WINDOW = torch.arange(3, 123)[None]
SIZES = {
    "vocab_size": 256, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
GEMMA = {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 16}
SETTINGS = {
    "llama": ("llama", {}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"head_dim": 32}),
    "qwen3moe": (
        "qwen3_moe",
        {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "norm_topk_prob": True},
    ),
    "phi3": ("phi3", {"partial_rotary_factor": 0.75}),
    "gemma2": ("gemma2", GEMMA),
    "gemma3": ("gemma3_text", {**GEMMA, "num_hidden_layers": 6}),
    "stablelm": ("stablelm", {"partial_rotary_factor": 0.5, "use_qkv_bias": True}),
    "starcoder2": ("starcoder2", {}),
    "nemotron": ("nemotron", {}),
    "bloom": ("bloom", {"n_head": 4, "n_layer": 2}),
}


def make(architecture: str, **settings: object) -> transformers.PreTrainedModel:
    """A tiny model whose weights are far from zero, so that a lost setting shows."""
    kind, own = SETTINGS[architecture]
    config = transformers.AutoConfig.for_model(kind, **{**SIZES, **own, **settings})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = transformers.AutoModelForCausalLM.from_config(config).eval()
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                if parameter.ndim > 1:
                    parameter.normal_(std=0.15)
                elif "norm" not in name:
                    parameter.normal_(std=0.02)
    return module


def gap(module: transformers.PreTrainedModel, path: Path, window: torch.Tensor = WINDOW) -> float:
    """The largest difference between the logits of a model and of the GGUF file made of it, in float16 steps."""
    loaded = trim.load_model(path, device="cpu").module
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(parameter.half())
        return float((module(window).logits - loaded(window).logits).abs().max())


WINDOWS = {"attention.sliding_window": 16}
EXPERTS: Fields = {"expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 32}
NEEDED: dict[str, Fields] = {"gemma2": WINDOWS, "gemma3": WINDOWS, "qwen3moe": EXPERTS}


KINDS = ("F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0")


@pytest.mark.parametrize(
    ("architecture", "kind"), [*((name, "F32") for name in SETTINGS), *(("llama", kind) for kind in KINDS)]
)
def test_weights_are_those_that_transformers_reads(architecture, kind, tmp_path, own_cache):
    path, module = tmp_path / "model.gguf", make(architecture)
    # Files of Bloom hold the head too, although it is tied: with other values it stays by itself.
    tensors = {"output.weight": module.lm_head.weight.detach().numpy() + 1} if architecture == "bloom" else {}
    fields = NEEDED.get(architecture, {})
    write(path, module, architecture, fields, tensors, gguf.GGMLQuantizationType[kind])
    folder = fetch_model(path).folder
    ours = load_file(folder / "model.safetensors")
    if architecture == "qwen3moe":  # as transformers joins the experts
        ours = transformers.AutoModelForCausalLM.from_pretrained(folder).state_dict()
    theirs = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, gguf_file=path.name, config=read_config(read_gguf_header(path)), dtype=torch.float32
    ).state_dict()
    assert ours.keys() == theirs.keys() - ({"lm_head.weight"} if "lm_head.weight" not in ours else set())
    assert ("lm_head.weight" in ours) == (architecture == "bloom" or not module.config.tie_word_embeddings)
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name].half()), name


def llama3_factors(rope: dict, dimensions: int) -> np.ndarray:
    """`rope_freqs.weight` as llama.cpp's converter makes it of the settings of Llama 3.1."""
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    frequency = rope["rope_theta"] ** -(np.arange(0, dimensions, 2) / dimensions)
    turns = rope["original_max_position_embeddings"] * frequency / (2 * np.pi)
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return 1 / ((1 - smooth) / rope["factor"] + smooth)


LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_theta": 10_000.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10_000.0}
LOCAL = {"rope_type": "default", "rope_theta": 50.0}
YARN = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 10_000.0, "original_max_position_embeddings": 32}
LONG, SHORT = 1 + np.arange(8) / 2, 1 + np.arange(8) / 10
LONGROPE = {
    "rope_type": "longrope", "rope_theta": 10_000.0, "original_max_position_embeddings": 64,
    "long_factor": LONG.tolist(), "short_factor": SHORT.tolist(),
}  # fmt: skip
ORIGINAL = {"rope.scaling.original_context_length": 32}
LINEAR_FIELDS: Fields = {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}
YARN_FIELDS: Fields = {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, **ORIGINAL}
LONG_ATTENTION = math.sqrt(1 + math.log(2) / math.log(64))
LONG_FIELDS: Fields = {
    "rope.scaling.attn_factor": LONG_ATTENTION, "rope.scaling.original_context_length": 64,
}  # fmt: skip
NAMED_LONG_FIELDS: Fields = {"rope.scaling.type": "longrope", **LONG_FIELDS}
LONG_TENSORS = {"rope_factors_long.weight": LONG, "rope_factors_short.weight": SHORT}
# Architecture, what the model is made with, and what its file says of it: fields and tensors.
TAKEN_OVER: dict[str, tuple[str, dict, Fields, dict[str, np.ndarray]]] = {
    **{name: (name, {}, NEEDED.get(name, {}), {}) for name in SETTINGS},
    "unscaled": ("llama", {}, {"rope.scaling.type": "none"}, {}),
    "none in spite of a factor": ("llama", {}, {"rope.scaling.type": "none", "rope.scaling.factor": 4.0}, {}),
    "linear": ("llama", {"rope_parameters": LINEAR}, LINEAR_FIELDS, {}),
    "linear without its name": ("llama", {"rope_parameters": LINEAR}, {"rope.scaling.factor": 4.0}, {}),
    "linear as it was written once": ("llama", {"rope_parameters": LINEAR}, {"rope.scale_linear": 4.0}, {}),
    "yarn": ("llama", {"rope_parameters": YARN}, YARN_FIELDS, {}),
    "yarn with all it can say": (
        "qwen2",
        {"rope_parameters": {**YARN, "attention_factor": 1.5, "beta_fast": 16.0, "beta_slow": 2.0}},
        {
            **YARN_FIELDS,
            "rope.scaling.yarn_attn_factor": 1.5,
            "rope.scaling.yarn_beta_fast": 16.0,
            "rope.scaling.yarn_beta_slow": 2.0,
            "rope.scaling.yarn_ext_factor": 1.0,
        },
        {},
    ),
    "llama3": ("llama", {"rope_parameters": LLAMA3}, {}, {"rope_freqs.weight": llama3_factors(LLAMA3, 16)}),
    "factors of another kind": (
        "llama",
        {"rope_parameters": {**LONGROPE, "short_factor": LONG.tolist(), "attention_factor": 1.0}},
        {},
        {"rope_freqs.weight": LONG},
    ),
    "factors that are all one": ("llama", {}, {}, {"rope_freqs.weight": np.ones(8)}),
    "longrope": ("llama", {"rope_parameters": LONGROPE}, NAMED_LONG_FIELDS, LONG_TENSORS),
    "longrope without its name": (
        "phi3",
        {"rope_parameters": LONGROPE, "original_max_position_embeddings": 64, "partial_rotary_factor": 1.0},
        LONG_FIELDS,
        LONG_TENSORS,
    ),
    "base": ("llama", {"rope_parameters": {"rope_type": "default", "rope_theta": 500.0}}, {}, {}),
    "window": ("phi3", {"sliding_window": 16}, {"attention.sliding_window": 16}, {}),
    "no window": ("phi3", {"sliding_window": None}, {"attention.sliding_window": 0}, {}),
    "window of Gemma 2": ("gemma2", {"sliding_window": 8}, {"attention.sliding_window": 8}, {}),
    "pattern by a period": (
        "gemma3",
        {"layer_types": ["sliding_attention", "sliding_attention", "full_attention"] * 2},
        {**WINDOWS, "attention.sliding_window_pattern": 3},
        {},
    ),
    "pattern by block": (
        "gemma2",
        {"layer_types": ["full_attention", "sliding_attention"]},
        {**WINDOWS, "attention.sliding_window_pattern": [False, True]},
        {},
    ),
    "soft caps": (
        "gemma2",
        {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
        {**WINDOWS, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
        {},
    ),
    "no soft caps": (
        "gemma2",
        {"attn_logit_softcapping": None, "final_logit_softcapping": None},
        {**WINDOWS, "attn_logit_softcapping": 0.0, "final_logit_softcapping": 0.0},
        {},
    ),
    "soft cap of Gemma 3": (
        "gemma3", {"final_logit_softcapping": 3.0}, {**WINDOWS, "final_logit_softcapping": 3.0}, {},
    ),
    "scale": ("gemma3", {"query_pre_attn_scalar": 64}, {**WINDOWS, "attention.scale": 0.125}, {}),
    "scale as it is": ("llama", {}, {"attention.scale": 0.25}, {}),
    "scaled but for the windows": (
        "gemma3",
        {"rope_parameters": {"full_attention": LINEAR, "sliding_attention": LOCAL}},
        {**WINDOWS, **LINEAR_FIELDS, "rope.freq_base_swa": 50.0},
        {},
    ),
    "untied": ("qwen2", {"tie_word_embeddings": False}, {}, {}),
    "biases": ("llama", {"attention_bias": True, "mlp_bias": True}, {}, {}),
    "one block after the other": ("stablelm", {"use_parallel_residual": True}, {"use_parallel_residual": True}, {}),
    "what is off": ("llama", {}, {"expert_count": 0, "attention.clamp_kqv": 0.0, "logit_scale": 0.0}, {}),
}  # fmt: skip


@pytest.mark.parametrize("case", TAKEN_OVER)
def test_what_a_header_says_is_computed(case, tmp_path, own_cache):
    architecture, settings, fields, tensors = TAKEN_OVER[case]
    module = make(architecture, **settings)
    write(tmp_path / "model.gguf", module, architecture, fields, tensors)
    assert trim.describe_model(tmp_path / "model.gguf").blocks == module.config.num_hidden_layers
    assert gap(module, tmp_path / "model.gguf") < (2e-4 if case in SETTINGS else 5e-4)


def test_the_short_factors_are_taken_over_too(tmp_path, own_cache):
    module = make("llama", rope_parameters=LONGROPE)
    write(tmp_path / "model.gguf", module, "llama", NAMED_LONG_FIELDS, LONG_TENSORS)
    assert gap(module, tmp_path / "model.gguf", WINDOW[:, :40]) < 5e-4


@pytest.mark.parametrize(("architecture", "blocks"), [("gemma2", 46), ("gemma3", 62)])
def test_the_largest_gemma_scales_by_its_size(architecture, blocks, tmp_path):
    fields = NEEDED[architecture]
    for count, scalar in ((blocks, 16), (2, 32)):
        module = make(architecture, num_hidden_layers=count, head_dim=32, hidden_size=64)
        write(tmp_path / "model.gguf", module, architecture, fields)
        assert read_config(read_gguf_header(tmp_path / "model.gguf")).query_pre_attn_scalar == scalar


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_llama_3_is_recognized(factor, tmp_path):
    """By the sizes of Llama 3.1 and 3.2."""
    rope = {**LLAMA3, "factor": factor, "rope_theta": 500_000.0, "original_max_position_embeddings": 8192}
    module = make("llama", num_attention_heads=2, num_key_value_heads=1, head_dim=128)
    module.config.rope_parameters["rope_theta"] = 500_000.0
    write(tmp_path / "model.gguf", module, "llama", {}, {"rope_freqs.weight": llama3_factors(rope, 128)})
    header = read_gguf_header(tmp_path / "model.gguf")
    assert read_config(header).rope_parameters == rope


REFUSED: dict[str, tuple[str, dict, Fields, dict[str, np.ndarray], str]] = {
    "another type": ("llama", {}, {"rope.scaling.type": "ntk"}, {}, "rope.scaling.type = ntk"),
    "a scale": ("llama", {}, {"attention.scale": 0.5}, {}, "attention.scale = 0.5"),
    "a soft cap": ("llama", {}, {"attn_logit_softcapping": 5.0}, {}, "attn_logit_softcapping = 5.0"),
    "a window": ("llama", {}, {"attention.sliding_window": 16}, {}, "attention.sliding_window = 16"),
    "a scale of logits": ("llama", {}, {"logit_scale": 2.0}, {}, "logit_scale = 2.0"),
    "a multiplier": ("qwen2", {}, {"rope.scaling.yarn_log_multiplier": 0.1}, {}, "yarn_log_multiplier"),
    "part of each head": ("llama", {}, {"rope.dimension_count": 8}, {}, "rope.dimension_count = 8"),
    "heads by block": ("llama", {}, {"attention.head_count": [4, 2]}, {}, "attention.head_count = (4, 2)"),
    "sees what comes later": ("llama", {}, {"attention.causal": False}, {}, "attention.causal = False"),
    "an unknown field": ("llama", {}, {"something.new": 7}, {}, "llama.something.new = 7"),
    "scaled twice": ("llama", {}, YARN_FIELDS, {"rope_freqs.weight": LONG}, "scales its positions twice"),
    "no factors": ("llama", {}, {"rope.scaling.type": "longrope"}, {}, "rope_factors_long.weight"),
    "a tensor too many": ("llama", {}, {}, {"blk.0.attn_sinks.weight": LONG}, "blk.0.attn_sinks.weight"),
    "an adapted bias": ("llama", {}, {}, {"blk.0.attn_q.bias": LONG}, "blk.0.attn_q.bias"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_computed_is_refused_at_once(case, tmp_path, own_cache):
    architecture, settings, fields, tensors, message = REFUSED[case]
    write(tmp_path / "model.gguf", make(architecture, **settings), architecture, fields, tensors)
    for known in (trim.describe_model, trim.load_model):
        with pytest.raises(trim.ModelError) as caught:
            known(tmp_path / "model.gguf")
        assert message in str(caught.value)
        assert "safetensors" in str(caught.value) or "convert" in str(caught.value)
    assert not list(own_cache.glob("models/*"))


def test_weights_that_are_missing(tmp_path, own_cache):
    module = make("llama")
    del module.model.layers[1].mlp.up_proj.weight
    write(tmp_path / "model.gguf", module, "llama", {})
    with pytest.raises(trim.ModelError, match=r"blk\.1\.ffn_up\.weight"):
        trim.describe_model(tmp_path / "model.gguf")
