"""Try a model with fake tensors: whether its blocks run one after the other, and which of their layers are pruned."""

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trim.models.dense import DenseReason
from trim.models.experts import RoutedLinear
from trim.models.reasons import Reason, unsupported
from trim.models.replay import record_calls, run_after_blocks
from trim.models.towers import other_towers, text_stacks
from trim.names import one_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TEXT = (2, 3)  # windows and tokens of each


@dataclass(frozen=True)
class Trial:
    """The facts about a model that a trial finds.

    Attributes:
        dense: the layers that stay dense, and why.
        state_shape: the shape of a token's hidden states between blocks.
        shares: whether blocks read more than hidden states from other blocks, such as keys and values.
    """

    dense: dict[str, DenseReason]
    state_shape: tuple[int, ...]
    shares: bool


def try_blocks(module: "PreTrainedModel", blocks: list[nn.Module]) -> Trial:
    """Run fake tensors through the blocks, one after the other, as pruning does.

    Raises:
        ModelError: the blocks need more than hidden states of each other.
    """
    name = type(module).__name__
    if any(
        getattr(part, "is_causal", None) is False for stack in text_stacks(module) for part in stack.modules()
    ):
        raise unsupported(name, Reason.ENCODER)
    tokens = torch.zeros(_TEXT, dtype=torch.int64)
    try:
        states, calls = record_calls(module, blocks, tokens, None)
    except Exception as error:  # each architecture raises its own
        # A text alone does not reach the blocks if the model needs the outputs of other towers.
        reason = Reason.ENCODER if other_towers(module, blocks) else Reason.RECURRENT_STATE
        raise unsupported(name, reason, one_line(str(error))) from error
    if states.ndim < 3 or states.shape[:2] != _TEXT:  # other tokens than the text's, or in another order
        raise unsupported(name, Reason.ENCODER, f"hidden states of the shape {tuple(states.shape)}")
    dense: dict[str, DenseReason] = {}
    extras: list[Tensor] = []

    def note(_: nn.Module, arguments: tuple[Tensor, ...], result: object) -> None:
        rest = result[1:] if isinstance(result, tuple) else ()
        extras.extend(part for part in rest if isinstance(part, Tensor))

    for index, (block, call) in enumerate(zip(blocks, calls, strict=True)):
        layers = {path: part for path, part in block.named_modules() if isinstance(part, nn.Linear)}
        inputs: dict[nn.Module, int] = {}

        def count(layer: nn.Module, arguments: tuple, inputs: dict[nn.Module, int] = inputs) -> None:
            inputs[layer] = arguments[0].shape[:-1].numel()

        try:
            with contextlib.ExitStack() as hooks:
                hooks.enter_context(block.register_forward_hook(note))
                for layer in layers.values():
                    hooks.enter_context(layer.register_forward_pre_hook(count))
                shape = call.replay(block, states).shape
        except Exception as error:
            raise unsupported(name, Reason.RECURRENT_STATE, one_line(str(error))) from error
        if shape != states.shape:
            raise unsupported(name, Reason.RECURRENT_STATE, "they change the shape of these")
        idle = [path for path, layer in layers.items() if layer not in inputs]
        if any("encoder" in path for path in idle):  # attention to what an encoder has read
            raise unsupported(name, Reason.ENCODER, f"{index}.{idle[0]}")
        dense |= {
            f"{index}.{path}": (
                DenseReason.UNROUTED if isinstance(layers[path], RoutedLinear) else DenseReason.UNCALLED
            )
            for path in idle
        }
        several = [
            path
            for path, layer in layers.items()
            if inputs.get(layer, 0) > tokens.numel() and not isinstance(layer, RoutedLinear)
        ]
        dense |= {f"{index}.{path}": DenseReason.SEVERAL_INPUTS for path in several}
    try:
        run_after_blocks(module, blocks, tokens, None, states)
        if extras:
            _require_states_alone(module, blocks, tokens, states)
    except Exception as error:  # such as blocks that a text goes through several times
        raise unsupported(name, Reason.RECURRENT_STATE, one_line(str(error))) from error
    return Trial(dense, tuple(states.shape[2:]), any(map(len, calls[0].shared_tensors())))


def _require_states_alone(module: nn.Module, blocks: list[nn.Module], tokens: Tensor, states: Tensor) -> None:
    """Raise an error if a block uses more than the hidden states that the previous one returned."""
    try:
        calls = record_calls(module, blocks, tokens, None, extra=object())[1]
    except Exception:  # the model itself uses it, and not its blocks
        return
    for block, call in zip(blocks, calls, strict=True):
        call.replay(block, states)
