"""Find the text tower of a model that may read more than text, and build the whole model as `transformers` does."""

from typing import TYPE_CHECKING

from torch import nn

from trim.models.reasons import Reason, unsupported

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel
    from transformers.models.auto.auto_factory import _BaseAutoModelClass


def auto_class(config: "PretrainedConfig", name: str = "") -> "type[_BaseAutoModelClass]":
    """Return the class of `transformers` that builds the complete model of this configuration.

    A checkpoint that reads more than text stays complete, so that its towers keep the names of the files.

    Raises:
        ModelError: a model that writes no text.
    """
    from transformers import (
        MODEL_FOR_CAUSAL_LM_MAPPING,
        MODEL_FOR_MULTIMODAL_LM_MAPPING,
        AutoModelForCausalLM,
        AutoModelForMultimodalLM,
    )

    if type(config) in MODEL_FOR_MULTIMODAL_LM_MAPPING:
        return AutoModelForMultimodalLM
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        return AutoModelForCausalLM
    raise unsupported(name or config.model_type, Reason.ENCODER)


def text_stacks(module: nn.Module) -> list[nn.ModuleList]:
    """List the `nn.ModuleList`s of the text tower; in a model of one tower, all of them."""
    from transformers import PreTrainedModel

    config = getattr(module, "config", None)
    text = None if config is None else type(config.get_text_config())
    towers, inside, found = {"": type(config)}, [], []
    for path, part in module.named_modules():
        if isinstance(part, PreTrainedModel):
            towers[path] = type(part.config)
        if isinstance(part, nn.ModuleList) and len(part):
            found.append(part)
            names = path.split(".")
            above = (".".join(names[:length]) for length in range(len(names), -1, -1))
            if towers[next(name for name in above if name in towers)] is text:
                inside.append(part)
    return inside or found


def output_head(module: "PreTrainedModel") -> nn.Module | None:
    """Return the layer that makes logits: the model's own, or that of a tower that is a causal model."""
    from transformers import PreTrainedModel

    towers = (part for part in module.modules() if isinstance(part, PreTrainedModel))
    return next((head for tower in towers if (head := tower.get_output_embeddings()) is not None), None)


def other_towers(module: nn.Module, blocks: list[nn.Module]) -> set[nn.Module]:
    """Return every module of the towers that hold none of the blocks: no text goes through them."""
    from transformers import PreTrainedModel

    within = {id(part) for block in blocks for part in block.modules()}
    return {
        part
        for tower in module.modules()
        if isinstance(tower, PreTrainedModel)
        and id(tower) not in within
        and not any(part is blocks[0] for part in tower.modules())
        for part in tower.modules()
    }
