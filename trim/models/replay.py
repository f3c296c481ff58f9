"""Capture the calls of a model's blocks, and replay them.

A model hands each block the hidden states and things made from the text: masks, positions, rotary tables, different
ones for different kinds of blocks. None of them is known by name here.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from trim.devices import is_out_of_memory
from trim.errors import ModelError

K = TypeVar("K")
T = TypeVar("T")
_NOT_BY_BLOCK = "this architecture cannot be pruned block by block; choose another model"


@dataclass(frozen=True, eq=False)
class BlockCall:
    """The arguments of one call of a block, less the hidden states.

    Attributes:
        arguments, options: by place and by name.
        states_name: the name by which the block takes the hidden states; None: they come first.
    """

    arguments: tuple[object, ...]
    options: dict[str, object]
    states_name: str | None = None

    def replay(self, block: nn.Module, states: Tensor) -> Tensor:
        """Call the block as it was called, with other hidden states (batch, length, hidden)."""
        if self.states_name is None:
            result = block(states, *self.arguments, **self.options)
        else:
            result = block(*self.arguments, **self.options, **{self.states_name: states})
        if (
            isinstance(result, tuple | list) and result
        ):  # attention weights and caches come after the hidden states
            result = result[0]
        if not isinstance(result, Tensor):
            raise ModelError(
                f"{type(block).__name__} returns {type(result).__name__} instead of hidden states; {_NOT_BY_BLOCK}"
            )
        return result

    def for_gradients(self, dtype: torch.dtype | None = None) -> "BlockCall":
        """Copy a call, with copies of its inference tensors, which autograd refuses.

        `dtype`: of its floating-point tensors; None: as they are.
        """
        options = {name: _normal(value, dtype) for name, value in self.options.items()}
        return BlockCall(tuple(_normal(value, dtype) for value in self.arguments), options, self.states_name)


class _LastBlockReached(Exception):  # noqa: N818 (no error)
    """Ends a forward pass after the blocks; the rest is not needed."""


class _ChangedBetweenBlocks(Exception):  # noqa: N818 (no error)
    """A block did not get what the one before it returned."""


def record_calls(
    module: nn.Module,
    blocks: list[nn.Module],
    tokens: Tensor,
    attention_mask: Tensor | None,
    besides: object = None,
) -> tuple[Tensor, list[BlockCall]]:
    """Run a model over a batch with blocks that do nothing, and note what each of them is called with.

    Args:
        module: the model; its blocks need no weights.
        blocks: its blocks, in order.
        tokens: (batch, length) int64.
        attention_mask: (batch, length) bool, False where there is padding; None: there is none.
        besides: what blocks return besides hidden states.

    Returns:
        The hidden states that enter the first block, (batch, length, hidden), and one call per block.

    Raises:
        ModelError: the model does more between its blocks than to hand hidden states on.
    """

    def record(form: _Form) -> tuple[Tensor, list[BlockCall]]:
        states: list[Tensor] = []
        calls: list[BlockCall] = []

        def note(place: int, hidden: Tensor, call: BlockCall) -> object:
            if place != len(calls) or (states and hidden is not states[0]):
                raise _ChangedBetweenBlocks
            states.append(hidden)
            calls.append(call)
            if len(calls) == len(blocks):
                raise _LastBlockReached
            return form(hidden, besides)

        with _replaced_forward(blocks, note), contextlib.suppress(_LastBlockReached), torch.inference_mode():
            module(input_ids=tokens, use_cache=False, **options)
        if len(calls) != len(blocks):
            raise ModelError(
                f"{type(module).__name__} calls {len(calls)} of its {len(blocks)} blocks; {_NOT_BY_BLOCK}"
            )
        return states[0], calls

    options = {} if attention_mask is None else {"attention_mask": attention_mask.long()}
    return _in_some_form(module, record)


def run_after_blocks(
    module: nn.Module, blocks: list[nn.Module], tokens: Tensor, attention_mask: Tensor | None, states: Tensor
) -> Tensor:
    """Compute the logits of hidden states that left the last block, (batch, length, vocabulary).

    Args:
        module: the model; its blocks need no weights.
        blocks: its blocks, in order.
        tokens: (batch, length), as for `record_calls`.
        attention_mask: (batch, length), as for `record_calls`.
        states: (batch, length, hidden), what the last block returned.
    """

    def run(form: _Form) -> Tensor:
        entered: list[Tensor] = []

        def hand_on(place: int, hidden: Tensor, call: BlockCall) -> object:
            entered.append(hidden)
            if hidden is not entered[0]:
                raise _ChangedBetweenBlocks
            return form(hidden if place < len(blocks) - 1 else states, None)

        with _replaced_forward(blocks, hand_on):
            logits: Tensor = module(input_ids=tokens, use_cache=False, **options).logits
        if logits.shape[:-1] != states.shape[:-1]:
            raise _ChangedBetweenBlocks
        return logits

    options = {} if attention_mask is None else {"attention_mask": attention_mask.long()}
    return _in_some_form(module, run)


_Form = Callable[[Tensor, object], object]
# What blocks may return: hidden states alone, or first of one to three things. Their model takes one form only.
_FORMS: tuple[_Form, ...] = (
    lambda states, besides: states,
    lambda states, besides: (states, besides),
    lambda states, besides: (states,),
    lambda states, besides: (states, besides, besides),
)


def _in_some_form(module: nn.Module, run: Callable[[_Form], T]) -> T:
    """Call a function with the form in which the model takes what its blocks return."""
    first: Exception | None = None
    for form in _FORMS:
        try:
            return run(form)
        except (
            _ChangedBetweenBlocks,
            TypeError,
            ValueError,
            IndexError,
            AttributeError,
            RuntimeError,
        ) as error:
            if is_out_of_memory(error):
                raise
            first = first or error
    if first is None or isinstance(first, _ChangedBetweenBlocks):
        raise ModelError(
            f"{type(module).__name__} changes the hidden states between its blocks; {_NOT_BY_BLOCK}"
        ) from first
    raise first


@contextlib.contextmanager
def _replaced_forward(
    blocks: list[nn.Module], forward: Callable[[int, Tensor, BlockCall], object]
) -> Iterator[None]:
    """Replace the forward of each block inside the `with` block.

    `forward` is called with a block's index, the hidden states, and the other arguments of the block's call.
    """

    def replacement(index: int, *arguments: object, **options: object) -> object:
        name = None if arguments else next(iter(options), "")
        hidden = arguments[0] if name is None else options.pop(name, None)
        if not isinstance(hidden, Tensor):
            raise _ChangedBetweenBlocks
        return forward(index, hidden, BlockCall(arguments[1:], options, name))

    try:
        for index, block in enumerate(blocks):
            block.forward = functools.partial(replacement, index)
        yield
    finally:
        for block in blocks:
            block.__dict__.pop("forward", None)


def shared(calls: Sequence[BlockCall], known: Sequence[BlockCall] | None) -> list[BlockCall]:
    """List the calls of a batch, one per block, with each tensor that equals one cached already replaced by that one.

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
    return BlockCall(arguments, _shared_options(call.options, known.options), call.states_name)


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


def _normal(value: object, dtype: torch.dtype | None) -> object:
    """Copy tensors made for inference, give floating-point ones a type, and leave the others."""
    if isinstance(value, Tensor):
        copied = value.clone() if value.is_inference() else value
        return copied.to(dtype) if dtype is not None and value.is_floating_point() else copied
    if type(value) is tuple:
        return tuple(_normal(part, dtype) for part in value)
    if type(value) is list:
        return [_normal(part, dtype) for part in value]
    if type(value) is dict:
        return {key: _normal(part, dtype) for key, part in value.items()}
    return value
