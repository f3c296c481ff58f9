"""The layers whose outputs a block adds to its residual stream, and the stream before that addition.

Such a layer can make up for errors that earlier layers have left in the stream, as well as its own. A trial finds these
layers, without their names: one window goes through the block twice, the second time with noise added to the layer's
output, while later layers repeat their outputs; so do experts as a whole, because the noise may route tokens to others.
The layer writes to the stream if the block's output changes by a constant times the noise.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from trim.calibration.layers import linear_layers
from trim.models.experts import Experts
from trim.models.replaced import replaced

_TOLERANCE = 0.02  # of the noise's median size, for the median deviation: 16-bit types round the stream


@dataclass(frozen=True, eq=False)
class ResidualWriter:
    """A layer whose output, times a constant, is added to the residual stream.

    Attributes:
        name: the layer's.
        scale: the constant.
        silenced: the layer itself and those that the block calls later.
    """

    name: str
    scale: float
    silenced: Sequence[nn.Linear]

    def silence(self) -> contextlib.AbstractContextManager[None]:
        """Make these layers return 0 inside the `with` block: a block then returns the stream before the addition."""

        def zeros(layer: nn.Linear, inputs: Tensor) -> Tensor:
            return inputs.new_zeros(*inputs.shape[:-1], layer.out_features)

        return _with_forward(zeros, self.silenced)


def residual_writer(
    name: str, index: int, block: nn.Module, output: Callable[[], Tensor]
) -> ResidualWriter | None:
    """Find out whether a layer writes to the residual stream; None: it does not, or not by a constant.

    Args:
        name: the layer's.
        index: the block's index.
        block: with its weights.
        output: returns the block's output (batch, length, hidden) on a window.
    """
    layers = linear_layers(block, index)
    parts: dict[str, nn.Module] = {**layers, **_other_experts(name, index, block)}
    outputs: dict[str, list[Tensor]] = {}

    def note(part: nn.Module, *inputs: Any, **named: Any) -> Tensor:
        result: Tensor = type(part).forward(part, *inputs, **named)
        outputs.setdefault(names[part], []).append(result)
        return result

    names = {part: each for each, part in parts.items()}
    with _with_forward(note, parts.values()):
        before = output()
    layer_outputs = outputs.get(name, [])
    if (
        len(layer_outputs) != 1
        or layer_outputs[0].shape[-1] != before.shape[-1]
        or layer_outputs[0].numel() != before.numel()
    ):
        return None
    noise = _noise(before)
    later = list(outputs)[list(outputs).index(name) :]
    layer_outputs[0] = layer_outputs[0] + noise.view_as(layer_outputs[0])
    recorded = {parts[each]: iter(outputs[each]) for each in later}
    with _with_forward(lambda part, *inputs, **named: next(recorded[part]), recorded):
        change = output() - before
    scale = _factor(change.float(), noise.float())
    return (
        None
        if scale is None
        else ResidualWriter(name, scale, [layers[each] for each in later if each in layers])
    )


def _other_experts(name: str, index: int, block: nn.Module) -> dict[str, nn.Module]:
    """Return the parts of a block that hold experts, without those that hold this layer, by name."""
    experts = {f"{index}.{path}": part for path, part in block.named_modules() if isinstance(part, Experts)}
    return {each: part for each, part in experts.items() if not name.startswith(f"{each}.")}


def _noise(stream: Tensor) -> Tensor:
    """Draw noise as large as the stream, scaled differently for each token."""
    device = stream.device
    generator = torch.Generator(device).manual_seed(0)
    sizes = torch.rand((*stream.shape[:-1], 1), generator=generator, device=device).add_(0.5)
    noise = torch.randn(stream.shape, generator=generator, device=device).mul_(sizes)
    return noise.mul_(stream.float().square().mean().sqrt()).to(stream.dtype)


def _factor(change: Tensor, noise: Tensor) -> float | None:
    """Return c with `change` = c · `noise`, to three digits; None: there is no such c, or it is 0."""
    factor = float((change * noise).sum() / noise.square().sum())
    typical = abs(factor) * float(noise.abs().median())
    deviation = float((change - factor * noise).abs().median())
    if not math.isfinite(factor) or not deviation <= _TOLERANCE * typical:
        return None
    return float(f"{factor:.3g}") or None


@contextlib.contextmanager
def _with_forward(forward: Callable[..., Tensor], parts: Iterable[nn.Module]) -> Iterator[None]:
    """Let parts of a block compute `forward` of themselves and their inputs inside the `with` block."""
    with contextlib.ExitStack() as stack:
        for part in parts:
            stack.enter_context(replaced(part, "forward", functools.partial(forward, part)))
        yield
