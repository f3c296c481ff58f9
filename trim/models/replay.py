"""Capture the calls of a model's blocks, and replay them.

A model passes each block the hidden states and tensors made from the text: masks, positions, rotary tables, which may
differ between kinds of blocks. They are recorded whatever their names are.
"""

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from trim.devices import is_out_of_memory
from trim.errors import ModelError
from trim.models.replaced import replaced

T = TypeVar("T")
# Tensors other than hidden states that blocks write for later ones, such as keys and values.
SharedTensors = MutableMapping[str, tuple[Tensor, ...]]
_NOT_BY_BLOCK = "this architecture cannot be pruned block by block; choose another model"


@dataclass(frozen=True, eq=False)
class BlockCall:
    """The arguments of one call of a block, without the hidden states.

    Attributes:
        arguments, options: positional and keyword arguments.
        states_name: the name by which the block takes the hidden states; None: they come first.
        streams_first: whether the block takes several streams of hidden states, (streams, batch, length, hidden);
            everywhere else they are (batch, length, streams, hidden).
    """

    arguments: tuple[object, ...]
    options: dict[str, object]
    states_name: str | None = None
    streams_first: bool = False

    def replay(self, block: nn.Module, states: Tensor) -> Tensor:
        """Repeat the call with other hidden states (batch, length, …)."""
        states = self.to_block_layout(states)
        if self.states_name is None:
            result = block(states, *self.arguments, **self.options)
        else:
            result = block(*self.arguments, **self.options, **{self.states_name: states})
        if isinstance(result, tuple | list) and result:  # attention weights and caches come last
            result = result[0]
        if not isinstance(result, Tensor):
            raise ModelError(
                f"{type(block).__name__} returns {type(result).__name__} instead of hidden states; {_NOT_BY_BLOCK}"
            )
        return self.from_block_layout(result)

    def to_block_layout(self, states: Tensor) -> Tensor:
        """View hidden states (batch, length, …) in the block's own layout."""
        return states.movedim(2, 0) if self.streams_first else states

    def from_block_layout(self, states: Tensor) -> Tensor:
        """View hidden states in the block's own layout as (batch, length, …)."""
        return states.movedim(0, 2) if self.streams_first else states

    def shared_tensors(self) -> list[SharedTensors]:
        """List the dictionaries of the tensors that blocks write for later ones."""
        values = (*self.arguments, *self.options.values())
        return [value for value in values if isinstance(value, MutableMapping) and type(value) is not dict]

    def for_gradients(self, dtype: torch.dtype | None = None) -> "BlockCall":
        """Copy a call, with copies of its inference tensors, which autograd refuses.

        `dtype`: of its floating-point tensors; None: as they are.
        """

        def normal(value: object, _: object) -> object:
            if isinstance(value, Tensor):
                tensor = value.clone() if value.is_inference() else value
                return tensor.to(dtype) if dtype is not None and value.is_floating_point() else tensor
            if isinstance(value, MutableMapping):
                copied = copy.copy(value)
                copied.update(_mapped(normal, dict(value)))
                return copied
            return value

        arguments, options = _mapped(normal, (self.arguments, self.options))
        return replace(self, arguments=arguments, options=options)

    def with_tensors_of(self, other: "BlockCall") -> "BlockCall":
        """Replace the tensors by equal ones of another call."""

        def reuse(value: object, counterpart: object) -> object:
            return counterpart if value is counterpart or _equal(value, counterpart) else value

        both = (self.arguments, self.options), (other.arguments, other.options)
        arguments, options = _mapped(reuse, *both)
        return replace(self, arguments=arguments, options=options)


class _LastBlockReached(Exception):  # noqa: N818 (no error)
    """Ends a forward pass after the blocks; the rest is not needed."""


class _ChangedBetweenBlocks(Exception):  # noqa: N818 (no error)
    """A block did not receive the output of the previous block."""


def record_calls(
    module: nn.Module,
    blocks: list[nn.Module],
    tokens: Tensor,
    attention_mask: Tensor | None,
    extra: object = None,
) -> tuple[Tensor, list[BlockCall]]:
    """Run a model over a batch with blocks that do nothing, and record their arguments.

    Args:
        module: the model; its blocks need no weights.
        blocks: its blocks, in order.
        tokens: (batch, length) int64.
        attention_mask: (batch, length) bool, False where there is padding; None: there is none.
        extra: a further value that blocks return after the hidden states.

    Returns:
        The hidden states that enter the first block, (batch, length, …), and one call per block.

    Raises:
        ModelError: the model does more between its blocks than passing hidden states on.
    """

    def record(form: _Form) -> tuple[Tensor, list[BlockCall]]:
        states: list[Tensor] = []
        calls: list[BlockCall] = []

        def note(index: int, hidden: Tensor, call: BlockCall) -> object:
            if index != len(calls) or (states and not _same(hidden, states[0])):
                raise _ChangedBetweenBlocks
            states.append(hidden)
            calls.append(call)
            if len(calls) == len(blocks):
                raise _LastBlockReached
            return form(hidden, extra)

        with (
            _replaced_forward(blocks, note, tokens),
            contextlib.suppress(_LastBlockReached),
            torch.inference_mode(),
        ):
            module(input_ids=tokens, use_cache=False, **options)
        if len(calls) != len(blocks):
            raise ModelError(
                f"{type(module).__name__} calls {len(calls)} of its {len(blocks)} blocks; {_NOT_BY_BLOCK}"
            )
        return calls[0].from_block_layout(states[0]), calls

    options = {} if attention_mask is None else {"attention_mask": attention_mask.long()}
    return _in_some_form(module, record)


