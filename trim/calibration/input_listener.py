"""Listen to what the layers of a block receive: hooks that sum up norms and products, and keep some input vectors."""

import contextlib
import functools
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from trim.calibration.calibration import Calibration
from trim.calibration.inputs import DenseBatch, LayerInputs
from trim.calibration.layers import BatchInput, LastInputReached, require_called
from trim.calibration.products import ProductsRequest, ProductSums, outer_products
from trim.calibration.residual import ResidualWriter
from trim.calibration.statistics import as_columns, input_norms, size_of_inputs
from trim.errors import ModelError, NonFiniteError
from trim.models.experts import Routing


class InputListener:
    """Running statistics of the inputs of some layers; layers called with the same tensor share theirs."""

    def __init__(
        self,
        calibration: Calibration,
        layers: dict[str, nn.Linear],
        products: ProductsRequest | None = None,
        writer: ResidualWriter | None = None,
    ) -> None:
        """Listen to some layers.

        Args:
            calibration: the text.
            layers: the layers by name.
            products: the products to sum up; None: no products.
            writer: the only layer, where the error of the residual stream that it writes to is needed.
        """
        self.calibration = calibration
        self.layers = layers
        self.products = products
        self.writer = writer
        # Groups are named by their first layer.
        self._groups: dict[str, list[str]] = {}
        self._squares: dict[str, list[Tensor]] = {}  # one of each batch
        self._vectors: dict[str, list[Tensor]] = {}
        self._sums: dict[tuple[str, bool], ProductSums] = {}  # by layer, and whether held out
        self._dense_vectors: dict[str, list[Tensor]] = {}
        self._tokens: dict[str, int] = {}  # of experts' layers
        self._part = slice(0)
        self._awaited: set[str] = set()  # layers that have not been called in this batch
        self._stops_early = True
        self._last: tuple[Tensor, list[str]] | None = None
        self._dense: DenseBatch | None = None
        self._writer_inputs: tuple[Tensor, Tensor | None, Tensor | None, Tensor] | None = None
        self._stream_errors: dict[str, list[Tensor]] = {}  # of the writer
        self._chosen: tuple[Routing, tuple[Tensor, ...]] | None = None

    @property
    def groups(self) -> list[list[str]]:
        """The layers in order of use; the layers of a group receive the same tensor."""
        return list(self._groups.values())

    @contextlib.contextmanager
    def listening(
        self, part: slice, dense: DenseBatch | None = None, *, to_the_end: bool = False
    ) -> Iterator[None]:
        """Watch the layers inside the `with` block, while the windows of `part` go through.

        The forward pass stops at the last of these layers, unless its output is needed.

        Args:
            part: the windows.
            dense: the inputs of the layers in the dense model for the same tokens; None: not captured.
            to_the_end: whether the output is needed; with a writer it always is.
        """
        self._dense = dense
        first_batch = not self._groups
        self._part, self._last = part, None
        self._awaited = {name for name in self.layers if first_batch or name in self._squares}
        self._stops_early = not to_the_end and self.writer is None
        try:
            with contextlib.ExitStack() as hooks, contextlib.suppress(LastInputReached):
                for name in list(self._awaited):
                    receive = functools.partial(self._receive, name)
                    hooks.enter_context(self.layers[name].register_forward_pre_hook(receive))
                if self.writer is not None:
                    hooks.enter_context(self.writer.silence())
                yield
        finally:
            self._last = self._dense = self._chosen = self._writer_inputs = None

    def receive_output(self, stream: Tensor) -> None:
        """Take the block's output (batch, length, hidden): with a writer, the stream before the writer's output."""
        dense_stream = None if self._dense is None else self._dense.stream
        if self.writer is None or dense_stream is None or self._writer_inputs is None:
            return
        values, tokens, dense, kept = self._writer_inputs
        error = (dense_stream - stream).flatten(0, -2)
        error = error if tokens is None else error[tokens]
        self._stream_errors.setdefault(self.writer.name, []).append(error[kept].float() / self.writer.scale)
        self._add_products(self.writer.name, values, tokens, dense, error)

    def _receive(self, name: str, module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        self._listen(name, module, arguments)
        self._awaited.discard(name)
        if self._stops_early and not self._awaited:
            raise LastInputReached

    def _listen(self, name: str, module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        """Add a layer's call to the statistics; one with the tensor of the previous call only joins its group."""
        inputs = arguments[0]
        if self._last is not None and self._last[0] is inputs:
            if name not in self._last[1]:
                self._last[1].append(name)
            return
        self._last = (inputs, self._groups.setdefault(name, [name]))
        batch_input = BatchInput.of(module, arguments)
        if batch_input.tokens is None and len(batch_input.values) != self._part_tokens:
            raise ModelError(
                f"{name} receives only part of the tokens, and it is not known which; choose layers without it"
            )
        values, tokens = self._real(batch_input)
        self._squares.setdefault(name, []).append(size_of_inputs(values))
        if batch_input.tokens is not None:
            self._tokens[name] = self._tokens.get(name, 0) + len(values)
        dense = None
        if self._dense is not None:
            values, tokens, dense = self._in_both(values, tokens, self._dense.inputs[name])
        kept = self._kept(tokens, batch_input.routing if dense is None else None, batch_input.expert)
        self._vectors.setdefault(name, []).append(values[kept])
        if dense is not None:
            self._dense_vectors.setdefault(name, []).append(dense[kept])
        if self.writer is not None:
            self._writer_inputs = values, tokens, dense, kept  # until the block returns the stream
        elif self.products is not None:
            self._add_products(name, values, tokens, dense)

    @property
    def _part_tokens(self) -> int:
        """Return the number of tokens of the batch, padding included."""
        windows: int = self._part.stop - self._part.start
        return windows * self.calibration.length

    def _real(self, batch_input: BatchInput) -> tuple[Tensor, Tensor | None]:
        """Return the inputs (n, N) of the real tokens, and which tokens of the batch they are, ascending; None: all."""
        if self.calibration.mask is None:
            return batch_input.values, batch_input.tokens
        mask = self.calibration.mask[self._part].flatten().to(batch_input.values.device)
        if batch_input.tokens is None:
            return batch_input.values[mask], mask.nonzero()[:, 0]
        real = mask[batch_input.tokens]
        return batch_input.values[real], batch_input.tokens[real]

    def _in_both(
        self, values: Tensor, tokens: Tensor | None, dense: BatchInput
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """Return the inputs of the tokens that reach the layer in both models, these tokens, and their dense inputs."""
        if dense.tokens is None:
            return values, tokens, dense.values if tokens is None else dense.values[tokens]
        if tokens is None:
            raise ModelError("a layer is an expert's in one of two models only")
        both = torch.isin(tokens, dense.tokens, assume_unique=True)
        values, tokens = values[both], tokens[both]
        return values, tokens, dense.values[torch.searchsorted(dense.tokens, tokens)]

    def _kept(self, tokens: Tensor | None, routing: Routing | None, expert: int) -> Tensor:
        """Choose the tokens whose input vectors are kept, (vectors,): V of each window, as indices into `tokens`.

        Args:
            tokens: (n,), the tokens of the batch that the layer received; None: all.
            routing: the routing that sent exactly these tokens to the expert, so that the choice for all its experts is
                made at once; None: there is none.
            expert: the expert's index.
        """
        if tokens is None:
            length, positions = self.calibration.length, self.calibration.positions[self._part]
            windows = torch.arange(len(positions))[:, None]
            return (windows * length + positions).flatten()
        if routing is None or self.calibration.mask is not None:
            return self._lowest_ranks(tokens, [len(tokens)])[0]
        if self._chosen is None or self._chosen[0] is not routing:
            self._chosen = routing, self._lowest_ranks(routing.tokens, routing.counts)
        return self._chosen[1][expert]

    def _lowest_ranks(self, tokens: Tensor, counts: list[int]) -> tuple[Tensor, ...]:
        """Find, for each expert, which of its tokens are the V of lowest rank in their window, ascending.

        Args:
            tokens: (n,), tokens of the batch, expert after expert.
            counts: how many tokens each expert has.
        """
        length, vectors = self.calibration.length, self.calibration.positions.shape[1]
        ranks = self.calibration.ranks[self._part].flatten().to(tokens.device)
        windows, here = len(ranks) // length, torch.arange(len(tokens), device=tokens.device)
        sizes = torch.tensor(counts, device=tokens.device)
        expert = torch.arange(len(counts), device=tokens.device).repeat_interleave(
            sizes, output_size=len(tokens)
        )
        group = expert * windows + tokens // length
        order = (group * length + ranks[tokens]).argsort()
        ordered = group[order]
        lowest = here - torch.searchsorted(ordered, ordered) < vectors
        chosen = torch.empty_like(lowest).scatter_(0, order, lowest).nonzero()[:, 0]
        chosen_expert = expert[chosen]
        kept = torch.bincount(chosen_expert, minlength=len(counts)).tolist()
        within: tuple[Tensor, ...] = (chosen - (sizes.cumsum(0) - sizes)[chosen_expert]).split(kept)
        return within

    def _add_products(
        self,
        name: str,
        values: Tensor,
        tokens: Tensor | None,
        dense: Tensor | None,
        stream_error: Tensor | None = None,
    ) -> None:
        """Add outer products of a batch to the sums, separately for windows that are held out.

        Args:
            name: the layer's name.
            values: (n, N), its inputs.
            tokens: (n,), the tokens of the batch that these are, ascending; None: all.
            dense: (n, N), its inputs in the dense model; None: not captured.
            stream_error: (n, D), the error of the residual stream; None: not captured.
        """
        held_out_windows = self.products.held_out if self.products else 0
        windows = self.calibration.windows - held_out_windows - self._part.start
        inside = min(max(windows * self.calibration.length, 0), self._part_tokens)
        if tokens is not None:
            inside = int((tokens < inside).sum())
        for part, held_out in ((slice(inside), False), (slice(inside, None), True)):
            if not len(real := values[part]):
                continue
            sums = ProductSums(
                outer_products(real, real),
                None if dense is None else outer_products(dense[part], real),
                None
                if stream_error is None or self.writer is None
                else outer_products(stream_error[part], real) / self.writer.scale,
            )
            if (name, held_out) in self._sums:
                self._sums[name, held_out].add(sums)
            else:
                self._sums[name, held_out] = sums

    def add(self, other: "InputListener") -> None:
        """Append the statistics of another listener, of the windows that follow."""
        self._groups = self._groups or other._groups
        for name, squares in other._squares.items():
            self._squares.setdefault(name, []).extend(squares)
            self._vectors.setdefault(name, []).extend(other._vectors[name])
        for name, tokens in other._tokens.items():
            self._tokens[name] = self._tokens.get(name, 0) + tokens

    def received(self, layers: Iterable[str] | None = None, windows: int = 0) -> dict[str, LayerInputs]:
        """Return the inputs of each layer, in order of use.

        Args:
            layers: names of the layers to return; None: all.
            windows: how many windows have gone through; 0: all.

        Raises:
            NonFiniteError: NaN or infinity reached a layer; the message names it.
            ModelError: a layer was never called.
        """
        result: dict[str, LayerInputs] = {}
        chosen = dict.fromkeys(self.layers if layers is None else layers)
        groups = [group for group in self.groups if not chosen.keys().isdisjoint(group)]
        count = windows or self.calibration.windows
        names = [group[0] for group in groups]
        norms = input_norms({name: self._squares[name] for name in names}, count)
        vectors = as_columns({name: self._vectors[name] for name in names})
        dense_vectors = as_columns({name: self._dense_vectors[name] for name in names if self._dense_vectors})
        stream_errors = as_columns(self._stream_errors)
        for group in groups:
            norm, is_finite = norms[group[0]]
            if not is_finite:
                raise NonFiniteError(
                    f"{group[0]} receives NaN or infinite activations from the calibration text; check the checkpoint, "
                    "or compute in a wider type (--dtype float32)"
                )
            text, held_out = (
                self._sums[group[0], last].products(group[0]) if (group[0], last) in self._sums else None
                for last in (False, True)
            )
            tokens, dense = self._tokens.get(group[0]), dense_vectors.get(group[0])
            stream_error = stream_errors.get(group[0])
            inputs = LayerInputs(vectors[group[0]], norm, text, held_out, dense, stream_error, tokens)
            result |= dict.fromkeys(group, inputs)
        require_called(chosen, result)
        return result
