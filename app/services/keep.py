"""Keeping an exploration of one layer as a run, in the schema of the command line's runs."""

import platform
from pathlib import Path

import numpy
import torch
import transformers

from app.services.studies import Outcome, Study
from trim.prune_settings import PruneSettings
from trim.records import record_of_search
from trim.run_writer import RunWriter, new_run_path
from trim.runs import runs_folder


def keep(study: Study, outcome: Outcome, name: str) -> Path:
    """Write the outcome as a run of one layer, with its mask; the folder it is in.

    Raises:
        RunError: it cannot be written.
    """
    key, settings, origin = study.key, outcome.result.settings, study.origin
    request = PruneSettings(
        model=key.model.source,
        target=settings.target_sparsity,
        score=key.score,
        corpus=key.sample.corpus,
        windows=key.sample.windows,
        length=key.sample.length,
        seed=key.sample.seed,
        vectors_per_sequence=key.sample.vectors_per_sequence,
        layers=(key.layer,),
        learning_rates=settings.learning_rates,
        negative_learning_rates=settings.negative_learning_rates,
        iterations=settings.iterations,
        layer_quality=settings.layer_quality,
        row_quality=settings.row_quality,
        max_row_sparsity=settings.max_row_sparsity,
        device=key.model.device,
        dtype=key.model.dtype,
    )
    record = {
        "request": request.to_json(),
        "model": {"title": origin.model_title, "weights": origin.model_fingerprint},
        "text": {"tokens": origin.text_tokens, "sha256": origin.text_sha256},
        "compute": {"device": origin.device, "device_name": origin.device_name, "dtype": origin.dtype},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "numpy": numpy.__version__,
        },
    }
    layer = record_of_search(
        key.layer,
        study.curves,
        torch.from_numpy(study.score),
        outcome.result,
        score_name=key.score,
        with_mask=True,
    )
    folder = new_run_path(runs_folder(), name)
    with RunWriter.create(folder, record, kind="layer", name=name) as writer:
        writer.write_block(int(key.layer.split(".")[0]), [layer])
        writer.finish({"layer_sparsity": {"requested": settings.target_sparsity, "realised": layer.sparsity}})
    return folder