def run_after_blocks(
    module: nn.Module, blocks: list[nn.Module], tokens: Tensor, attention_mask: Tensor | None, states: Tensor
) -> Tensor:
    """Compute the logits from the output of the last block, (batch, length, vocabulary).

    Args:
        module: the model; its blocks need no weights.
        blocks: its blocks, in order.
        tokens: (batch, length), as for `record_calls`.
        attention_mask: (batch, length), as for `record_calls`.
        states: (batch, length, …), the output of the last block.
    """

    def run(form: _Form) -> Tensor:
        entered: list[Tensor] = []

        def pass_on(index: int, hidden: Tensor, call: BlockCall) -> object:
            entered.append(hidden)
            if not _same(hidden, entered[0]):
                raise _ChangedBetweenBlocks
            return form(hidden if index < len(blocks) - 1 else call.to_block_layout(states), None)

        with _replaced_forward(blocks, pass_on, tokens):
            logits: Tensor = module(input_ids=tokens, use_cache=False, **options).logits
        if logits.shape[:-1] != tokens.shape:
            raise _ChangedBetweenBlocks
        return logits

    options = {} if attention_mask is None else {"attention_mask": attention_mask.long()}
    return _in_some_form(module, run)


_Form = Callable[[Tensor, object], object]
# Blocks return the hidden states, alone or as the first of up to three values; their model accepts one form only.
_FORMS: tuple[_Form, ...] = (
    lambda states, extra: states,
    lambda states, extra: (states, extra),
    lambda states, extra: (states,),
    lambda states, extra: (states, extra, extra),
)


def _in_some_form(module: nn.Module, run: Callable[[_Form], T]) -> T:
    """Call a function with the form of return value that the model accepts from its blocks."""
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
    blocks: list[nn.Module], forward: Callable[[int, Tensor, BlockCall], object], tokens: Tensor
) -> Iterator[None]:
    """Replace the forward of each block inside the `with` block.

    `forward` is called with a block's index, the hidden states, and the other arguments of the block's call.
    """
    batch, length = tokens.shape

    def replacement(index: int, *arguments: object, **options: object) -> object:
        name = None if arguments else next(iter(options), "")
        hidden = arguments[0] if name is None else options.pop(name, None)
        if not isinstance(hidden, Tensor):
            raise _ChangedBetweenBlocks
        streams_first = hidden.ndim == 4 and hidden.shape[:2] != (batch, length) == hidden.shape[1:3]
        return forward(index, hidden, BlockCall(arguments[1:], options, name, streams_first))

    with contextlib.ExitStack() as stack:
        for index, block in enumerate(blocks):
            stack.enter_context(replaced(block, "forward", functools.partial(replacement, index)))
        yield


def _same(states: Tensor, before: Tensor) -> bool:
    """Return whether a block received the previous block's output: the tensor itself, or a view of all of it."""
    views = [
        (each.untyped_storage()._cdata, each.storage_offset(), each.shape, each.stride())
        for each in (states, before)
    ]
    return states is before or views[0] == views[1]


def deduplicate(calls: Sequence[BlockCall], others: Sequence[BlockCall] | None) -> list[BlockCall]:
    """Replace the tensors in the calls of a batch by equal ones of previous blocks, or of another batch.

    Masks and rotary tables are the same for most blocks and batches: held once, they take little memory.

    Args:
        calls: the calls of the batch, one per block.
        others: the calls of another batch; None: there is none yet.
    """
    result: list[BlockCall] = []
    for index, call in enumerate(calls):
        if result:
            call = call.with_tensors_of(result[-1])
        result.append(call.with_tensors_of(others[index]) if others else call)
    return result


def _equal(one: object, other: object) -> bool:
    """Return whether two values are equal tensors of one type."""
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return False
    return one.shape == other.shape and one.dtype == other.dtype and torch.equal(one, other)


def _mapped(change: Callable[[object, object], object], value: Any, other: Any = None) -> Any:
    """Change the values in plain containers, each with its counterpart in containers of the same form, or with None."""
    kind = type(value)
    if kind is dict:
        others = other if type(other) is dict else {}
        return {key: _mapped(change, each, others.get(key)) for key, each in value.items()}
    if kind in (tuple, list):
        same_form = type(other) is kind and len(other) == len(value)
        return kind(
            map(functools.partial(_mapped, change), value, other if same_form else [None] * len(value))
        )
    return change(value, other)
