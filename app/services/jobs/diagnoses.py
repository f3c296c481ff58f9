"""Diagnoses of a run, measured by a job: what layers cost, where error builds up, which tokens suffer."""

import datetime
import hashlib
import json
from collections.abc import Sequence

from app.services.jobs.manager import RunJobs
from app.services.jobs.progress import read_progress
from app.services.jobs.records import JobState
from app.services.server.access import SEMINAR
from trim.runs.folder import Run

WHAT = "Measuring a run"


def diagnosis_key(run: Run, what: str) -> str:
    """Return the key of the job that makes a run's diagnosis."""
    asked = json.dumps([what, run.id, run.fingerprint, run.created])
    return "diagnosed-" + hashlib.sha256(asked.encode()).hexdigest()[:24]


def begin_diagnosis(
    jobs: RunJobs, run: Run, what: str, *, windows: int, length: int, layers: Sequence[str] = ("*",)
) -> str:
    """Measure a run on the evaluation part of its calibration text; the key under which `diagnosing` finds it.

    Raises:
        ModelError: the model of the run is not there any more, or has changed.
        JobError: another job runs, or the disk is full.
        PresenterNeededError: it is a reader of a seminar who asks.
    """
    SEMINAR.require(WHAT, run.request.model)
    from trim.evaluation.workbench import source_of  # imports torch

    source_of(run)
    key = diagnosis_key(run, what)
    request = run.request
    options = ["--corpus", request.corpus, "--windows", str(windows), "--length", str(length)]
    options += ["--dtype", request.dtype] if request.dtype else []
    options += ["--device", request.device] if request.device else []
    command = ["diagnose", "--json", *options, "--layers", *layers, "--", what, str(run.path.resolve())]
    jobs.write(key, f"{what} of {run.name}", command, WHAT)
    return key


def diagnosing(jobs: RunJobs, key: str) -> JobState | None:
    """Return how far the diagnosis of that key is; None: it was never asked for."""
    if jobs.begun(key) is None:
        return None
    return jobs.outcome(key, read_progress(jobs.printed(key), datetime.datetime.now(datetime.UTC)))
