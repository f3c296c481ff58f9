"""The configuration of the model in a GGUF file, made from its header.

A field of the header that changes what the model computes is taken over as llama.cpp means it, or the file is refused.
`transformers` passes over most of them in silence: scaled positions, soft caps, scales, windows.
"""

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

import torch
from torch import Tensor

from trim.errors import ModelError
from trim.models.gguf_header import GgufHeader, Value

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
_SOFT_CAPS = {
    "attn_logit_softcapping": "attn_logit_softcapping",
    "final_logit_softcapping": "final_logit_softcapping",
}
_TOKENS = {
    "bos_token_id": "tokenizer.ggml.bos_token_id",
    "eos_token_id": "tokenizer.ggml.eos_token_id",
    "pad_token_id": "tokenizer.ggml.padding_token_id",
}
_NAMED = {"unk_token_id": "tokenizer.ggml.unknown_token_id", "_model_name_or_path": "general.name"}
# Fields that change nothing that is computed here.
_SILENT = ("vocab_size", "tensor_data_layout", "pooling_type", "rope.scaling.finetuned")
# Tensors that say how positions are scaled, and those that a file may hold twice.
_OF_AN_EXPERT = re.compile(r"\bexperts\.\d+\.")  # their tensors are joined in the file
_FREQUENCIES, _LONG, _SHORT = "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"
_SPARE = (_FREQUENCIES, _LONG, _SHORT, "output.weight")


