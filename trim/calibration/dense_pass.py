"""The text on its way through the dense model, beside the same text on its way through the pruned one.

Both go through one block after another together: a block's weights are read once, and what pruning has made of them
gives way to the dense ones while the dense model's hidden states pass.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator

from torch import Tensor, nn

from trim.calibration.inputs import input_of
from trim.calibration.text_pass import Segments, TextPass


class DensePass:
    """What the layers would receive, had nothing been pruned.

    Attributes:
        text: the text before the same block as in the pruned model.
    """

    def __init__(self, text: TextPass) -> None:
        self.text = text
        self._weights: list[tuple[nn.Linear, nn.Parameter]] = []

    @contextlib.contextmanager
    def block(self, layers: Iterable[nn.Linear]) -> Iterator[None]:
        """Remember the dense weights of a block's layers, for as long as they are being pruned."""
        self._weights = [(layer, nn.Parameter(layer.weight.clone(), requires_grad=False)) for layer in layers]
        try:
            yield
        finally:
            self._weights = []

    def receives(self, index: int, block: nn.Module, layer: nn.Linear) -> Callable[[slice], Tensor]:
        """What a layer receives of some windows, (sequences, length, N)."""

        def received(part: slice) -> Tensor:
            with self._dense(), input_of(layer) as seen:
                self.text.output(index, block, part)
            return seen[0]

        return received

    def propagate(self, index: int, block: nn.Module, segments: Segments | None = None) -> Segments:
        """Go on to the next block, as `TextPass.propagate` does."""
        with self._dense():
            return self.text.propagate(index, block, segments)

    @contextlib.contextmanager
    def _dense(self) -> Iterator[None]:
        pruned = [layer.weight for layer, _ in self._weights]
        try:
            for layer, weight in self._weights:
                layer.weight = weight
            yield
        finally:
            for (layer, _), weight in zip(self._weights, pruned, strict=True):
                layer.weight = weight
