"""Diagnoses of a run, measured by a job: what layers cost, where error builds up, which tokens suffer."""

import datetime
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from app.services.jobs.manager import RunJobs
from app.services.jobs.progress import read_progress
from app.services.server.access import SEMINAR
from trim.progress import Progress
from trim.runs.folder import Run

WHAT = "Measuring a run"


@dataclass(frozen=True)
class Diagnosing:
    """A diagnosis that is being made, or was.

    Attributes:
        active: whether it is being made.
        progress: how far it is.
        message: why it ended early; "" if it did not.
    """

    active: bool
    progress: Progress
    message: str


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


def diagnosing(jobs: RunJobs, key: str) -> Diagnosing | None:
    """Return how far the diagnosis of that key is; None: it was never asked for."""
    record = jobs.begun(key)
    if record is None:
        return None
    events = []
    for line in jobs.output(key).splitlines():
        if line.startswith('{"event"'):
            try:
                events.append(json.loads(line))
            except ValueError:  # half written yet
                continue
    now = read_progress(events, datetime.datetime.now(datetime.UTC)).now
    active, code, message = jobs.outcome(key)
    if not active and code != 0 and not message:
        message = "It was stopped before it was done."
    return Diagnosing(active, now, message)
