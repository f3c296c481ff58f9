"""The configuration of the model in a GGUF file, made from its header.

A field of the header that changes what the model computes is taken over as llama.cpp means it, or the file is refused.
`transformers` ignores most of them silently: scaled positions, soft caps, scales, windows.
"""

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trim.errors import ModelError
from trim.models.gguf_fields import GgufFields
from trim.models.gguf_header import GgufHeader
from trim.models.gguf_positions import SCALING_TENSORS, position_settings

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

_SIZES = {
    "block_count": "num_hidden_layers",
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
}
_RMS = {"attention.layer_norm_rms_epsilon": "rms_norm_eps"}
_EXPERTS = {
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
}
_SOFT_CAPS = {name: name for name in ("attn_logit_softcapping", "final_logit_softcapping")}
_TOKENS = {
    "bos_token_id": "tokenizer.ggml.bos_token_id",
    "eos_token_id": "tokenizer.ggml.eos_token_id",
    "pad_token_id": "tokenizer.ggml.padding_token_id",
}
_OPTIONAL = {"unk_token_id": "tokenizer.ggml.unknown_token_id", "_model_name_or_path": "general.name"}
_EXPERT_PATH = re.compile(r"\bexperts\.\d+\.")  # in the file all experts are joined in one tensor
_NO_PARAMETERS = (*SCALING_TENSORS, "output.weight")  # of the model, or not of every model


@dataclass(frozen=True)
class _Family:
    """The names in `transformers` for the fields and tensors of an architecture's files.

    Attributes:
        model_type: the one in its config.json.
        required, optional: fields of the header, and the settings of the configuration that they become.
        flags: settings that are true where the first block holds a tensor.
        always: settings that no header has, because llama.cpp knows no other value.
        has_positions: whether positions are rotated.
        partial: whether only part of each head may be rotated.
        hidden_scale_blocks: the number of blocks of the one model size whose queries are scaled by hidden size / heads
            instead of the head size; None: queries are always scaled by the head size.
    """

    model_type: str
    required: dict[str, str]
    optional: dict[str, str] = field(default_factory=dict)
    flags: dict[str, str] = field(default_factory=dict)
    always: dict[str, object] = field(default_factory=dict)
    has_positions: bool = True
    partial: bool = False
    hidden_scale_blocks: int | None = None


def _layer_norm(name: str) -> dict[str, str]:
    return {"attention.layer_norm_epsilon": name}


_WINDOW = {"attention.sliding_window": "sliding_window"}
FAMILIES = {
    "llama": _Family(
        "llama", _SIZES | _RMS, flags={"attention_bias": "attn_output.bias", "mlp_bias": "ffn_up.bias"}
    ),
    "qwen2": _Family("qwen2", _SIZES | _RMS),
    "qwen3": _Family("qwen3", _SIZES | _RMS, flags={"attention_bias": "attn_output.bias"}),
    "qwen3moe": _Family("qwen3_moe", _SIZES | _RMS | _EXPERTS, always={"norm_topk_prob": True}),
    "phi3": _Family("phi3", _SIZES | _RMS, _WINDOW, partial=True),
    "gemma2": _Family("gemma2", _SIZES | _RMS | _WINDOW, _SOFT_CAPS, hidden_scale_blocks=46),
    "gemma3": _Family("gemma3_text", _SIZES | _RMS | _WINDOW, _SOFT_CAPS, hidden_scale_blocks=62),
    "stablelm": _Family(
        "stablelm",
        _SIZES | _layer_norm("layer_norm_eps"),
        flags={"use_qkv_bias": "attn_q.bias"},
        partial=True,
    ),
    "starcoder2": _Family(
        "starcoder2", _SIZES | _layer_norm("norm_epsilon"), _WINDOW, flags={"use_bias": "attn_output.bias"}
    ),
    "nemotron": _Family(
        "nemotron",
        _SIZES | _layer_norm("norm_eps"),
        flags={"attention_bias": "attn_output.bias", "mlp_bias": "ffn_up.bias"},
        partial=True,
    ),
    "bloom": _Family(
        "bloom",
        {"block_count": "n_layer", "embedding_length": "hidden_size", "attention.head_count": "n_head"}
        | _layer_norm("layer_norm_epsilon"),
        has_positions=False,
    ),
}


