"""The inputs from which budgets are planned: the dense model, the text, and the run's settings."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from trim.calibration.calibration import Calibration
from trim.calibration.inputs import LayerInputs
from trim.calibration.layers import linear_layers, require_finite
from trim.calibration.text_pass import TextPass, text_pass
from trim.models.streamed import StreamedModel
from trim.names import block_index
from trim.progress import Meter
from trim.pruning.events import Listener
from trim.runs.settings import PruneSettings

BlockVisitor = Callable[[dict[str, nn.Linear], dict[str, LayerInputs]], None]


@dataclass(frozen=True, eq=False)
class PlanInputs:
    """A run before its first block.

    Attributes:
        model: the dense model.
        calibration: the text.
        settings: the run's.
        shapes: (D, N) of the layers to prune.
        batch, folder, activation_bytes: as for `text_pass`.
        listener: receives the progress.
    """

    model: StreamedModel
    calibration: Calibration
    settings: PruneSettings
    shapes: dict[str, tuple[int, int]]
    batch: int
    folder: Path
    activation_bytes: int | None
    listener: Listener

    def text(self, alongside: TextPass | None = None) -> contextlib.AbstractContextManager[TextPass]:
        """Start a pass of the text through the model, as `text_pass` does."""
        return text_pass(
            self.model,
            self.calibration,
            batch=self.batch,
            folder=self.folder,
            activation_bytes=self.activation_bytes,
            alongside=alongside,
        )

    def visit_blocks(self, visit: BlockVisitor) -> None:
        """Call `visit` for each block, while its weights are in memory, with its layers to prune and their inputs.

        Raises:
            NonFiniteError: a weight or activation is NaN or infinite; the message names the layer.
        """
        last = max(block_index(name) for name in self.shapes)
        meter = Meter(self.listener, of=last + 1)
        with self.text() as text:
            for index in range(last + 1):
                with self.model.block(index) as block:
                    meter.report(
                        f"Setting the layers' budgets ({self.settings.budget}): block {index}", index
                    )
                    layers = linear_layers(block, index, self.shapes)
                    require_finite({name: layer.weight for name, layer in layers.items()})
                    if layers:
                        visit(layers, text.capture(index, block, layers))
                    if index < last:
                        text.propagate(index, block)
