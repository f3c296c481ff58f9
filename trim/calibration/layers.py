"""The linear layers of a block, their inputs in a call, and checks of them."""

import contextlib
import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trim.errors import ModelError, NonFiniteError
from trim.models.experts import RoutedLinear, Routing


def linear_layers(block: nn.Module, index: int, chosen: Iterable[str] | None = None) -> dict[str, nn.Linear]:
    """Return the chosen linear layers of a block (None: all), by their full names, in the model's order."""
    layers = {f"{index}.{path}": part for path, part in block.named_modules() if isinstance(part, nn.Linear)}
    chosen = layers.keys() if chosen is None else set(chosen)
    return {name: layer for name, layer in layers.items() if name in chosen}


def require_finite(weights: Mapping[str, Tensor]) -> None:
    """Require finite weights before a text goes through them: NaN spreads, and would be found in some other layer.

    Raises:
        NonFiniteError: a weight is NaN or infinite; the message names the layer.
    """
    if not weights:
        return
    sizes = torch._foreach_norm(list(weights.values()))  # in few launches; not finite if one weight is not
    for name, finite in zip(weights, torch.stack(sizes).isfinite().tolist(), strict=True):
        # Squares of huge finite weights overflow too.
        if not finite and not bool(weights[name].isfinite().all()):
            raise NonFiniteError(f"{name} has a weight that is NaN or infinite; check the checkpoint")


def require_called(layers: Iterable[str], called: Iterable[str]) -> None:
    """Require that the text reaches all layers.

    Raises:
        ModelError: a layer was never called.
    """
    called = set(called)
    if idle := [name for name in layers if name not in called]:
        raise ModelError(f"{idle[0]} is never called; leave such layers out with --layers")


@dataclass(frozen=True, eq=False)
class BatchInput:
    """The input of a layer in one batch.

    Attributes:
        values: (n, N).
        tokens: (n,) int64, ascending, which tokens of the batch these are; None: all of them.
        routing: the routing that sent them to an expert; None: the layer is not an expert's.
        expert: the expert's index.
    """

    values: Tensor
    tokens: Tensor | None
    routing: Routing | None = None
    expert: int = 0

    @classmethod
    def of(cls, layer: nn.Module, arguments: tuple[Tensor, ...]) -> "BatchInput":
        """Read the arguments of a layer's call."""
        values = arguments[0]
        # Each call waits for its turn with other threads, and a block may have hundreds of experts.
        if values.requires_grad:
            values = values.detach()
        if values.ndim != 2:
            values = values.reshape(-1, values.shape[-1])
        if not isinstance(layer, RoutedLinear) or (routing := layer.routing) is None:
            return cls(values, None)
        return cls(values, routing.by_expert[layer.expert], routing, layer.expert)


class LastInputReached(Exception):  # noqa: N818 (no error)
    """Ends the forward pass of a block."""


@contextlib.contextmanager
def inputs_of(
    layers: Mapping[str, nn.Linear], *, to_the_end: bool = False
) -> Iterator[dict[str, BatchInput]]:
    """Yield the inputs of some layers while a block runs; it stops at the last of them, unless `to_the_end`."""
    seen: dict[str, BatchInput] = {}

    def note(name: str, module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        seen[name] = BatchInput.of(module, arguments)
        if len(seen) == len(layers) and not to_the_end:
            raise LastInputReached

    with contextlib.ExitStack() as hooks, contextlib.suppress(LastInputReached):
        for name, layer in layers.items():
            hooks.enter_context(layer.register_forward_pre_hook(functools.partial(note, name)))
        yield seen
