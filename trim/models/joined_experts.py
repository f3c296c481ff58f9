"""Split the tensors in which classes of `transformers` join the weights of all experts.

A class of experts describes the layout of its tensors (`transformers.integrations.moe`): gate and up joined
one after the other or row by row, transposed or not, with biases or not. Those that do not are listed by their classes'
names. Each expert becomes a module with its own linear layers; the sum over experts is computed as the class does.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from trim.models.experts import (
    POST_NORM,
    CustomGateExpert,
    Expert,
    Experts,
    MatrixPart,
    PassingExperts,
    RoutedLinear,
    ScaledExperts,
    SortedExperts,
    SortingRouter,
    UngatedExpert,
    matrix_of,
)

# The attributes by which a class of experts describes its layout.
_LAYOUT = ("has_gate", "has_bias", "is_transposed", "is_concatenated")
_KINDS = {
    "Llama4TextExperts": ScaledExperts,
    "LongcatFlashExperts": PassingExperts,
    "JetMoeParallelExperts": SortedExperts,
}


def split_experts(module: nn.Module, *, first_only: bool = False) -> None:
    """Replace every module that holds the weights of all experts in one tensor by `Experts`, in place.

    The new weights are views of the old ones, except in transposed or interleaved layouts. `first_only`: keep only the
    first expert, where only the structure counts.
    """
    for part in list(module.modules()):
        for name, child in list(part.named_children()):
            if (experts := _split(child, first_only)) is not None:
                setattr(part, name, experts.train(child.training))
        if sorting := [child for child in part.children() if isinstance(child, SortedExperts)]:
            part.router = SortingRouter(cast(nn.Module, part.router), sorting)


def _split(module: Any, first_only: bool) -> Experts | None:
    """Make an `Experts` from a module; None: the module does not hold experts in a known layout."""
    kind = type(module).__name__
    joined = {
        name: tensor.detach() for name, tensor in module.named_parameters() if not name.startswith(POST_NORM)
    }
    if all(key in vars(module) for key in _LAYOUT):
        parts = _layout_parts(module, joined)
    elif kind in ("Step3p7Experts", "LongcatFlashExperts"):
        gate_up = _halves("gate_up_proj", "weight", joined, transposed=False, concatenated=True)
        parts = gate_up | {"down_proj.weight": MatrixPart("down_proj")}
    elif kind == "Llama4TextExperts":
        gate_up = _halves("gate_up_proj", "weight", joined, transposed=True, concatenated=True)
        parts = gate_up | {"down_proj.weight": MatrixPart("down_proj", transposed=True)}
    elif kind == "DbrxExperts":
        names = {"gate_proj": "mlp.w1", "up_proj": "mlp.v1", "down_proj": "mlp.w2"}
        parts = {
            f"{leaf}.weight": MatrixPart(name, transposed=leaf == "down_proj") for leaf, name in names.items()
        }
    elif kind == "JetMoeParallelExperts":
        parts = {"weight": MatrixPart("weight")}
    else:
        return None
    if {part.joined for part in parts.values()} != joined.keys():
        return None  # it has unknown tensors
    count = getattr(module, "num_routed_experts", 0) or module.num_experts
    split = _experts_of(module, parts, joined, count, first_only)
    empty = {name: torch.empty_like(tensor, device="meta") for name, tensor in joined.items()}
    experts = _KINDS.get(kind, Experts)(parts, empty, split)
    if (norm := module._modules.get(POST_NORM)) is not None:
        experts.add_module(POST_NORM, norm)
    return experts


def _layout_parts(layout: Any, joined: Mapping[str, Tensor]) -> dict[str, MatrixPart]:
    """Return the parts of an expert's tensors in the layout that a class of experts describes."""
    parts: dict[str, MatrixPart] = {}
    for leaf, suffix in (("weight", ""), ("bias", "_bias"))[: 2 if layout.has_bias else 1]:
        if layout.has_gate:
            parts |= _halves(
                f"gate_up_proj{suffix}",
                leaf,
                joined,
                transposed=layout.is_transposed,
                concatenated=layout.is_concatenated,
            )
        else:
            parts[f"up_proj.{leaf}"] = MatrixPart(f"up_proj{suffix}", layout.is_transposed)
        parts[f"down_proj.{leaf}"] = MatrixPart(f"down_proj{suffix}", layout.is_transposed)
    return parts


def _halves(
    name: str, leaf: str, joined: Mapping[str, Tensor], *, transposed: bool, concatenated: bool
) -> dict[str, MatrixPart]:
    """Return the parts of gate and up in the tensor that joins them."""
    both = joined[name].shape[-1 if transposed or leaf == "bias" else -2] if name in joined else 0
    rows = (
        (slice(both // 2), slice(both // 2, both)) if concatenated else (slice(0, None, 2), slice(1, None, 2))
    )
    return {
        f"{layer}.{leaf}": MatrixPart(name, transposed, half)
        for layer, half in zip(("gate_proj", "up_proj"), rows, strict=True)
    }


def _experts_of(
    module: Any, parts: Mapping[str, MatrixPart], joined: Mapping[str, Tensor], count: int, first_only: bool
) -> Sequence[nn.Module]:
    """Make the experts, with their weights, which are removed from the module."""
    from transformers.integrations.moe import _default_apply_gate

    indices = range(1 if first_only else count)
    if parts.keys() == {"weight"}:
        layers = [RoutedLinear(matrix_of(joined["weight"], count, index), None) for index in indices]
        del module._parameters["weight"]
        return layers
    custom_gate = getattr(type(module), "_apply_gate", _default_apply_gate) is not _default_apply_gate
    kind = UngatedExpert if "gate_proj.weight" not in parts else CustomGateExpert if custom_gate else Expert
    experts = []
    for index in indices:
        tensors = {
            name: part.of(matrix_of(joined[part.joined], count, index)).contiguous()
            for name, part in parts.items()
        }
        expert = kind()
        for layer in ("gate_proj", "up_proj", "down_proj"):
            if (weight := tensors.get(f"{layer}.weight")) is not None:
                setattr(expert, layer, RoutedLinear(weight, tensors.get(f"{layer}.bias")))
        if isinstance(expert, CustomGateExpert):
            expert.apply_gate = module._apply_gate
            expert.interleaved = parts["gate_proj.weight"].rows.step == 2
        else:
            expert.act_fn = _activation(module)
        experts.append(expert)
    for name in joined:
        path, _, leaf = name.rpartition(".")
        del module.get_submodule(path)._parameters[leaf]
    return experts


def _activation(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """Find the activation of a class of experts."""
    for part in module.modules():
        for name in ("act_fn", "activation_fn"):
            if (found := getattr(part, name, None)) is not None:
                return cast(Callable[[Tensor], Tensor], found)
    raise AttributeError(f"{type(module).__name__} has no activation")
