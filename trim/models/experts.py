"""Mixtures of experts, whose weights `transformers` holds in one tensor for all experts, as linear layers by name.

A class of experts says of itself how its tensors are to be read (`transformers.integrations.moe`): gate and up joined
one after the other or row by row, transposed or not, with biases or not. Those that do not are known by their classes'
names. Each expert becomes a module with linear layers of its own; the sum over experts is the class's.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

# What a class of experts says of itself.
_SAID = ("has_gate", "has_bias", "is_transposed", "is_concatenated")
POST_NORM = "post_expert_norm"


@dataclass(frozen=True)
class Part:
    """The part of one expert's matrix, or vector, that a tensor of one of its layers is.

    Attributes:
        joined: the name of the tensor that holds it for all experts.
        transposed: whether the matrix is (N, D).
        rows: rows of the matrix as (D, N).
    """

    joined: str
    transposed: bool = False
    rows: slice = field(default_factory=lambda: slice(None))

    def of(self, matrix: Tensor) -> Tensor:
        """View the part of one expert's matrix."""
        matrix = matrix.t() if self.transposed and matrix.ndim == 2 else matrix
        return matrix if self.rows == slice(None) else matrix[self.rows]  # a number has no rows


class Routing:
    """Which tokens of a batch each expert of a block receives.

    Attributes:
        tokens: (n,) int64, the places in the batch of the first expert's tokens, ascending, then those of the second's
            and so on.
        counts: how many tokens each receives.
        by_expert: `tokens` by expert.
    """

    def __init__(self, tokens: Tensor, counts: list[int]) -> None:
        self.tokens, self.counts = tokens, counts
        self.by_expert = tokens.split(counts)


class _Running:
    """The state that the experts of a block share while they run."""

    routing: Routing | None = None


class RoutedLinear(nn.Linear):
    """A linear layer of one expert.

    Attributes:
        number: the expert's place among those of its block.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Make a layer of a weight (D, N) and a bias (D,), which may be views of what all experts share."""
        nn.Module.__init__(self)
        self.out_features, self.in_features = weight.shape
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias, requires_grad=False))
        self.number = 0
        self._running = _Running()

    @property
    def routing(self) -> Routing | None:
        """The tokens that the experts of its block receive now; None: nothing is running."""
        return self._running.routing

    def belong(self, number: int, running: _Running) -> None:
        """Become one of the layers of an expert of a block."""
        self.number, self._running = number, running


class Expert(nn.Module):
    """An expert that computes down(act(gate(x)) · up(x)), as a gated MLP does."""

    gate_proj: RoutedLinear
    up_proj: RoutedLinear
    down_proj: RoutedLinear
    act_fn: Callable[[Tensor], Tensor]

    def forward(self, states: Tensor) -> Tensor:
        """Return the output of tokens (n, hidden), before they are weighed."""
        output: Tensor = self.down_proj(self.act_fn(self.gate_proj(states)) * self.up_proj(states))
        return output


class OwnGateExpert(Expert):
    """An expert whose class joins gate and up in a way of its own."""

    apply_gate: Callable[[Tensor], Tensor]
    interleaved: bool

    def forward(self, states: Tensor) -> Tensor:
        """Return the output of tokens (n, hidden), before they are weighed."""
        both = self.gate_proj(states), self.up_proj(states)
        joined = torch.stack(both, dim=-1).flatten(-2) if self.interleaved else torch.cat(both, dim=-1)
        output: Tensor = self.down_proj(self.apply_gate(joined))
        return output


class UngatedExpert(Expert):
    """An expert that computes down(act(up(x)))."""

    def forward(self, states: Tensor) -> Tensor:
        """Return the output of tokens (n, hidden), before they are weighed."""
        output: Tensor = self.down_proj(self.act_fn(self.up_proj(states)))
        return output