@dataclass(frozen=True)
class _Family:
    """How `transformers` names what the files of an architecture hold.

    Attributes:
        model_type: the one in its config.json.
        required, optional: fields of the header, and settings of the configuration.
        flags: settings that are true where the first block holds a tensor.
        always: settings that no header has, since llama.cpp computes nothing else.
        has_positions: whether positions are rotated.
        partial: whether only part of each head may be rotated.
        scale_by_size_at: blocks of the size whose queries are scaled by hidden size and heads; None: no such scale.
    """

    model_type: str
    required: dict[str, str]
    optional: dict[str, str] = field(default_factory=dict)
    flags: dict[str, str] = field(default_factory=dict)
    always: dict[str, object] = field(default_factory=dict)
    has_positions: bool = True
    partial: bool = False
    scale_by_size_at: int | None = None


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
    "gemma2": _Family("gemma2", _SIZES | _RMS | _WINDOW, _SOFT_CAPS, scale_by_size_at=46),
    "gemma3": _Family("gemma3_text", _SIZES | _RMS | _WINDOW, _SOFT_CAPS, scale_by_size_at=62),
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
    family, fields = FAMILIES[header.architecture], _Fields(header)
    if (experts := fields.take("expert_count")) and "expert_count" not in family.required:
        raise ModelError(
            f"{header.file} is a mixture of {experts} experts of the architecture {header.architecture!r}, which are "
            "read from safetensors only; load the model's folder with these instead"
        )
    settings: dict[str, object] = {
        name: fields.need(key) for key, name in family.required.items() if key != "attention.head_count_kv"
    }
    settings |= {
        name: fields.take(key) or None for key, name in family.optional.items() if key in fields.left
    }
    settings |= family.always
    settings |= {name: f"blk.0.{tensor}" in header.tensors for name, tensor in family.flags.items()}
    settings |= {name: header.facts.get(key) for name, key in _TOKENS.items()}
    settings |= {name: header.facts[key] for name, key in _NAMED.items() if key in header.facts}
    settings["vocab_size"] = header.tensor("token_embd.weight").shape[0]
    settings["tie_word_embeddings"] = "output.weight" not in header.tensors or header.architecture == "bloom"
    heads, hidden = fields.size("attention.head_count"), fields.size("embedding_length")
    if family.has_positions:
        settings["num_key_value_heads"] = fields.size("attention.head_count_kv", heads)
        head = fields.size("attention.key_length", hidden // heads)
        fields.expect("attention.value_length", head)
        if head * heads != hidden or header.architecture in ("gemma2", "gemma3"):
            settings["head_dim"] = head
        settings |= _positions(header, fields, family, head)
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
    if family.scale_by_size_at is not None:
        by_size = settings["num_hidden_layers"] == family.scale_by_size_at
        scale = fields.number("attention.scale")
        by = round(scale**-2, 3) if scale else hidden // heads if by_size else head
        fields.refuse_unless(by == int(by), "attention.scale", scale, "1/√n for whole numbers n")
        settings["query_pre_attn_scalar"] = int(by)
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
    """Map each name in the file to the name of the model's parameter, or of each expert's in order.

    Raises:
        ModelError: the file lacks weights of its model, or holds some that would be left out; the message names one.
    """
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    number = next(number for number, name in MODEL_ARCH_NAMES.items() if name == header.architecture)
    names = get_tensor_name_map(number, module.config.num_hidden_layers)

    def in_file(name: str) -> str:
        """Find a parameter's name in the file: that of its place in the causal model, or else in the bare one."""
        parts = _OF_AN_EXPERT.sub("experts.", name).split(".")
        places = (".".join(parts[start:]) for start in range(len(parts) - 1))
        found = (names.get_name(place, try_suffixes=(".weight", ".bias")) for place in places)
        return next(filter(None, found), name)

    found: dict[str, list[str]] = {}
    for name, _ in module.named_parameters(remove_duplicate=False):
        own = found.setdefault(in_file(name), [])
        own[:] = [*own, name] if _OF_AN_EXPERT.search(name) else [name]
    expected = {in_file(name) for name, _ in module.named_parameters()}
    held = header.tensors.keys()
    if unknown := sorted(held - expected - set(_SPARE)):
        raise ModelError(
            f"{header.file} holds {unknown[0]}, which {type(module).__name__} does not have, so the model would "
            "compute something else without it; load the model's folder with safetensors instead"
        )
    if missing := sorted(expected - held):
        raise ModelError(f"{header.file} lacks the weights {missing[0]}; download or convert it again")
    return found


class _Fields:
    """The fields of a header, each taken once it is understood."""

    def __init__(self, header: GgufHeader) -> None:
        self._header = header
        self._prefix = f"{header.architecture}."
        self.left = {
            key.removeprefix(self._prefix): value
            for key, value in header.facts.items()
            if key.startswith(self._prefix)
        }
        self._taken: dict[str, Value] = {}

    def take(self, key: str, otherwise: Value = None) -> Value:
        """Take a field; `otherwise` where the header has none. Equal numbers per block are one number."""
        if key in self.left:
            value = self.left.pop(key)
            if isinstance(value, tuple) and key != "attention.sliding_window_pattern":
                self.refuse_unless(len(set(value)) == 1, key, value, "one number for all blocks")
                value = value[0]
            self._taken[key] = value
        return self._taken.get(key, otherwise)

    def need(self, key: str) -> Value:
        """Take a field that every file has."""
        if (value := self.take(key)) is None:
            raise ModelError(
                f"{self._header.file} lacks the field {self._prefix}{key}; convert the model again with a current "
                "llama.cpp"
            )
        return value

    def size(self, key: str, otherwise: int | None = None) -> int:
        """Take a whole number above zero; every file has it where there is no `otherwise`."""
        value = self.need(key) if otherwise is None else self.take(key, otherwise)
        if not isinstance(value, int) or value < 1:
            raise self._damaged(key, value)
        return value

    def number(self, key: str, otherwise: float = 0.0) -> float:
        """Take a finite number; zero stands for: not given."""
        value = self.take(key) or otherwise
        if not isinstance(value, int | float) or not math.isfinite(value):
            raise self._damaged(key, value)
        return float(value)

    def sliding_blocks(self) -> list[bool]:
        """Return which blocks have a sliding window: given for each, or by every how many do not; empty: not given."""
        key = "attention.sliding_window_pattern"
        pattern = self.take(key) or ()
        if isinstance(pattern, tuple):
            return [bool(slides) for slides in pattern]
        every = self.size(key)
        return [(block + 1) % every != 0 for block in range(self.size("block_count"))]

    def _damaged(self, key: str, value: Value) -> ModelError:
        return ModelError(
            f"{self._header.file} is damaged: its field {self._prefix}{key} is {value!r}; download it again"
        )

    def expect(self, key: str, value: Value) -> None:
        """Check a field that may have no other value."""
        found = self.take(key, value)
        self.refuse_unless(found == value, key, found, str(value))

    def refuse_unless(self, holds: bool, key: str, found: Value, computed: str) -> None:
        """Refuse a value unless the condition holds; `computed` is what transformers would compute instead."""
        if not holds:
            raise self._unsupported(
                key, found, f"transformers computes {computed} for {self._header.architecture}"
            )

    def _unsupported(self, key: str, found: Value, why: str) -> ModelError:
        return ModelError(
            f"{self._header.file} has {self._prefix}{key} = {found}, and {why}; load the model's folder with "
            "safetensors instead"
        )

    def refuse(self, key: str, found: Value) -> NoReturn:
        """Refuse a value that has no counterpart in transformers."""
        raise self._unsupported(
            key, found, f"transformers has no such setting for {self._header.architecture}"
        )

    def require_all_taken(self) -> None:
        """Refuse what is left; zero stands for: not used."""
        self.expect("attention.causal", True)
        for key, value in self.left.items():
            values = value if isinstance(value, tuple) else (value,)
            if key not in _SILENT and any(values):
                self.refuse(key, value)


def _positions(header: GgufHeader, fields: _Fields, family: _Family, head: int) -> dict[str, object]:
    """Make the settings that say how positions are rotated."""
    rotated = fields.size("rope.dimension_count", head)
    if rotated != head:
        fields.refuse_unless(family.partial, "rope.dimension_count", rotated, str(head))
    rope = _scaling(header, fields)
    rope["rope_theta"] = fields.number("rope.freq_base", 10_000.0)
    if family.partial:
        rope["partial_rotary_factor"] = rotated / head
    settings: dict[str, object] = {"rope_parameters": rope}
    if header.architecture == "gemma3":  # whose windows are never scaled
        base = fields.number("rope.freq_base_swa", 10_000.0)
        rope = {
            "full_attention": rope,
            "sliding_attention": {"rope_type": "default", "rope_theta": base},
        }
        settings = {"rope_parameters": rope}
    elif "original_max_position_embeddings" in rope and header.architecture == "phi3":
        settings["original_max_position_embeddings"] = rope["original_max_position_embeddings"]
    return settings


def _scaling(header: GgufHeader, fields: _Fields) -> dict[str, object]:
    """Make the settings that say how positions are scaled, but for base and number of dimensions."""
    kind = fields.take("rope.scaling.type")
    factor = fields.number("rope.scaling.factor", fields.number("rope.scale_linear", 1.0))
    original = fields.size("rope.scaling.original_context_length", fields.size("context_length"))
    attention = fields.number("rope.scaling.attn_factor", 1.0)
    if kind not in (None, "none", "linear", "yarn", "longrope"):
        fields.refuse("rope.scaling.type", kind)
    if kind == "none":
        factor = 1.0
    if kind == "yarn":
        fields.expect("rope.scaling.yarn_ext_factor", 1.0)
        own = (1 + 0.1 * math.log(factor) if factor > 1 else 1.0) * attention
        _refuse_tensors(header, kind)
        return {
            "rope_type": "yarn",
            "factor": factor,
            "original_max_position_embeddings": original,
            "attention_factor": fields.number("rope.scaling.yarn_attn_factor", own),
            "beta_fast": fields.number("rope.scaling.yarn_beta_fast", 32.0),
            "beta_slow": fields.number("rope.scaling.yarn_beta_slow", 1.0),
        }
    for idle in ("yarn_ext_factor", "yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow"):
        fields.take(f"rope.scaling.{idle}")
    if _LONG in header.tensors or kind == "longrope":
        long, short = header.floats(_LONG), header.floats(_SHORT)
        return _by_frequency(factor * long, factor * short, original, attention)
    fields.refuse_unless(attention == 1, "rope.scaling.attn_factor", attention, "1")
    if _FREQUENCIES in header.tensors:
        factors = header.floats(_FREQUENCIES)
        base = fields.number("rope.freq_base", 10_000.0)
        if factor == 1 and bool((factors == 1).all()):
            return {"rope_type": "default"}
        found = _llama3(factors, base) if factor == 1 else None
        return found or _by_frequency(factor * factors, factor * factors, original, 1.0)
    if factor == 1:
        return {"rope_type": "default"}
    return {"rope_type": "linear", "factor": factor}


def _refuse_tensors(header: GgufHeader, kind: str) -> None:
    for name in (_FREQUENCIES, _LONG, _SHORT):
        if name in header.tensors:
            raise ModelError(
                f"{header.file} scales its positions twice, by {kind} and by the tensor {name}; load the model's "
                "folder with safetensors instead"
            )


def _by_frequency(long: Tensor, short: Tensor, original: int, attention: float) -> dict[str, object]:
    """Make the settings of rotary embeddings with a factor for each frequency."""
    return {
        "rope_type": "longrope",
        "long_factor": long.tolist(),
        "short_factor": short.tolist(),
        "original_max_position_embeddings": original,
        "attention_factor": attention,
    }


def _llama3(factors: Tensor, base: float) -> dict[str, object] | None:
    """Recover the settings of Llama 3.1 and later from which a converter made these factors; None where it did not.

    Between 1 and the largest one, a factor's inverse is linear in the frequency, from which two of them tell the
    slope. Only the ratios of the two limits and the original length count: the lower limit is 1, as everywhere.
    """
    factors = factors.double()
    factor = float(factors.max())
    frequencies = base ** -(torch.arange(len(factors), dtype=torch.float64) / len(factors)) / (2 * math.pi)
    between = (factors > 1.001) & (factors < 0.999 * factor)
    smooth = (1 / factors[between] - 1 / factor) / (1 - 1 / factor)
    if not len(smooth):
        return None
    highs = [4.0]
    if len(smooth) > 1:
        slope = float((smooth[0] - smooth[-1]) / (frequencies[between][0] - frequencies[between][-1]))
        highs.append(1 + 1 / (slope * float(frequencies[between][0]) - float(smooth[0])))
    for high in highs:
        length = round(float((smooth[0] * (high - 1) + 1) / frequencies[between][0]))
        part = ((length * frequencies - 1) / (high - 1)).clamp(0, 1)
        made = 1 / ((1 - part) / factor + part)
        if bool(torch.isclose(made, factors, rtol=1e-5, atol=0).all()):
            return {
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": 1.0,
                "high_freq_factor": high,
                "original_max_position_embeddings": length,
            }
    return None
