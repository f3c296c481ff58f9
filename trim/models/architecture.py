"""Which models can be pruned row by row, and where their blocks are: by structure, not by a list of names."""

from typing import TYPE_CHECKING

import torch
from torch import nn

from trim.errors import ModelError

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

SUPPORTED = "Llama, Mistral, Qwen2, Qwen2.5, Qwen3, Gemma 2 and 3 (text), OPT and decoders built like them"


def check_config(config: "PretrainedConfig") -> None:
    """Refuse what its configuration already shows to be no plain decoder, before any weight is read.

    Raises:
        ModelError: an encoder, an encoder-decoder, a model of more than text, or a quantized checkpoint.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

    architectures = getattr(config, "architectures", None) or [type(config).__name__.removesuffix("Config")]
    name = architectures[0]
    if getattr(config, "quantization_config", None):
        raise ModelError(
            f"this {name} checkpoint is quantized, so its layers are no plain matrices to prune; load the "
            "checkpoint it was made from, or a GGUF file, which is widened on loading"
        )
    if config.is_encoder_decoder or config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        raise _unsupported(name, "it has an encoder, not only a decoder that reads from left to right")
    if any("ForConditionalGeneration" in architecture for architecture in architectures):
        raise _unsupported(
            name, "it reads more than text; use the text-only model of the family if there is one"
        )


def blueprint(config: "PretrainedConfig") -> "PreTrainedModel":
    """The model of a configuration on torch's meta device: its structure and sizes, without memory for weights.

    Raises:
        ModelError: the model cannot be pruned row by row.
    """
    from transformers import AutoModelForCausalLM

    check_config(config)
    name = (getattr(config, "architectures", None) or [config.model_type])[0]
    try:
        with torch.device("meta"):
            module: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except ValueError as error:
        raise _unsupported(name, "transformers knows it, but not as a language model") from error
    find_blocks(module)
    return module


def find_blocks(module: nn.Module) -> list[nn.Module]:
    """The transformer blocks: the longest `nn.ModuleList` whose members all hold linear layers.

    Raises:
        ModelError: there is no such list, or its members hold matrices that are no `nn.Linear`.
    """
    name = type(module).__name__
    stacks = [
        part
        for part in module.modules()
        if isinstance(part, nn.ModuleList) and len(part) and all(_has_linear(block) for block in part)
    ]
    if not stacks:
        others = {kind for part in module.modules() if (kind := _other_matrices(part))}
        raise _unsupported(name, f"its blocks hold no nn.Linear{_instead(others)}")
    longest = max(stacks, key=len)
    blocks = list(longest)
    if any(isinstance(part, nn.ModuleList) and len(part) > 1 for block in blocks for part in block.modules()):
        raise _unsupported(name, "its blocks hold lists of layers, as a mixture of experts does")
    others = {kind for block in blocks for part in block.modules() if (kind := _other_matrices(part))}
    if others:
        raise _unsupported(name, f"its blocks hold matrices that are no nn.Linear{_instead(others)}")
    return blocks


def _has_linear(block: nn.Module) -> bool:
    return any(isinstance(part, nn.Linear) for part in block.modules())


def _other_matrices(part: nn.Module) -> str | None:
    """The class of a module that itself owns a matrix and is neither a linear layer nor an embedding table."""
    if isinstance(part, nn.Linear | nn.Embedding):
        return None
    owns_matrix = any(parameter.ndim >= 2 for parameter in part.parameters(recurse=False))
    return type(part).__name__ if owns_matrix else None


def _instead(kinds: set[str]) -> str:
    return f" ({', '.join(sorted(kinds))} instead)" if kinds else ""


def _unsupported(name: str, reason: str) -> ModelError:
    return ModelError(f"TRIM Lab cannot prune {name}: {reason}; it prunes {SUPPORTED}")
