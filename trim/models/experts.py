"""Mixtures of experts with a linear layer for each expert, where `transformers` has one tensor for all experts."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

POST_NORM = "post_expert_norm"


@dataclass(frozen=True)
class MatrixPart:
    """The part of a matrix that is a layer's weight, such as one expert's in the tensor that joins all experts.

    Attributes:
        joined: the name of the tensor that holds the matrix.
        transposed: whether the matrix is (N, D).
        rows: the layer's rows in the matrix, as (D, N).
    """

    joined: str
    transposed: bool = False
    rows: slice = field(default_factory=lambda: slice(None))

    def of(self, matrix: Tensor) -> Tensor:
        """View the part in its matrix."""
        matrix = matrix.t() if self.transposed and matrix.ndim == 2 else matrix
        return matrix if self.rows == slice(None) else matrix[self.rows]  # a scalar cannot be indexed


class Routing:
    """Which tokens of a batch each expert of a block receives.

    Attributes:
        tokens: (n,) int64, the places of the tokens in the batch, expert after expert, ascending for each.
        counts: how many tokens each expert receives.
        by_expert: `tokens` of each expert.
    """

    def __init__(self, tokens: Tensor, counts: list[int]) -> None:
        self.tokens, self.counts = tokens, counts
        self.by_expert = tokens.split(counts)


class _RoutingState:
    """The routing of the running forward pass, which the experts of a block share."""

    routing: Routing | None = None


class RoutedLinear(nn.Linear):
    """A linear layer of one expert.

    Attributes:
        expert: the index of the expert in its block.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        """Make a layer of a weight (D, N) and a bias (D,), which may be views of joined tensors."""
        nn.Module.__init__(self)
        self.out_features, self.in_features = weight.shape
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.register_parameter("bias", None if bias is None else nn.Parameter(bias, requires_grad=False))
        self.expert = 0
        self._state = _RoutingState()

    @property
    def routing(self) -> Routing | None:
        """The tokens that the experts of its block receive now; None: no forward pass is running."""
        return self._state.routing

    def assign(self, expert: int, state: _RoutingState) -> None:
        """Make this a layer of the expert with this index, of the block with this state."""
        self.expert, self._state = expert, state


class Expert(nn.Module):
    """An expert that computes down(act(gate(x)) · up(x)), as a gated MLP does."""

    gate_proj: RoutedLinear
    up_proj: RoutedLinear
    down_proj: RoutedLinear
    act_fn: Callable[[Tensor], Tensor]

    def forward(self, states: Tensor) -> Tensor:
        """Return the output of tokens (n, hidden), before weighting."""
        output: Tensor = self.down_proj(self.act_fn(self.gate_proj(states)) * self.up_proj(states))
        return output


class CustomGateExpert(Expert):
    """An expert whose class combines gate and up by its own function."""

    apply_gate: Callable[[Tensor], Tensor]
    interleaved: bool

    def forward(self, states: Tensor) -> Tensor:
        """Return the output of tokens (n, hidden), before weighting."""
        both = self.gate_proj(states), self.up_proj(states)
        joined = torch.stack(both, dim=-1).flatten(-2) if self.interleaved else torch.cat(both, dim=-1)
        output: Tensor = self.down_proj(self.apply_gate(joined))
        return output


class UngatedExpert(Expert):
    """An expert that computes down(act(up(x)))."""

    def forward(self, states: Tensor) -> Tensor:
        """Return the output of tokens (n, hidden), before weighting."""
        output: Tensor = self.down_proj(self.act_fn(self.up_proj(states)))
        return output


