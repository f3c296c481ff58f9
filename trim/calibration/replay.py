"""What the blocks of a model are called with, captured as it is and replayed.

A model hands each block the hidden states and things made from the text: masks, positions, rotary tables, different
ones for different kinds of blocks. None of them is known by name here.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from trim.errors import ModelError

K = TypeVar("K")


@dataclass(frozen=True, eq=False)
class BlockCall:
    """The arguments of one call of a block, less the hidden states, which come first."""

    arguments: tuple[object, ...]
    options: dict[str, object]

    def replay(self, block: nn.Module, states: Tensor) -> Tensor:
        """Call the block as it was called, with other hidden states (batch, length, hidden)."""
        result = block(states, *self.arguments, **self.options)
        if not isinstance(result, Tensor):
            raise ModelError(
                f"{type(block).__name__} returns {type(result).__name__} instead of hidden states; this architecture "
                "cannot be pruned block by block"
            )
        return result

    def for_gradients(self) -> "BlockCall":
        """The same with copies of the tensors that may not stand in a graph: those made for inference."""
        options = {name: _normal(value) for name, value in self.options.items()}
        return BlockCall(tuple(map(_normal, self.arguments)), options)


class _LastBlockReached(Exception):  # noqa: N818 (no error)
    """Ends a forward pass: what comes behind the blocks is not needed."""


def record_calls(
    module: nn.Module, blocks: list[nn.Module], tokens: Tensor, attention_mask: Tensor | None
) -> tuple[Tensor, list[BlockCall]]:
    """Run a model over a batch with blocks that do nothing, and note what each of them is called with.

    Args:
        module: the model; its blocks need no weights.
        blocks: its blocks, in order.
        tokens: (batch, length) int64.
        attention_mask: (batch, length) bool, False where there is padding; None: there is none.

    Returns:
        The hidden states that enter the first block, (batch, length, hidden), and one call per block.
    """
    states: list[Tensor] = []
    calls: list[BlockCall] = []

    def note(hidden: Tensor, *arguments: object, **options: object) -> Tensor:
        states.append(hidden)
        calls.append(BlockCall(arguments, options))
        if len(calls) == len(blocks):
            raise _LastBlockReached
        return hidden

    options = {} if attention_mask is None else {"attention_mask": attention_mask.long()}
    with _standing_in(blocks, note), contextlib.suppress(_LastBlockReached), torch.inference_mode():
        module(tokens, use_cache=False, **options)
    if len(calls) != len(blocks):
        raise ModelError(
            f"{type(module).__name__} calls {len(calls)} of its {len(blocks)} blocks; this architecture cannot be "
            "pruned block by block"
        )
    return states[0], calls


def run_behind(
    module: nn.Module, blocks: list[nn.Module], tokens: Tensor, attention_mask: Tensor | None, states: Tensor
) -> Tensor:
    """The logits that a model makes of hidden states behind its last block, (batch, length, vocabulary).

    Args:
        module: the model; its blocks need no weights.
        blocks: its blocks, in order.
        tokens, attention_mask: as for `record_calls`.
        states: (batch, length, hidden), what the last block returned.
    """
    left = len(blocks)

    def stand_in(hidden: Tensor, *arguments: object, **options: object) -> Tensor:
        nonlocal left
        left -= 1
        return hidden if left else states

    options = {} if attention_mask is None else {"attention_mask": attention_mask.long()}
    with _standing_in(blocks, stand_in):
        logits: Tensor = module(tokens, use_cache=False, **options).logits
    return logits


@contextlib.contextmanager
def _standing_in(blocks: list[nn.Module], forward: Callable) -> Iterator[None]:
    """Blocks that do something else than they do, until the end."""
    try:
        for block in blocks:
            block.forward = forward
        yield
    finally:
        for block in blocks:
            block.__dict__.pop("forward", None)


def shared(calls: Sequence[BlockCall], known: Sequence[BlockCall] | None) -> list[BlockCall]:
    """The calls of a batch, one per block, with each tensor that equals one cached already replaced by that one.

    Masks and rotary tables are the same for most blocks and batches: held once, they take little memory.

    Args:
        calls: what the blocks are called with.
        known: the calls of another batch; None: there is none yet.
    """
    result: list[BlockCall] = []
    for place, call in enumerate(calls):
        if result:
            call = _shared_call(call, result[-1])
        result.append(_shared_call(call, known[place]) if known else call)
    return result


def _shared_call(call: BlockCall, known: BlockCall) -> BlockCall:
    arguments = tuple(_shared_parts(call.arguments, known.arguments))
    return BlockCall(arguments, _shared_options(call.options, known.options))


def _shared(value: object, known: object) -> object:
    if value is known:
        return value
    if isinstance(value, Tensor):
        same = (
            isinstance(known, Tensor)
            and value.shape == known.shape
            and value.dtype == known.dtype
            and torch.equal(value, known)
        )
        return known if same else value
    if type(value) is tuple:
        return tuple(_shared_parts(value, known if type(known) is tuple else ()))
    if type(value) is list:
        return list(_shared_parts(value, known if type(known) is list else ()))
    if type(value) is dict:
        return _shared_options(value, known if type(known) is dict else {})
    return value


def _shared_parts(values: Sequence[object], known: Sequence[object]) -> Iterator[object]:
    others = known if len(known) == len(values) else [None] * len(values)
    return map(_shared, values, others)


def _shared_options(values: Mapping[K, object], known: Mapping[K, object]) -> dict[K, object]:
    return {key: _shared(value, known.get(key)) for key, value in values.items()}


def _normal(value: object) -> object:
    """The same without tensors made for inference."""
    if isinstance(value, Tensor):
        return value.clone() if value.is_inference() else value
    if type(value) is tuple:
        return tuple(map(_normal, value))
    if type(value) is list:
        return list(map(_normal, value))
    if type(value) is dict:
        return {key: _normal(part) for key, part in value.items()}
    return value