def read_config(header: GgufHeader) -> "PretrainedConfig":
    """Make the configuration of the model in a GGUF file.

    Raises:
        ModelError: the header lacks a field, or has one that cannot be taken over; the message names it.
    """
    from transformers import AutoConfig

    if header.architecture not in FAMILIES:
        raise ModelError(
            f"TRIM Lab cannot prune {header.file}: it does not read the architecture {header.architecture!r} from GGUF "
            f"files; it reads {', '.join(FAMILIES)}; load the model's folder with safetensors instead"
        )
    family, fields = FAMILIES[header.architecture], GgufFields(header)
    if (experts := fields.take("expert_count")) and "expert_count" not in family.required:
        raise ModelError(
            f"{header.file} is a mixture of {experts} experts of the architecture {header.architecture!r}, which are "
            "read from safetensors only; load the model's folder with these instead"
        )
    settings: dict[str, object] = {
        name: fields.need(key) for key, name in family.required.items() if key != "attention.head_count_kv"
    }
    settings |= {
        name: fields.take(key) or None for key, name in family.optional.items() if key in fields.remaining
    }
    settings |= family.always
    settings |= {name: f"blk.0.{tensor}" in header.tensors for name, tensor in family.flags.items()}
    settings |= {name: header.metadata.get(key) for name, key in _TOKENS.items()}
    settings |= {name: header.metadata[key] for name, key in _OPTIONAL.items() if key in header.metadata}
    settings["vocab_size"] = header.tensor("token_embd.weight").shape[0]
    settings["tie_word_embeddings"] = "output.weight" not in header.tensors or header.architecture == "bloom"
    heads, hidden = fields.size("attention.head_count"), fields.size("embedding_length")
    if family.has_positions:
        settings["num_key_value_heads"] = fields.size("attention.head_count_kv", heads)
        head = fields.size("attention.key_length", hidden // heads)
        fields.expect("attention.value_length", head)
        if head * heads != hidden or header.architecture in ("gemma2", "gemma3"):
            settings["head_dim"] = head
        settings |= position_settings(header, fields, head, partial=family.partial)
    else:
        fields.expect("attention.head_count_kv", heads)
        fields.expect("feed_forward_length", 4 * hidden)
        fields.take("context_length")
        fields.expect("attention.max_alibi_bias", 8.0)
    if header.architecture == "stablelm":
        # Where blocks add attention and MLP to the same states, there is no second norm.
        parallel = "blk.0.ffn_norm.weight" not in header.tensors
        fields.expect("use_parallel_residual", parallel)
        settings["use_parallel_residual"] = parallel
    if family.hidden_scale_blocks is not None:
        by_hidden = settings["num_hidden_layers"] == family.hidden_scale_blocks
        scale = fields.number("attention.scale")
        scalar = round(scale**-2, 3) if scale else hidden // heads if by_hidden else head
        fields.refuse_unless(scalar == int(scalar), "attention.scale", scale, "1/√n for whole numbers n")
        settings["query_pre_attn_scalar"] = int(scalar)
        if slides := fields.sliding_blocks():
            kinds = "full_attention", "sliding_attention"
            settings["layer_types"] = [kinds[block] for block in slides]
    elif family.has_positions and (scale := fields.number("attention.scale")):
        fields.refuse_unless(
            math.isclose(scale, head**-0.5, rel_tol=1e-6), "attention.scale", scale, f"1/√{head}"
        )
    fields.require_all_taken()
    config: PretrainedConfig = AutoConfig.for_model(family.model_type, **settings)
    return config


def parameter_names(header: GgufHeader, module: "PreTrainedModel") -> dict[str, list[str]]:
    """Map each name in the file to the name of the model's parameter, or to those of all experts in order.

    Raises:
        ModelError: the file lacks weights of its model, or holds some that would be left out; the message names one.
    """
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    number = next(number for number, name in MODEL_ARCH_NAMES.items() if name == header.architecture)
    names = get_tensor_name_map(number, module.config.num_hidden_layers)

    def in_file(name: str) -> str:
        """Find a parameter's name in the file: by its place in the causal model, or else in the bare one."""
        parts = _EXPERT_PATH.sub("experts.", name).split(".")
        places = (".".join(parts[start:]) for start in range(len(parts) - 1))
        found = (names.get_name(place, try_suffixes=(".weight", ".bias")) for place in places)
        return next(filter(None, found), name)

    found: dict[str, list[str]] = {}
    for name, _ in module.named_parameters(remove_duplicate=False):
        names_of = found.setdefault(in_file(name), [])
        names_of[:] = [*names_of, name] if _EXPERT_PATH.search(name) else [name]
    expected = {in_file(name) for name, _ in module.named_parameters()}
    held = header.tensors.keys()
    if unknown := sorted(held - expected - set(_NO_PARAMETERS)):
        raise ModelError(
            f"{header.file} holds {unknown[0]}, which {type(module).__name__} does not have, so the model would "
            "compute something else without it; load the model's folder with safetensors instead"
        )
    if missing := sorted(expected - held):
        raise ModelError(f"{header.file} lacks the weights {missing[0]}; download or convert it again")
    return found