class Experts(nn.Module):
    """The experts of a block, "0", "1" and so on; every one is called, also with no token at all.

    Attributes:
        parts: which part of a joined tensor each tensor of an expert is, by names such as "up_proj.weight".
        joined: the joined tensors by name, on the meta device.
    """

    def __init__(self, parts: dict[str, Part], joined: dict[str, Tensor], experts: list[Expert]) -> None:
        super().__init__()
        self.parts = parts
        self.joined = joined
        self._running = _Running()
        for number, expert in enumerate(experts):
            self.add_module(str(number), expert)
            for layer in expert.children():
                if isinstance(layer, RoutedLinear):
                    layer.belong(number, self._running)

    def forward(self, states: Tensor, *routing: Tensor, **named: Tensor) -> Tensor:
        """Return the weighed sum of the chosen experts' outputs.

        Args:
            states: (..., hidden).
            routing: (tokens, k) which experts, (tokens, k) with which weight.
            named: the same, where the block gives them by name.
        """
        index, weights = (*routing, *named.values())
        flat = states.reshape(-1, states.shape[-1])
        if isinstance(flat, FakeTensor):
            return self._without_numbers(flat).view(states.shape)
        result = torch.zeros_like(flat)
        routed, shares = self._routed(index, weights)
        with self._receiving(routed):
            for expert, tokens, weight in zip(self.experts(), routed.by_expert, shares, strict=True):
                output = self._run(expert, flat[tokens])
                result.index_add_(0, tokens, (output * weight[:, None]).to(result.dtype))
        return result.view(states.shape)

    def experts(self) -> list[Expert]:
        """Return the experts in order."""
        return [cast(Expert, self.get_submodule(str(number))) for number in range(self.count)]

    @property
    def count(self) -> int:
        """How many experts there are."""
        return sum(name.isdecimal() for name in self._modules)

    @contextlib.contextmanager
    def _receiving(self, routing: Routing) -> Iterator[None]:
        self._running.routing = routing
        try:
            yield
        finally:
            self._running.routing = None

    def _run(self, expert: Expert, states: Tensor) -> Tensor:
        output: Tensor = expert(states)
        norm = self._modules.get(POST_NORM)
        return output if norm is None else norm(output)

    def _without_numbers(self, flat: Tensor) -> Tensor:
        """Call every expert with all tokens: there is nothing to choose by, and nobody reads the sum."""
        for expert in self.experts():
            expert(flat)
        return torch.empty_like(flat)

    def _routed(self, index: Tensor, weights: Tensor) -> tuple[Routing, tuple[Tensor, ...]]:
        """Return each expert's tokens, those of a weight other than 0 in their order, and these weights."""
        chosen, number = index.shape[-1], self.count
        experts = torch.where(weights != 0, index, number).flatten()
        order = experts.argsort(stable=True)
        counts = torch.bincount(experts, minlength=number)[:number].tolist()
        places = order[: sum(counts)]
        return Routing(places // chosen, counts), weights.flatten()[places].split(counts)


class ScaledExperts(Experts):
    """Experts that receive every token times its weight, for each expert anew; 0 where it is not routed to it."""

    def forward(self, states: Tensor, *routing: Tensor, **named: Tensor) -> Tensor:
        """Return each expert's output of its tokens (experts · tokens, hidden), 0 where it has none."""
        if isinstance(states, FakeTensor):
            return self._without_numbers(states)
        by_expert = states.view(self.count, -1, states.shape[-1])
        result = torch.zeros_like(by_expert)
        chosen = by_expert.ne(0).any(dim=-1)
        routed = Routing(chosen.nonzero()[:, 1], chosen.sum(dim=1).tolist())
        with self._receiving(routed):
            for number, (expert, tokens) in enumerate(zip(self.experts(), routed.by_expert, strict=True)):
                result[number].index_add_(0, tokens, self._run(expert, by_expert[number, tokens]))
        return result.view(states.shape)


class PassingExperts(Experts):
    """Experts beside some that have no weights and return what they receive; these have the last numbers."""

    def forward(self, states: Tensor, *routing: Tensor, **named: Tensor) -> Tensor:
        """Return the weighed sum of the chosen experts' outputs, as `Experts` does."""
        result = super().forward(states, *routing, **named)
        if isinstance(states, FakeTensor):
            return result
        index, weights = (*routing, *named.values())
        passed = torch.where(index >= self.count, weights, 0).sum(-1).view(*states.shape[:-1], 1)
        return result + states * passed.to(states.dtype)


_KINDS = {"Llama4TextExperts": ScaledExperts, "LongcatFlashExperts": PassingExperts}


class _OwnGate(Protocol):
    """A class of experts with a gate of its own."""

    _apply_gate: Callable[[Tensor], Tensor]


class _JoinedExperts(Protocol):
    """A class of experts that says of itself how it is to be read."""

    has_gate: bool
    has_bias: bool
    is_transposed: bool
    is_concatenated: bool


def reach_few_experts(blocks: Iterable[nn.Module]) -> bool:
    """Return whether a token reaches a few experts of a block, and is held once for all of them."""
    return any(type(part) is Experts for block in blocks for part in block.modules())


def routers(blocks: Iterable[nn.Module]) -> set[str]:
    """Name the linear layers that route tokens, or weigh what all tokens pass, beside a block's experts."""
    return {
        f"{index}.{path}.{name}" if path else f"{index}.{name}"
        for index, block in enumerate(blocks)
        for path, part in block.named_modules()
        for experts in part.children()
        if isinstance(experts, Experts)
        for name, layer in part.named_modules()
        if isinstance(layer, nn.Linear)
        and not isinstance(layer, RoutedLinear)
        and layer.out_features in (1, experts.count)
    }


def split_experts(module: nn.Module, *, alike: bool = False) -> None:
    """Replace every module that holds the weights of all experts in one tensor by `Experts`, in place.

    The new weights are views of the old ones, but for layouts that are transposed or interleaved. `alike`: the first
    expert stands for all and the others are left out, where only their structure counts.
    """
    for part in list(module.modules()):
        for name, child in list(part.named_children()):
            if (made := _split(child, alike)) is not None:
                setattr(part, name, made.train(child.training))


def _split(module: nn.Module, alike: bool) -> Experts | None:
    """Make an `Experts` of a module; None: it is none that can be read."""
    kind = type(module).__name__
    joined = {
        name: tensor.detach() for name, tensor in module.named_parameters() if not name.startswith(POST_NORM)
    }
    if all(key in vars(module) for key in _SAID):
        said = cast(_JoinedExperts, module)
        parts = _said_parts(said, joined)
    elif kind in ("Step3p7Experts", "LongcatFlashExperts"):
        parts = _halves("gate_up_proj", "weight", joined, False, True) | {
            "down_proj.weight": Part("down_proj")
        }
    elif kind == "Llama4TextExperts":
        parts = _halves("gate_up_proj", "weight", joined, True, True) | {
            "down_proj.weight": Part("down_proj", True)
        }
    elif kind == "DbrxExperts":
        names = {"gate_proj": "mlp.w1", "up_proj": "mlp.v1", "down_proj": "mlp.w2"}
        parts = {f"{leaf}.weight": Part(name, leaf == "down_proj") for leaf, name in names.items()}
    else:
        return None
    if {part.joined for part in parts.values()} != joined.keys():
        return None  # it has tensors that nobody knows
    number = cast(int, getattr(module, "num_routed_experts", 0) or module.num_experts)
    made = _experts_of(module, parts, joined, number, alike)
    empty = {name: torch.empty_like(tensor, device="meta") for name, tensor in joined.items()}
    experts = _KINDS.get(kind, Experts)(parts, empty, made)
    if (norm := module._modules.get(POST_NORM)) is not None:
        experts.add_module(POST_NORM, norm)
    return experts


def _said_parts(said: _JoinedExperts, joined: Mapping[str, Tensor]) -> dict[str, Part]:
    parts: dict[str, Part] = {}
    for leaf, suffix in (("weight", ""), ("bias", "_bias"))[: 2 if said.has_bias else 1]:
        if said.has_gate:
            parts |= _halves(f"gate_up_proj{suffix}", leaf, joined, said.is_transposed, said.is_concatenated)
        else:
            parts[f"up_proj.{leaf}"] = Part(f"up_proj{suffix}", said.is_transposed)
        parts[f"down_proj.{leaf}"] = Part(f"down_proj{suffix}", said.is_transposed)
    return parts


def _halves(
    name: str, leaf: str, joined: Mapping[str, Tensor], transposed: bool, concatenated: bool
) -> dict[str, Part]:
    """Return the parts that gate and up are of one tensor."""
    both = joined[name].shape[-1 if transposed or leaf == "bias" else -2] if name in joined else 0
    rows = (
        (slice(both // 2), slice(both // 2, both)) if concatenated else (slice(0, None, 2), slice(1, None, 2))
    )
    return {
        f"{layer}.{leaf}": Part(name, transposed, half)
        for layer, half in zip(("gate_proj", "up_proj"), rows, strict=True)
    }


def _experts_of(
    module: nn.Module, parts: Mapping[str, Part], joined: Mapping[str, Tensor], number: int, alike: bool
) -> list[Expert]:
    """Make the experts, with their weights; the module keeps none."""
    from transformers.integrations.moe import _default_apply_gate

    own_gate = getattr(type(module), "_apply_gate", _default_apply_gate) is not _default_apply_gate
    kind = UngatedExpert if "gate_proj.weight" not in parts else OwnGateExpert if own_gate else Expert
    experts = []
    for place in range(1 if alike else number):
        tensors = {
            name: part.of(matrix_of(joined[part.joined], number, place)).contiguous()
            for name, part in parts.items()
        }
        expert = kind()
        for layer in ("gate_proj", "up_proj", "down_proj"):
            if (weight := tensors.get(f"{layer}.weight")) is not None:
                setattr(expert, layer, RoutedLinear(weight, tensors.get(f"{layer}.bias")))
        if isinstance(expert, OwnGateExpert):
            expert.apply_gate = cast(_OwnGate, module)._apply_gate
            expert.interleaved = parts["gate_proj.weight"].rows.step == 2
        else:
            expert.act_fn = _activation(module)
        experts.append(expert)
    for name in joined:
        path, _, leaf = name.rpartition(".")
        del module.get_submodule(path)._parameters[leaf]
    return experts


def matrix_of(joined: Tensor, number: int, place: int) -> Tensor:
    """View one of `number` experts' matrix, or vector, in the tensor that holds all; that may hold more of them."""
    return joined[place] if joined.ndim == 3 else joined.unflatten(0, (number, -1))[place].squeeze(0)


def _activation(module: nn.Module) -> Callable[[Tensor], Tensor]:
    """Find the activation of a class of experts."""
    for part in module.modules():
        for name in ("act_fn", "activation_fn"):
            if (found := getattr(part, name, None)) is not None:
                return cast(Callable[[Tensor], Tensor], found)
    raise AttributeError(f"{type(module).__name__} has no activation")
