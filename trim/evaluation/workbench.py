"""One dense model in memory, and runs applied to it one after another."""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from trim.calibration.corpora import load_corpus
from trim.errors import ModelError
from trim.evaluation.settings import EvaluationText
from trim.models.loaded import Model, fetch_model, load_model
from trim.models.tensor_files import TensorFiles
from trim.names import MODELS, absolute
from trim.progress import ProgressListener
from trim.pruning.export import require_fit
from trim.runs.folder import Run, is_run, open_run
from trim.runs.recording import apply_record

MAX_WINDOW = 2048  # tokens, as in the papers of Wanda and TRIM


class Workbench:
    """Loads a model once for several measurements.

    Attributes:
        device, dtype: as for `load_model`.
        progress: called at each step of loading and reading.
    """

    def __init__(
        self,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        progress: ProgressListener | None = None,
    ) -> None:
        self.device = device
        self.dtype = dtype
        self.progress = progress
        self._source: str | None = None
        self._model: Model | None = None
        self._windows: dict[EvaluationText, Tensor] = {}

    def model(self, source: str | Path) -> Model:
        """Return the dense model; one at a time stays in memory.

        Raises:
            The errors of `load_model`.
        """
        source = absolute(source, MODELS)
        if self._model is None or self._source != source:
            self._model = self._source = None  # before the next is loaded: two may not fit
            self._windows.clear()
            self._model = load_model(source, device=self.device, dtype=self.dtype, progress=self.progress)
            self._source = source
        return self._model

    @contextlib.contextmanager
    def opened(self, target: str | Path, *, source: str | Path | None = None) -> Iterator[Model]:
        """Yield a model, or the model of a run, whose pruned weights are zero inside the block.

        Args:
            target: a source for `load_model`, or a run folder.
            source: another model of the same shape for a run; None: the one that it pruned.

        Raises:
            RunError: the run has no masks, or is not complete, or refitted another model.
            ModelError: the model has changed since the run, or does not fit it.
            The errors of `load_model`.
        """
        if not is_run(target):
            yield self.model(target)
            return
        run = open_run(target)
        model = self.model(model_source(run) if source is None else source)
        with pruned(model, run):
            yield model

    def windows(self, text: EvaluationText) -> Tensor:
        """Return the windows of a text in the tokens of the loaded model, (windows, length) int64, cached.

        Raises:
            CorpusError: the text does not exist or is too short.
        """
        if text not in self._windows:
            model = self._model
            assert model is not None, "load a model first"
            longest = model.longest_window or MAX_WINDOW
            self._windows[text] = load_corpus(
                text.corpus,
                model.tokenizer,
                split="whole" if text.whole else "evaluation",
                windows=text.windows,
                length=text.length or min(MAX_WINDOW, longest),
                bos=text.bos,
                progress=self.progress,
            )
        return self._windows[text]


@contextlib.contextmanager
def pruned(model: Model, run: Run) -> Iterator[None]:
    """Apply the masks of a run to a loaded model; restore its dense weights when the block ends.

    Raises:
        RunError: the run has no masks, or is not complete.
        ModelError: the model lacks a layer of the run, or has it in another shape.
    """
    require_fit(run, model)
    with pruned_layers(model, run, run.layers, torch.device("cpu")):
        yield


@contextlib.contextmanager
def pruned_layers(
    model: Model, run: Run, names: Sequence[str], device: torch.device | None = None
) -> Iterator[dict[str, Tensor]]:
    """Prune some layers as a run did inside the `with` block, and yield their dense weights by layer.

    `device`: where the dense weights are stored; None: the model's.
    """
    dense = {name: model.layers[name].weight.to(device or model.device, copy=True) for name in names}
    try:
        with torch.no_grad():
            for name in names:
                apply_record(model.layers[name].weight, run.layer(name))
        yield dense
    finally:
        with torch.no_grad():
            for name, weight in dense.items():
                model.layers[name].weight.copy_(weight)


def model_source(run: Run, *, layer: bool = False) -> str:
    """Return the source of the model that a run pruned, after a check that it has not changed.

    `layer`: whether to accept a layer kept from the app too.

    Raises:
        ModelError: the model cannot be read, or has changed since.
    """
    if run.kind != "model" and not layer:
        raise ModelError(f"{run.path} contains single layers; evaluate a run of a whole model")
    if TensorFiles(fetch_model(run.request.model).folder).fingerprint() != run.model.weights:
        way_out = (
            "prune it again"
            if run.request.changes_weights
            else "name another model of the same shape with --model"
        )
        raise ModelError(
            f"{run.request.model} has changed since {run.path} pruned it; restore it, or {way_out}"
        )
    return run.request.model
