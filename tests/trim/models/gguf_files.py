"""Models as GGUF files."""

from pathlib import Path

import gguf
import numpy as np
import torch
import transformers

from tests.trim import tiny

EPSILONS = ("rms_norm_eps", "layer_norm_eps", "norm_epsilon", "norm_eps", "layer_norm_epsilon")
Fields = dict[str, str | int | float | bool | list]


def write(
    path: Path,
    module: transformers.PreTrainedModel,
    architecture: str,
    fields: Fields,
    tensors: dict[str, np.ndarray] | None = None,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    *,
    named: str = "",
    tokenizer: bool = True,
) -> None:
    """A model as GGUF, as llama.cpp converts it, with further fields and tensors, and matrices of a type.

    With `named` the file names another architecture than it holds.
    """
    config = module.config
    writer = gguf.GGUFWriter(path, named or architecture)
    writer.add_name("Tiny <b>model</b>")
    bloom = architecture == "bloom"
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings if not bloom else 128)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(4 * config.hidden_size if bloom else config.intermediate_size)
    if "attention.head_count" not in fields:
        writer.add_head_count(config.num_attention_heads)
    (epsilon,) = (getattr(config, name) for name in EPSILONS if hasattr(config, name))
    add = writer.add_layer_norm_rms_eps if hasattr(config, "rms_norm_eps") else writer.add_layer_norm_eps
    add(epsilon)
    if not bloom:
        writer.add_head_count_kv(config.num_key_value_heads)
        head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        writer.add_key_length(head)
        writer.add_value_length(head)
        rope = config.rope_parameters.get("full_attention", config.rope_parameters)
        if "rope.dimension_count" not in fields:
            writer.add_rope_dimension_count(int(head * rope.get("partial_rotary_factor", 1)))
        writer.add_rope_freq_base(rope["rope_theta"])
    for key, value in fields.items():
        key = key if key.startswith("split.") else f"{architecture}.{key}"
        if isinstance(value, list):
            writer.add_array(key, value)
        else:
            kinds = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32}
            kinds.get(type(value), writer.add_string)(key, value)
    if tokenizer:
        vocabulary = tiny.tokenizer().get_vocab()
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list([*sorted(vocabulary, key=vocabulary.__getitem__)[:-1], "ab"])
        writer.add_token_types([1] * len(vocabulary))
        writer.add_token_merges(["a b"])
    names = gguf.get_tensor_name_map(
        next(number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture),
        config.num_hidden_layers,
    )
    for name, tensor in _apart(module.state_dict()).items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = converted(architecture, config, name, tensor.float().numpy())
        name = name.removeprefix("transformer.")
        stored = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if values.ndim == 1 or kind == gguf.GGMLQuantizationType.F32:
            writer.add_tensor(stored, values)
        else:
            writer.add_tensor(stored, gguf.quants.quantize(values, kind), raw_dtype=kind)
    for name, values in (tensors or {}).items():
        writer.add_tensor(name, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _apart(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Gate and up of experts, which a model joins and a file does not."""
    found = {}
    for name, tensor in tensors.items():
        if name.endswith("experts.gate_up_proj"):
            path = name.removesuffix("gate_up_proj")
            found[f"{path}gate_proj.weight"], found[f"{path}up_proj.weight"] = tensor.chunk(2, dim=1)
        else:
            found[f"{name}.weight" if "experts." in name else name] = tensor
    return found


def converted(
    architecture: str, config: transformers.PretrainedConfig, name: str, values: np.ndarray
) -> np.ndarray:
    """A tensor as the converter rearranges it."""
    if architecture == "llama" and ("q_proj" in name or "k_proj" in name):
        heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
        halves = values.reshape(heads, 2, len(values) // heads // 2, *values.shape[1:])
        return halves.swapaxes(1, 2).reshape(values.shape)
    if architecture in ("gemma2", "gemma3", "nemotron") and "norm.weight" in name:
        return values + 1
    if "query_key_value" in name:
        parts = values.reshape(config.n_head, 3, len(values) // config.n_head // 3, *values.shape[1:])
        return parts.swapaxes(0, 1).reshape(values.shape)
    return values
