"""List the weights of a model's blocks that always stay dense, and keep them so."""

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from types import MethodType

from torch import Tensor, nn
from torch.nn import functional

from trim.models.experts import Experts, routers
from trim.models.towers import other_towers


class DenseReason(StrEnum):
    """Why a linear layer stays dense."""

    UNROUTED = "of experts that no text goes to"
    UNCALLED = "used without being called, so its inputs cannot be seen"
    SHARED = "shared by several blocks"
    SEVERAL_INPUTS = "with several inputs for each token, for rows of their own"


class DenseLinear(nn.Module):
    """A linear layer that is not pruned, and not an `nn.Linear`, so that no search for layers finds it."""

    weight: Tensor
    bias: Tensor | None
    reason: DenseReason

    def forward(self, states: Tensor) -> Tensor:
        """Compute what `nn.Linear` does."""
        return functional.linear(states, self.weight, self.bias)


def keep_dense(blocks: list[nn.Module], others: Mapping[str, DenseReason]) -> None:
    """Make layers that several blocks share, and `others`, a `DenseLinear`, in place.

    Args:
        blocks: the model's.
        others: by names such as "0.mixer.dt_proj"; a layer of the first expert stands for the same layer of all.
    """
    users: dict[int, list[tuple[int, nn.Linear]]] = {}  # by weight: the layers that use it, with their blocks
    for index, block in enumerate(blocks):
        for part in block.modules():
            if isinstance(part, nn.Linear):
                users.setdefault(id(part.weight), []).append((index, part))
    for layers in users.values():
        if len({index for index, _ in layers}) > 1:
            for part in {part for _, part in layers}:
                _make_dense(part, DenseReason.SHARED)
    for name, reason in others.items():
        number, _, path = name.partition(".")
        for layer in _layers_at(blocks[int(number)], path):
            _make_dense(layer, reason)


def _layers_at(block: nn.Module, path: str) -> list[nn.Module]:
    """Return the layer at a path; for a layer of an expert, the same layer of all experts."""
    names = path.split(".")
    experts = block.get_submodule(".".join(names[:-2]))
    if isinstance(experts, Experts):
        return [expert.get_submodule(names[-1]) for expert in experts.experts()]
    return [block.get_submodule(path)]


def _make_dense(layer: nn.Module, reason: DenseReason) -> None:
    """Turn a linear layer into a `DenseLinear`, in place."""
    if type(layer).forward is not nn.Linear.forward:  # a subclass computes something else
        vars(layer)["forward"] = MethodType(type(layer).forward, layer)
    layer.__class__ = DenseLinear
    vars(layer)["reason"] = reason


def dense_parts(blocks: list[nn.Module]) -> list[str]:
    """List the weights of the blocks besides their layers, norms and biases, which stay dense, a line for each kind."""
    weights_of: Counter[str] = Counter()
    weights: set[int] = set()
    for block in blocks:
        for path, part in block.named_modules():
            if isinstance(part, nn.Linear):
                continue
            for leaf, tensor in part.named_parameters(recurse=False):
                if id(tensor) in weights or (tensor.ndim < 2 and leaf in ("weight", "bias")):
                    continue
                weights.add(id(tensor))
                weights_of[_kind(path, part, leaf)] += tensor.numel()
    return [f"{kind}: {count:,} weights" for kind, count in weights_of.items()]


def stays_dense(module: nn.Module, blocks: list[nn.Module]) -> list[str]:
    """List the parts that stay dense unless named: `dense_parts`, routers, and towers that no text goes through."""
    weights_of: Counter[str] = Counter()
    for name in sorted(routers(blocks)):
        index, _, path = name.partition(".")
        weight = blocks[int(index)].get_parameter(f"{path}.weight")
        does = "routes tokens to experts" if len(weight) > 1 else "weighs a shared expert"
        weights_of[f"{path.rpartition('.')[2]}, {does}"] += weight.numel()
    unused = other_towers(module, blocks)
    for path, part in module.named_modules():
        if part in unused and module.get_submodule(path.rpartition(".")[0]) not in unused:
            weights_of[f"{path}, which no text goes through"] = sum(
                each.numel() for each in part.parameters()
            )
    return dense_parts(blocks) + [f"{kind}: {count:,} weights" for kind, count in weights_of.items()]


def _kind(path: str, part: nn.Module, leaf: str) -> str:
    name = path.rpartition(".")[2]
    if isinstance(part, DenseLinear):
        return f"{name}, {part.reason}"
    if isinstance(part, nn.Conv1d):
        return f"{name}, a convolution"
    return f"{leaf} of {type(part).__name__}"
