"""Keeping an exploration of one layer as a run, in the schema of the command line's runs."""

import dataclasses
from pathlib import Path

import trim
from app.services.layer.keys import SignalKey
from app.services.layer.request import request_of
from app.services.layer.study import Outcome, Study
from app.services.layer.tensor_layer import TensorLayer, as_tensor
from app.services.server.access import SEMINAR
from trim.errors import RunError
from trim.runs.diagnosis_files import signal_to_json, update_layer_diagnoses
from trim.runs.facts import versions
from trim.runs.listing import new_run_path, runs_folder
from trim.runs.record import LayerRecord
from trim.runs.recording import layer_record, record_of_search
from trim.runs.run_record import RunRecord
from trim.runs.writer import RunWriter


def keep(
    study: Study,
    outcome: Outcome,
    method: str,
    name: str,
    signal: tuple[SignalKey, trim.RowSignal] | None = None,
) -> Path:
    """Write an allocation of the outcome as a run of one layer, with its mask; return the run's folder.

    Args:
        study: the study that is explored.
        outcome: its outcome at the chosen target.
        method: "trim" or "optimal".
        name: the run's name.
        signal: how certain its row sparsities are; None: not measured.

    Raises:
        RunError: it cannot be written, came with the app, or its text is still being read.
    """
    SEMINAR.require("Keeping a layer as a run")
    key, settings, origin = study.key, outcome.result.settings, study.origin
    request = request_of(study, outcome, method)
    record = RunRecord(request, origin.model, origin.text, origin.compute, versions())
    layer = _record(study, outcome, method)
    folder = new_run_path(runs_folder(), name)
    with RunWriter.create(
        folder,
        record.to_json(),
        kind="layer",
        name=name,
        heads=origin.heads,
        structure=origin.structure,
    ) as writer:
        writer.write_block(int(key.layer.split(".")[0]), [layer])
        if signal is not None:
            signal_key, found = signal
            stored = signal_to_json(found, study.columns, signal_key.drawn, vectors=signal_key.vectors)
            update_layer_diagnoses(folder, layer.name, {"signal": stored})
        writer.finish({"layer_sparsity": {"requested": settings.target_sparsity, "realised": layer.sparsity}})
    return folder


def _record(study: Study, outcome: Outcome, method: str) -> LayerRecord:
    key, layer, settings = study.key, study.layer, outcome.result.settings
    if study.refining:
        raise RunError(
            "The text is still being read. The layer can be kept as soon as all of its windows are."
        )
    if not isinstance(layer, TensorLayer):
        raise RunError("This layer came with the app. It can be kept as soon as the live model is loaded.")
    if method == "trim":
        result = trim.search(layer.curves, settings)
        return record_of_search(key.layer, layer.scored, result, score_name=key.score, with_mask=True)
    counts = layer.counts(outcome.optimum.counts)
    return layer_record(
        key.layer,
        dataclasses.replace(layer.scored, sensitivity=as_tensor(outcome.optimum.sensitivity)),
        counts,
        budget=settings.target_sparsity,
        allocation=method,
        score_name=key.score,
        quality_measure=settings.layer_quality,
        keep=layer.curves.keep_mask(counts),
    )
