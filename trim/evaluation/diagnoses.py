"""Measure the effect of a run on its model, and store the result with the run."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from torch import Tensor

from trim.cache import text_sha256
from trim.calibration.corpora import require_text
from trim.devices import dtype_name
from trim.errors import SettingsError
from trim.evaluation.block_errors import block_errors
from trim.evaluation.diagnose_text import DIAGNOSES
from trim.evaluation.entries import numbers_to_json
from trim.evaluation.layer_costs import LayerCosts, layer_costs
from trim.evaluation.perplexity import token_losses
from trim.evaluation.settings import EvaluationText
from trim.evaluation.workbench import Workbench, model_source, pruned
from trim.models.loaded import Model
from trim.names import select_layers
from trim.progress import ProgressListener
from trim.pruning.export import require_fit, require_masks
from trim.runs.diagnosis_shapes import (
    BlockErrorDiagnosis,
    BlockErrorJson,
    LayerCostDiagnosis,
    LayerCostJson,
    Loss,
    MeasuredText,
    TokenDiagnosis,
)
from trim.runs.fields import number_to_json
from trim.runs.folder import Run, open_run
from trim.runs.places import require_storable
from trim.runs.writer import update_diagnoses

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DEFAULT_TEXT = EvaluationText(windows=4, length=256)


def diagnose(
    run: Run | str | Path,
    what: str,
    text: EvaluationText = DEFAULT_TEXT,
    *,
    layers: Sequence[str] = ("*",),
    batch: int | None = None,
    workbench: Workbench | None = None,
    progress: ProgressListener | None = None,
) -> Run:
    """Measure one of `DIAGNOSES` of a run on held-out text, and write it into the run's `diagnoses.json`.

        trim.diagnose("runs/first", "layers").diagnoses["layers"]

    Args:
        run: complete, with masks.
        what: "layers": the cost of each layer, pruned alone (`layer_costs`); stored after each layer, so that stopped
            work resumes there. "blocks": where error builds up (`block_errors`). "tokens": which tokens suffer
            (`token_losses` of the dense and the pruned model).
        text: the text to measure on.
        layers: for "layers": names or shell patterns.
        batch: windows in one pass; None: automatic.
        workbench: caches the model for further calls; None: a new one for this call.
        progress: called at each step; an exception from it ends the work.

    Returns:
        The run, opened again.

    Raises:
        SettingsError: the diagnosis does not exist.
        RunError: the run is not complete or has no masks, or its folder cannot be written.
        ModelError: its model is missing, or has changed since.
        CorpusError: the text does not exist or is too short.
        LayerNotFoundError: the run did not prune such a layer.
    """
    if what not in DIAGNOSES:
        raise SettingsError(f"a diagnosis is one of {', '.join(DIAGNOSES)}, not {what!r}")
    run = run if isinstance(run, Run) else open_run(run)
    require_masks(run)
    require_storable(run.path)
    require_text(text.corpus)
    chosen = select_layers(layers, run.layers)
    workbench = workbench or Workbench(progress=progress)
    model = workbench.model(model_source(run))
    require_fit(run, model)
    windows = workbench.windows(text)
    measured_text = _measured_text(text.corpus, model, windows)
    if what == "layers":
        before = run.diagnoses.get("layers")
        costs = dict(before["layers"]) if before is not None and before["text"] == measured_text else {}
        missing = [name for name in chosen if name not in costs] or chosen

        def save(measured: LayerCosts) -> None:
            last = measured.layers[-1]
            costs[last.name] = cast(LayerCostJson, numbers_to_json(last))
            so_far: LayerCostDiagnosis = {
                "text": measured_text,
                "dense_loss": number_to_json(measured.dense_loss),
                "layers": {name: costs[name] for name in run.layers if name in costs},
            }
            update_diagnoses(run.path, {"layers": so_far})

        layer_costs(model, run, windows, layers=missing, batch=batch, progress=progress, each=save)
    elif what == "blocks":
        errors = block_errors(model, run, windows, batch=batch, progress=progress)
        numbers = [cast(BlockErrorJson, numbers_to_json(each)) for each in errors]
        blocks: BlockErrorDiagnosis = {"text": measured_text, "blocks": numbers}
        update_diagnoses(run.path, {"blocks": blocks})
    else:
        dense = token_losses(model, windows, batch=batch, progress=progress)
        with pruned(model, run):
            after = token_losses(model, windows, batch=batch, progress=progress)
        update_diagnoses(run.path, {"tokens": _token_diagnosis(model, windows, measured_text, dense, after)})
    return open_run(run.path)


def compare_tokens(
    parent: Model,
    checkpoint: Model,
    windows: Tensor,
    corpus: str,
    *,
    batch: int | None = None,
    progress: ProgressListener | None = None,
) -> TokenDiagnosis:
    """Measure which tokens suffer under a checkpoint that was made from a model, by any method.

    Args:
        parent: the dense model, whose tokenizer cut the text.
        checkpoint: a model made from the parent, with the same vocabulary.
        windows: (windows, length) int64, as `load_corpus(…, split="evaluation")` cuts them.
        corpus: the text's name.
        batch: windows in one pass; None: automatic.
        progress: called after each pass.

    Raises:
        CorpusError: there are no windows, or one of the models cannot read them.
    """
    dense = token_losses(parent, windows, batch=batch, progress=progress)
    after = token_losses(checkpoint, windows, batch=batch, progress=progress)
    return _token_diagnosis(parent, windows, _measured_text(corpus, parent, windows), dense, after)


def _token_diagnosis(
    model: Model, windows: Tensor, text: MeasuredText, dense: Tensor, after: Tensor
) -> TokenDiagnosis:
    return {
        "text": text,
        "pieces": [token_pieces(model.tokenizer, window.tolist()) for window in windows],
        "dense": _losses(dense),
        "pruned": _losses(after),
    }


def _measured_text(corpus: str, model: Model, windows: Tensor) -> MeasuredText:
    return {
        "corpus": corpus,
        "windows": windows.shape[0],
        "length": windows.shape[1],
        "tokens_sha256": text_sha256(windows),
        "dtype": dtype_name(model.dtype),
    }


def _losses(losses: Tensor) -> list[list[Loss]]:
    return [[number_to_json(value) for value in window] for window in losses.tolist()]


def token_pieces(tokenizer: "PreTrainedTokenizerBase", tokens: list[int]) -> list[str]:
    """Return the text of each token; a letter that spans several tokens belongs to the last of them."""
    pieces, before = [], ""
    for stop in range(1, len(tokens) + 1):
        text = str(tokenizer.decode(tokens[:stop], skip_special_tokens=False))
        if text.endswith("\N{REPLACEMENT CHARACTER}") and stop < len(tokens):
            pieces.append("")
            continue
        pieces.append(text[len(before) :])
        before = text
    return pieces