class Experts(nn.Module):
    """The experts of a block, "0", "1" and so on; each is called, even without tokens.

    Attributes:
        parts: the place of each of an expert's tensors in a joined one, by names such as "up_proj.weight".
        joined: the joined tensors by name, on the meta device.
    """

    def __init__(
        self, parts: dict[str, MatrixPart], joined: dict[str, Tensor], experts: Sequence[nn.Module]
    ) -> None:
        super().__init__()
        self.parts = parts
        self.joined = joined
        self._state = _RoutingState()
        for number, expert in enumerate(experts):
            self.add_module(str(number), expert)
            for layer in expert.modules():
                if isinstance(layer, RoutedLinear):
                    layer.assign(number, self._state)

    def forward(self, states: Tensor, *routing: Tensor, **named: Tensor) -> Tensor:
        """Return the weighted sum of the chosen experts' outputs.

        Args:
            states: (..., hidden).
            routing: (tokens, k) the chosen experts, and (tokens, k) their weights.
            named: the same as keyword arguments.
        """
        index, weights = (*routing, *named.values())
        flat = states.reshape(-1, states.shape[-1])
        if isinstance(flat, FakeTensor):
            return self._run_fake(flat).view(states.shape)
        result = torch.zeros_like(flat)
        routed, shares = self._routed(index, weights)
        with self._receiving(routed):
            for expert, tokens, weight in zip(self.experts(), routed.by_expert, shares, strict=True):
                self.add_weighted(result, tokens, self._run(expert, flat[tokens]), weight)
        return result.view(states.shape)

    def add_weighted(self, result: Tensor, tokens: Tensor, output: Tensor, weight: Tensor) -> None:
        """Add an expert's output (n, hidden), times the tokens' weights (n,), to the result, in place."""
        result.index_add_(0, tokens, (output * weight[:, None]).to(result.dtype))

    def experts(self) -> list[Expert]:
        """Return the experts in order."""
        return [cast(Expert, self.get_submodule(str(number))) for number in range(self.count)]

    @property
    def count(self) -> int:
        """The number of experts."""
        return sum(name.isdecimal() for name in self._modules)

    @contextlib.contextmanager
    def _receiving(self, routing: Routing) -> Iterator[None]:
        self._state.routing = routing
        try:
            yield
        finally:
            self._state.routing = None

    def _run(self, expert: Expert, states: Tensor) -> Tensor:
        output: Tensor = expert(states)
        norm = self._modules.get(POST_NORM)
        return output if norm is None else norm(output)

    def _run_fake(self, flat: Tensor) -> Tensor:
        """Call every expert with all tokens: fake tensors cannot be routed, and the sum is not used."""
        for expert in self.experts():
            expert(flat)
        return torch.empty_like(flat)

    def _routed(self, index: Tensor, weights: Tensor) -> tuple[Routing, tuple[Tensor, ...]]:
        """Return each expert's tokens in their order, without those of weight 0, and their weights."""
        top_k, count = index.shape[-1], self.count
        experts = torch.where(weights != 0, index, count).flatten()
        order = experts.argsort(stable=True)
        counts = torch.bincount(experts, minlength=count)[:count].tolist()
        order = order[: sum(counts)]
        return Routing(order // top_k, counts), weights.flatten()[order].split(counts)


class ScaledExperts(Experts):
    """Experts that receive every token multiplied by its weight for that expert, which is 0 if not routed there."""

    def forward(self, states: Tensor, *routing: Tensor, **named: Tensor) -> Tensor:
        """Return each expert's output, (experts · tokens, hidden), 0 for tokens not routed to it."""
        if isinstance(states, FakeTensor):
            return self._run_fake(states)
        by_expert = states.view(self.count, -1, states.shape[-1])
        result = torch.zeros_like(by_expert)
        chosen = by_expert.ne(0).any(dim=-1)
        routed = Routing(chosen.nonzero()[:, 1], chosen.sum(dim=1).tolist())
        with self._receiving(routed):
            for number, (expert, tokens) in enumerate(zip(self.experts(), routed.by_expert, strict=True)):
                result[number].index_add_(0, tokens, self._run(expert, by_expert[number, tokens]))
        return result.view(states.shape)


class PassingExperts(Experts):
    """Experts of which the last ones have no weights and return their input."""

    def forward(self, states: Tensor, *routing: Tensor, **named: Tensor) -> Tensor:
        """Return the weighted sum of the chosen experts' outputs, as `Experts` does."""
        result = super().forward(states, *routing, **named)
        if isinstance(states, FakeTensor):
            return result
        index, weights = (*routing, *named.values())
        passed = torch.where(index >= self.count, weights, 0).sum(-1).view(*states.shape[:-1], 1)
        return result + states * passed.to(states.dtype)


class SortedExperts(Experts):
    """A linear map for each expert, applied to tokens that the router has sorted by expert."""

    def forward(self, states: Tensor, sizes: list[int]) -> Tensor:  # type: ignore[override]
        """Return each token's output (n, D), in the order of the tokens; `sizes`: how many each expert has."""
        if isinstance(states, FakeTensor):
            output: Tensor = self.experts()[0](states)
            return output
        parts = zip(self.experts(), states.split(sizes), strict=True)
        return torch.cat([expert(part) for expert, part in parts])


class SortingRouter(nn.Module):
    """A router that sorts tokens by expert, and gives `experts` the routing."""

    def __init__(self, router: nn.Module, experts: list[SortedExperts]) -> None:
        super().__init__()
        self.layer, self.top_k = cast(nn.Linear, router.layer), cast(int, router.top_k)
        self.count, self._state = cast(int, router.num_experts), _RoutingState()
        for each in experts:
            for number, layer in enumerate(each.experts()):
                cast(RoutedLinear, layer).assign(number, self._state)

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor, Tensor, list[int], Tensor]:
        """Return the order of (token, choice) by expert, the tokens and gates in it, tokens by expert, and logits."""
        logits = self.layer(states).float()
        top, index = logits.topk(self.top_k, dim=1)
        order = index.flatten().argsort(stable=True)
        tokens = order // self.top_k
        sizes = [len(order)]
        if not isinstance(states, FakeTensor):
            sizes = torch.bincount(index.flatten(), minlength=self.count).tolist()
            self._state.routing = Routing(tokens, sizes)
        return order, tokens, top.softmax(dim=1).to(states.dtype).flatten()[order], sizes, logits


def experts_width(blocks: Iterable[nn.Module]) -> int:
    """Return the width of the inputs of routed experts; 0: the blocks have none."""
    parts = (part for block in blocks for part in block.modules() if type(part) is Experts)
    return next((part.experts()[0].up_proj.in_features for part in parts), 0)


def routers(blocks: Iterable[nn.Module]) -> set[str]:
    """Return the names of the linear layers that route tokens to experts, or compute a shared expert's weight."""
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


def matrix_of(joined: Tensor, count: int, expert: int) -> Tensor:
    """View one expert's matrix, or vector, in a tensor that joins those of `count` experts."""
    return joined[expert] if joined.ndim == 3 else joined.unflatten(0, (count, -1))[expert].squeeze(0)
