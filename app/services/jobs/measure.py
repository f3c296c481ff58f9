"""Perplexity of a run and of its dense model, measured by a job."""

from pathlib import Path

import trim
from trim.evaluation.settings import EvaluationText
from trim.progress import Progress
from trim.pruning.events import event_to_json
from trim.runs.writer import log_event, update_metrics

DENSE = "dense_perplexities"  # key in metrics.json; its entries have the form of those of "perplexities"


def measure(folder: Path, *, windows: int, length: int) -> None:
    """Measure a run and its dense model on the evaluation part of its calibration text, and store both.

    Raises:
        TrimError: the text, the model or the run cannot be used.
    """
    from trim.evaluation.workbench import Workbench, model_source  # imports torch

    run = trim.open_run(folder)
    text = EvaluationText(run.request.corpus, windows, length)

    def log(progress: Progress) -> None:
        log_event(folder, event_to_json(progress))

    workbench = Workbench(device=run.request.device, dtype=run.request.dtype, progress=log)
    trim.evaluate(folder, [text], workbench=workbench, progress=log)
    dense = trim.evaluate(model_source(run), [text], workbench=workbench, progress=log)
    update_metrics(folder, {DENSE: [entry.to_json() for entry in dense]})
