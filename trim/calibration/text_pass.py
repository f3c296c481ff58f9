"""The calibration text on its way through a model, block by block and batch by batch."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from trim.calibration.calibration import Calibration
from trim.calibration.hidden_states import HiddenStates, allocate_states
from trim.calibration.input_listener import InputListener
from trim.calibration.inputs import DenseBatch, LayerInputs
from trim.calibration.layers import inputs_of, require_called
from trim.calibration.products import ProductsRequest
from trim.calibration.residual import ResidualWriter, residual_writer
from trim.devices import halving
from trim.models.architecture import trial_of
from trim.models.experts import RoutedLinear
from trim.models.replay import BlockCall, SharedTensors, deduplicate, record_calls
from trim.models.streamed import StreamedModel

CPU_BATCH_TOKENS = 4096  # in one forward pass: enough to keep two cores busy
GPU_BATCH_TOKENS = 32768
GPU_EXPERTS_ELEMENTS = (
    2**29
)  # of the hidden states of a batch, where each token reaches a few of many experts

T = TypeVar("T")

# Pairs of a first window and the batch size used from there on; a shrink in the middle of a block adds a pair.
Segments = list[list[int]]


def default_batch(
    calibration: Calibration,
    device: torch.device,
    cpu_tokens: int = CPU_BATCH_TOKENS,
    *,
    experts_width: int = 0,
) -> int:
    """Return how many windows go into one forward pass.

    Args:
        calibration: the text.
        device: where the model computes.
        cpu_tokens: how many tokens the pass takes on the CPU.
        experts_width: the width of the experts' inputs, where a token reaches a few of many experts, so that a GPU has
            little to do for each; 0: there are no such experts.
    """
    tokens = GPU_BATCH_TOKENS
    if device.type == "cpu":
        tokens = cpu_tokens
    elif experts_width:
        tokens = max(tokens, GPU_EXPERTS_ELEMENTS // experts_width)
    return max(1, min(calibration.windows, tokens // calibration.length))


class TextPass:
    """A pass of the text: the hidden states before the next block, and the arguments of each block.

    Attributes:
        model: the model that the text goes through.
        calibration: the text.
        states: the hidden states.
        batch: windows in one forward pass; halves when memory runs out.
    """

    def __init__(
        self,
        model: StreamedModel,
        calibration: Calibration,
        states: HiddenStates,
        batch: int,
        alongside: "TextPass | None" = None,
    ) -> None:
        """Embed the text; see `text_pass`."""
        self.model = model
        self.calibration = calibration
        self.states = states
        self.batch = batch
        # Keys and values that blocks write for later blocks belong to one pass, so these calls are not shared.
        sharing = None if trial_of(model.module).shares else alongside
        self._calls: dict[tuple[int, int], list[BlockCall]] = {} if sharing is None else sharing._calls
        self._written: dict[tuple[int, int], list[SharedTensors]] = {}
        model.prefetch(0)
        self._with_fitting_batch(lambda: self._embed(0, self.batch))

    def capture(
        self,
        index: int,
        block: nn.Module,
        layers: dict[str, nn.Linear],
        products: ProductsRequest | None = None,
        dense_batches: Callable[[slice], DenseBatch] | None = None,
        writer: ResidualWriter | None = None,
    ) -> dict[str, LayerInputs]:
        """Capture the inputs of a block's layers; the hidden states stay as they are.

        Args:
            index: the block's index.
            block: with its weights.
            layers: the block's layers.
            products: the products to sum up; None: no products.
            dense_batches: returns the inputs of the layers in the dense model on some windows.
            writer: as for `InputListener`, with dense batches.
        """

        def forward() -> InputListener:
            listener = InputListener(self.calibration, layers, products, writer)
            for part in self._parts(0, self.batch):
                with listener.listening(part, None if dense_batches is None else dense_batches(part)):
                    listener.receive_output(self.output(index, block, part))
            return listener

        advice = "" if products is None else ", or go without --refit or solved weights"
        return self._with_fitting_batch(forward, advice).received()

    def residual_writer(self, index: int, block: nn.Module, name: str) -> ResidualWriter | None:
        """Find out from one window whether a layer of a block writes to the residual stream; None: it does not."""
        return residual_writer(name, index, block, lambda: self.output(index, block, slice(0, 1)))

    def input_groups(self, index: int, block: nn.Module, layers: dict[str, nn.Linear]) -> list[list[str]]:
        """Return the layers in order of use, in groups that share an input, found with one batch.

        Experts do not depend on each other, so one layer of all experts is one group.
        """

        def look() -> list[list[str]]:
            listener = InputListener(self.calibration, layers)
            part = next(self._parts(0, self.batch))
            with listener.listening(part):
                self.output(index, block, part)
            return listener.groups

        groups = self._with_fitting_batch(look)
        require_called(layers, (name for group in groups for name in group))
        joined: dict[str, list[str]] = {}
        for group in groups:
            key = group[0]
            if isinstance(layers[key], RoutedLinear):
                experts, _, leaf = key.rsplit(".", 2)
                key = f"{experts}.{leaf}"
            joined.setdefault(key, []).extend(group)
        return list(joined.values())

    def propagate(self, index: int, block: nn.Module, segments: Segments | None = None) -> Segments:
        """Replace the hidden states by the block's outputs.

        Args:
            index: the block's index.
            block: with its weights, pruned or not.
            segments: the batch sizes of an earlier pass, to repeat it exactly.

        Returns:
            The batch sizes that were used.
        """
        if segments:
            stops = [start for start, _ in segments[1:]] + [self.calibration.windows]
            for (start, size), stop in zip(segments, stops, strict=True):
                for part in self._parts(start, size, stop):
                    self.states.write(part, self.output(index, block, part))
            self.batch = segments[-1][1]
            return segments
        used, done = [[0, self.batch]], 0

        def forward() -> None:
            nonlocal done
            if used[-1][1] != self.batch:
                used.append([done, self.batch])
            for part in self._parts(done, self.batch):
                self.states.write(part, self.output(index, block, part))
                done = part.stop

        self._with_fitting_batch(forward)
        return used

    def _parts(self, start: int, size: int, stop: int | None = None) -> Iterator[slice]:
        stop = self.calibration.windows if stop is None else stop
        for first in range(start, stop, size):
            yield slice(first, min(first + size, stop))

    def output(self, index: int, block: nn.Module, part: slice) -> Tensor:
        """Return the output of a block on some windows; the hidden states stay as they are."""
        return self.call(index, part).replay(block, self.states.read(part, self.model.device))

    def call(self, index: int, part: slice) -> BlockCall:
        """Return the arguments of a block on some windows, besides the hidden states."""
        if (part.start, part.stop) not in self._calls:
            self._embed(part.start, part.stop - part.start, keep_states=True)
        return self._calls[part.start, part.stop][index]

    def _embed(self, start: int, size: int, keep_states: bool = False) -> None:
        """Record the arguments of the blocks from window `start` on, and store the embedded text."""
        mask = self.calibration.mask
        earlier = next(iter(self._calls.values()), None)
        with self.model.embedding() as module:
            for part in self._parts(start, size):
                states, calls = record_calls(
                    module,
                    self.model.blocks,
                    self.calibration.tokens[part].to(self.model.device),
                    None if mask is None else mask[part].to(self.model.device),
                )
                self._copy_shared_tensors(calls, part)
                self._calls[part.start, part.stop] = earlier = deduplicate(calls, earlier)
                if not keep_states:
                    self.states.write(part, states)

    def _copy_shared_tensors(self, calls: list[BlockCall], part: slice) -> None:
        """Give new calls the tensors that earlier blocks wrote on the same windows, in batches of other sizes."""
        start_of_piece, pieces = part.start, []
        while start_of_piece < part.stop:
            batches = [each for each in reversed(self._written) if each[0] <= start_of_piece < each[1]]
            if not batches:
                break
            start, stop = batches[0]
            stop = min(stop, part.stop)
            cut = slice(start_of_piece - start, stop - start)
            pieces.append(
                [
                    {key: tuple(tensor[cut] for tensor in tensors) for key, tensors in written.items()}
                    for written in self._written[batches[0]]
                ]
            )
            start_of_piece = stop
        shared = calls[0].shared_tensors()
        for written, cuts in zip(shared, zip(*pieces, strict=True), strict=bool(pieces)):
            for key in set.intersection(*map(set, cuts)):
                written[key] = tuple(map(torch.cat, zip(*(each[key] for each in cuts), strict=True)))
        self._written[part.start, part.stop] = shared

    def _with_fitting_batch(self, work: Callable[[], T], advice: str = "") -> T:
        """Call `work`; whenever memory runs out, halve the batch and call it again."""
        result, _ = halving(
            lambda batch: work(),
            self.batch,
            self.model.device,
            f"one window of {self.calibration.length:,} tokens does not fit into memory alongside a block; use shorter "
            f"windows (--length), a 16-bit type (--dtype bfloat16), or another --device{advice}",
            self._shrink,
        )
        return result

    def _shrink(self, batch: int) -> None:
        self.batch = batch
        self._calls.clear()
        self.model.release()


@contextlib.contextmanager
def text_pass(
    model: StreamedModel,
    calibration: Calibration,
    *,
    batch: int,
    folder: Path,
    activation_bytes: int | None = None,
    alongside: TextPass | None = None,
) -> Iterator[TextPass]:
    """Embed the text, and yield it before the first block.

    Args:
        model: the model that the text goes through.
        calibration: the text.
        batch: windows in one forward pass.
        folder: where hidden states may be stored when memory does not hold them.
        activation_bytes: the most memory that hidden states may take; None: a share of the free memory.
        alongside: another pass of the same text, whose blocks have the same arguments.

    Raises:
        NotEnoughMemoryError: not even one window fits into memory.
        SettingsError: the hidden states fit neither into memory nor on the disk.
    """
    shape = (calibration.windows, calibration.length, *trial_of(model.module).state_shape)
    with allocate_states(
        shape, model.dtype, model.device, folder=folder, limit_bytes=activation_bytes
    ) as states:
        yield TextPass(model, calibration, states, batch, alongside)


class DensePass:
    """A pass of the text through the dense model, alongside the pass through the model that is pruned.

    Attributes:
        text: the pass, at the same block as the other.
    """

    def __init__(self, text: TextPass) -> None:
        self.text = text
        self._weights: list[tuple[nn.Linear, nn.Parameter]] = []

    @contextlib.contextmanager
    def block(self, layers: Iterable[nn.Linear]) -> Iterator[None]:
        """Keep copies of the dense weights of a block's layers inside the `with` block, while they are pruned."""
        self._weights = [(layer, nn.Parameter(layer.weight.clone(), requires_grad=False)) for layer in layers]
        try:
            yield
        finally:
            self._weights = []

    def weight(self, layer: nn.Linear) -> Tensor:
        """Return the dense weight of a layer of the block."""
        return next(weight for each, weight in self._weights if each is layer)

    def dense_batches(
        self,
        index: int,
        block: nn.Module,
        layers: Mapping[str, nn.Linear],
        writer: ResidualWriter | None = None,
    ) -> Callable[[slice], DenseBatch]:
        """Return the function of windows that `TextPass.capture` needs; each call runs the dense block on them."""

        def dense_batch(part: slice) -> DenseBatch:
            stream = None
            to_the_end = writer is not None
            silenced = writer.silence() if writer else contextlib.nullcontext()
            with self._dense_weights(), inputs_of(layers, to_the_end=to_the_end) as seen, silenced:
                stream = self.text.output(index, block, part)
            return DenseBatch(seen, stream)

        return dense_batch

    def propagate(self, index: int, block: nn.Module, segments: Segments | None = None) -> Segments:
        """Advance to the next block, as `TextPass.propagate` does."""
        with self._dense_weights():
            return self.text.propagate(index, block, segments)

    @contextlib.contextmanager
    def _dense_weights(self) -> Iterator[None]:
        """Give the block's layers their dense weights inside the `with` block."""
        pruned = [layer.weight for layer, _ in self._weights]
        try:
            for layer, weight in self._weights:
                layer.weight = weight
            yield
        finally:
            for (layer, _), before in zip(self._weights, pruned, strict=True):
                layer.weight = before
