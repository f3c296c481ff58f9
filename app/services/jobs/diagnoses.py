"""Diagnoses of a run and of its single layers, measured by a job and kept with the run."""

import datetime
from collections.abc import Sequence

from app.services.jobs.manager import RunJobs
from app.services.jobs.progress import read_progress
from app.services.jobs.records import JobState, job_key
from app.services.server.access import SEMINAR
from trim.runs.folder import Run

ACTION = "Measuring a run"  # what a reader of a seminar may not do


def diagnosis_key(run: Run, what: str, layer: str = "") -> str:
    """Return the key of the job that makes a diagnosis of a run, or of one of its layers."""
    return job_key("diagnosed", [what, layer, run.id, run.fingerprint, run.created])


def begin_diagnosis(
    jobs: RunJobs, run: Run, what: str, options: Sequence[str] = (), *, layer: str = ""
) -> str:
    """Measure a run, or one layer of it; return the key for `diagnosis_state`.

    Args:
        jobs: the queue that starts the job.
        run: the run to measure.
        what: one of `DIAGNOSES`, or for a layer one of `LAYER_DIAGNOSES`.
        options: options of `python -m trim diagnose`.
        layer: the layer to measure; "": the whole run.

    Raises:
        ModelError: the model of the run does not exist any more, or has changed.
        JobError: another job runs, or the disk is full.
        PresenterNeededError: the caller is a reader of a seminar.
    """
    SEMINAR.require(ACTION, run.request.model)
    from trim.evaluation.workbench import model_source  # imports torch

    model_source(run, layer=bool(layer))
    key, request = diagnosis_key(run, what, layer), run.request
    command = ["diagnose", "--json", *options]
    command += ["--layers", layer] if layer else []
    command += ["--dtype", request.dtype] if request.dtype else []
    command += ["--device", request.device] if request.device else []
    title = f"{what} of {layer or run.name}"
    jobs.run_command(key, title, [*command, "--", what, str(run.path.resolve())], ACTION)
    return key


def diagnosis_state(jobs: RunJobs, key: str) -> JobState | None:
    """Return the state of the diagnosis of this key; None: it was never started."""
    if jobs.record(key) is None:
        return None
    return jobs.command_state(
        key, read_progress(reversed(list(jobs.printed(key))), datetime.datetime.now(datetime.UTC))
    )
