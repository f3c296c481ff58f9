"""The rows' sensitivity where a model is going: measured again in the model pruned once.

An error in a row costs the dense model something else than it costs the model that pruning leaves. So the model is
pruned as asked for, but to 70% at most, beyond which little is left to measure; the gradient goes through what remains;
and the geometric mean of both sensitivities weighs the rows when the dense model is pruned anew. See docs/optimal.md.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace

from torch import Tensor, nn

from trim.calibration.inputs import linear_layers
from trim.models.streamed import StreamedModel
from trim.runs.folder import Run
from trim.runs.recording import apply_record
from trim.runs.settings import PruneSettings

# In the run folder while the run is not complete: the first pass's run, and the dense model's sensitivity.
FIRST_PASS = "first-pass"
DENSE_FILE = "dense-sensitivity.safetensors"
FIRST_PASS_MAX_SPARSITY = 0.7


def first_settings(settings: PruneSettings, sparsity: float) -> PruneSettings:
    """Return the settings of the first pass of a run that is asked for that model sparsity."""
    return replace(settings, target=min(sparsity, FIRST_PASS_MAX_SPARSITY), second_pass=False)


class StreamedPrunedModel:
    """A model as a run left it, seen block by block: what `row_sensitivity` asks for."""

    def __init__(self, model: StreamedModel, run: Run) -> None:
        self._model = model
        self._run = run
        self.module = model.module
        self.blocks = model.blocks
        self.device = model.device
        self.dtype = model.dtype

    @contextlib.contextmanager
    def block(self, index: int) -> Iterator[nn.Module]:
        """Lend a block with its weights, pruned ones 0."""
        with self._model.block(index) as block:
            for name, layer in linear_layers(block, index, self._run.layers).items():
                apply_record(layer.weight, self._run.layer(name))
            yield block

    def outside(self) -> contextlib.AbstractContextManager[nn.Module]:
        """Lend the model with the weights outside its blocks, which no run prunes."""
        return self._model.outside()

    def forget(self) -> None:
        """Let go of what memory holds for later."""
        self._model.forget()


def geometric_means(dense: Mapping[str, Tensor], pruned: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the geometric mean of two sensitivities, by layer, (D,) float32."""
    return {name: values.sqrt() * pruned[name].sqrt() for name, values in dense.items()}
