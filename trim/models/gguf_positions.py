"""Rotary positions of the model in a GGUF file: their base, their scaling, and factors for each frequency."""

import math

import torch
from torch import Tensor

from trim.errors import ModelError
from trim.models.gguf_fields import GgufFields
from trim.models.gguf_header import GgufHeader

SCALING_TENSORS = _FREQUENCIES, _LONG, _SHORT = (
    "rope_freqs.weight",
    "rope_factors_long.weight",
    "rope_factors_short.weight",
)


def position_settings(
    header: GgufHeader, fields: GgufFields, head: int, *, partial: bool
) -> dict[str, object]:
    """Make the settings for the rotation of positions.

    Args:
        header: the file's header.
        fields: the header's fields; those of positions are taken.
        head: the size of a head.
        partial: whether the architecture may rotate part of a head.
    """
    rotated = fields.size("rope.dimension_count", head)
    if rotated != head:
        fields.refuse_unless(partial, "rope.dimension_count", rotated, str(head))
    rope = _scaling(header, fields)
    rope["rope_theta"] = fields.number("rope.freq_base", 10_000.0)
    if partial:
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


def _scaling(header: GgufHeader, fields: GgufFields) -> dict[str, object]:
    """Make the settings of scaled positions, except for the base and the number of dimensions.

    A field that is taken counts as understood, so it is taken only on branches that use it or where it has no effect;
    `require_all_taken` refuses the rest.
    """
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
        default_factor = (1 + 0.1 * math.log(factor) if factor > 1 else 1.0) * attention
        if twice := [name for name in SCALING_TENSORS if name in header.tensors]:
            raise ModelError(
                f"{header.file} scales its positions twice, by yarn and by the tensor {twice[0]}; load the model's "
                "folder with safetensors instead"
            )
        return {
            "rope_type": "yarn",
            "factor": factor,
            "original_max_position_embeddings": original,
            "attention_factor": fields.number("rope.scaling.yarn_attn_factor", default_factor),
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

    Between 1 and the largest one, a factor's inverse is linear in the frequency, so two of them give the
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
