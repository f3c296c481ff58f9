"""The hidden states before and after each block of a model for a whole text, batch by batch."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from torch import Tensor, nn

from trim.calibration.calibration import Calibration
from trim.calibration.hidden_states import HiddenStates, allocate_states
from trim.calibration.text_pass import default_batch
from trim.devices import halving
from trim.errors import ModelError
from trim.models.architecture import trial_of
from trim.models.loaded import Model
from trim.models.replay import BlockCall, deduplicate, record_calls
from trim.models.streamed import StreamedModel


class InMemoryModel:
    """A loaded model with the methods of a `StreamedModel` by which it is run block by block."""

    def __init__(self, model: Model) -> None:
        self.module, self.blocks = model.module, model.blocks
        self.device, self.dtype = model.device, model.dtype

    def block(self, index: int) -> AbstractContextManager[nn.Module]:
        """Lend a block."""
        return contextlib.nullcontext(self.blocks[index])

    def outside(self) -> AbstractContextManager[nn.Module]:
        """Lend the model."""
        return contextlib.nullcontext(self.module)

    def release(self) -> None:
        """Do nothing: all weights stay in memory."""


# Models that can be run block by block.
BlockModel = StreamedModel | InMemoryModel


class BlockStates:
    """Hidden states of a text in several slots, and the arguments of each block.

    Attributes:
        model: the model, block by block.
        calibration: the text.
        states: (slots · windows, length, …), slot after slot.
        batch: windows in one pass; halves when memory runs out.
    """

    def __init__(
        self, model: BlockModel, calibration: Calibration, states: HiddenStates, batch: int, needs: str
    ) -> None:
        """Begin with empty slots; `needs`: what else fills memory, in an error message, such as "with its logits".

        Raises:
            ModelError: a block reads more than the hidden states of the previous one.
        """
        if trial_of(model.module).shares:
            raise ModelError(
                f"blocks of {type(model.module).__name__} read keys and values that others computed, so what one of "
                "them does cannot be followed through the next alone; choose a score without sensitivities, or "
                "measures that take whole forward passes, such as perplexity"
            )
        self.model = model
        self.calibration = calibration
        self.states = states
        self.batch = min(batch, calibration.windows)
        self._needs = needs
        self._calls: dict[tuple[int, int], list[BlockCall]] = {}

    def embed(self) -> None:
        """Fill slot 0 with the embedded text."""
        with self.model.outside() as module:
            self.in_batches(lambda part: self.write(0, part, self._record(module, part)))

    def propagate(self, index: int, block: nn.Module, before: int, after: int) -> None:
        """Fill slot `after` with a block's output for slot `before`, which may be the same."""

        def through(part: slice) -> None:
            self.write(after, part, self.replay(index, block, part, self.read(before, part)))

        self.in_batches(through)

    def replay(self, index: int, block: nn.Module, part: slice, states: Tensor) -> Tensor:
        """Return a block's output for some windows' hidden states."""
        return self.calls(part)[index].replay(block, states)

    def calls(self, part: slice) -> list[BlockCall]:
        """Return the arguments of each block on some windows."""
        if (part.start, part.stop) not in self._calls:
            with self.model.outside() as module:
                self._record(module, part)
        return self._calls[part.start, part.stop]

    def read(self, slot: int, part: slice) -> Tensor:
        """Return some windows of a slot, on the model's device."""
        return self.states.read(self._place(slot, part), self.model.device)

    def write(self, slot: int, part: slice, states: Tensor) -> None:
        """Replace some windows of a slot."""
        self.states.write(self._place(slot, part), states.detach())

    def mask(self, part: slice) -> Tensor | None:
        """Return which tokens of some windows are real; None: all are."""
        mask = self.calibration.mask
        return None if mask is None else mask[part].to(self.model.device)

    def in_batches(self, work: Callable[[slice], None]) -> None:
        """Work on part after part of the windows, and halve the batch whenever memory runs out.

        Raises:
            NotEnoughMemoryError: not even one window fits.
        """
        done = 0

        def next_part(batch: int) -> int:
            part = slice(done, min(done + batch, self.calibration.windows))
            work(part)
            return part.stop

        while done < self.calibration.windows:
            done, self.batch = halving(
                next_part,
                self.batch,
                self.model.device,
                f"one window of {self.calibration.length:,} tokens does not fit into memory {self._needs}; use shorter "
                "windows (--length), a 16-bit type (--dtype bfloat16), or another --device",
                self._release,
            )

    def _record(self, module: nn.Module, part: slice) -> Tensor:
        """Record the arguments of the blocks, equal ones once, and return the embedded text."""
        tokens = self.calibration.tokens[part].to(self.model.device)
        states, calls = record_calls(module, self.model.blocks, tokens, self.mask(part))
        self._calls[part.start, part.stop] = deduplicate(calls, next(iter(self._calls.values()), None))
        return states

    def _place(self, slot: int, part: slice) -> slice:
        first = slot * self.calibration.windows
        return slice(first + part.start, first + part.stop)

    def _release(self, batch: int) -> None:
        self._calls.clear()
        self.model.release()


@contextlib.contextmanager
def embedded_text(
    model: Model, calibration: Calibration, *, slots: int, batch: int | None, needs: str
) -> Iterator[BlockStates]:
    """Embed a text for a loaded model whose blocks are then run one by one, without gradients.

    Args:
        model: on its device; hidden states that memory does not hold go to the temporary folder.
        calibration: the text.
        slots: how many hidden states of the text are kept at a time; the first is the embedded text's.
        batch: windows in one pass; None: chosen automatically.
        needs: as for `BlockStates`.

    Raises:
        NotEnoughMemoryError, SettingsError: the text does not fit.
    """
    shape = (slots * calibration.windows, calibration.length, *trial_of(model.module).state_shape)
    folder = Path(tempfile.gettempdir())
    with (
        torch.inference_mode(),
        allocate_states(shape, model.dtype, model.device, folder=folder) as allocated,
    ):
        batch = batch or default_batch(calibration, model.device)
        states = BlockStates(InMemoryModel(model), calibration, allocated, batch, needs)
        states.embed()
        yield states
