"""The objects that one server shares between all its pages: a model, samples, studies and sensitivities."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, TypeVar

import trim
from app.services.jobs.manager import JOBS
from app.services.layer.background import Job, JobQueue
from app.services.layer.keys import (
    DEVICES,
    SENSITIVITY_WINDOWS,
    ModelKey,
    SampleKey,
    SensitivityKey,
    StudyKey,
)
from app.services.server.access import SEMINAR
from app.services.server.memory import freeze_gc
from trim.progress import Progress

if TYPE_CHECKING:  # torch is imported by the jobs that compute with it
    from torch import Tensor

    from app.services.layer.study import Study

KEPT_STUDIES = 6
KEPT_WINDOWS = 4
K = TypeVar("K")
R = TypeVar("R")


class Laboratory:
    """Makes them one after the other, and keeps the last few."""

    def __init__(self) -> None:
        self._models = JobQueue(keep=1)
        self._descriptions = JobQueue(keep=16)
        self._studies = JobQueue(keep=KEPT_STUDIES)
        # Only the worker of the studies uses it, so it needs no lock.
        self._windows: OrderedDict[tuple[str, SampleKey], Tensor] = OrderedDict()

    def description(self, source: str) -> Job[trim.ModelDescription]:
        """Start a job that says what a model is, before anything large is downloaded.

        Raises:
            PresenterNeededError: a reader of a seminar asks; so for `model`, `study`, `sensitivity` and `forget`.
        """
        SEMINAR.require("Opening a model", source)
        return self._descriptions.job(source, lambda job: _described(source, job))

    def devices(self) -> Job[list[str]]:
        """Start a job that lists the devices for a model; the first takes the seconds that torch takes to load."""
        return self._descriptions.job(DEVICES, _devices)

    def known_devices(self) -> list[str]:
        """Return the devices for a model, without waiting: until torch is loaded, only the CPU."""
        job = self._descriptions.get(DEVICES)
        return job.result() if job is not None and job.done and not job.failed else ["cpu"]

    def preparing(self, key: StudyKey) -> tuple[Hashable, Job]:
        """Start the job that is next on the way to a study, or that failed there; with the job's own key.

        Raises:
            PresenterNeededError: as above.
        """
        devices = self.devices()
        if not devices.done or devices.failed:
            return DEVICES, devices
        model = self.model(key.model)
        if not model.done or model.failed:
            return key.model, model
        return key, self.study(key, model.result())

    def is_loaded(self, key: ModelKey) -> bool:
        """Return whether the model is there already, or about to be."""
        return self._models.get(key) is not None

    def model(self, key: ModelKey) -> Job[trim.Model]:
        """Start a job that loads a model."""
        SEMINAR.require("Loading a model", key.source)
        return self._models.job(key, lambda job: _loaded(key, job))

    def study(self, key: StudyKey, model: trim.Model) -> Job[Study]:
        """Start a job whose result is the study of a layer of a loaded model."""
        SEMINAR.require("Preparing a layer", key.model.source)
        return self._studies.job(key, lambda job: self._in_turn(self._study, key, model, job))

    def sensitivity(self, key: SensitivityKey, model: trim.Model) -> Job[dict[str, Tensor]]:
        """Start a job whose result is the sensitivity (D,) of the rows of every layer of a loaded model, by layer.

        The worker of the studies does it: both put hooks on the model.
        """
        SEMINAR.require("Measuring sensitivities", key.model.source)
        return self._studies.job(key, lambda job: self._in_turn(self._sensitivity, key, model, job))

    def open_studies(self) -> list[Study]:
        """Return the studies that are kept, the one asked for last first."""
        return [job.result() for key, job in self._studies.succeeded() if isinstance(key, StudyKey)]

    def unfinished(self) -> list[tuple[str, Job]]:
        """Return the jobs that run or wait, each with a name for people."""
        queues = (self._models, self._studies)
        return [(_said(key), job) for queue in queues for key, job in queue.unfinished()]

    def finished_study(self, key: StudyKey | None) -> Study | None:
        """Return the study of that key if it is still kept."""
        job: Job[Study] | None = self._studies.get(key)
        return job.result() if job is not None and job.done and not job.failed else None

    def forget(self, key: Hashable) -> None:
        """Make the next request for a description, model, study or sensitivity do its work again."""
        SEMINAR.require("Computing something again")
        for queue in (self._descriptions, self._models, self._studies):
            queue.forget(key)

    def _in_turn(
        self, make: Callable[[K, trim.Model, Job[R]], R], key: K, model: trim.Model, job: Job[R]
    ) -> R:
        with JOBS.turn(job.report):
            return make(key, model, job)

    def _study(self, key: StudyKey, model: trim.Model, job: Job) -> Study:
        from app.services.layer.study import Origin, Study
        from app.services.layer.tensor_layer import TensorLayer

        sample = key.sample
        windows = self._windows_of(model, sample, job)

        captured = trim.capture(
            model,
            windows,
            [key.layer],
            vectors_per_sequence=sample.vectors_per_sequence,
            seed=sample.seed,
            also=["*"],
            progress=job.report,
        )
        job.report(Progress(f"Sweeping {key.layer} for its retention curves"))
        return Study(key, TensorLayer(captured[key.layer], key.score), Origin.of(model, windows))

    def _sensitivity(self, key: SensitivityKey, model: trim.Model, job: Job) -> dict[str, Tensor]:
        windows = self._windows_of(model, key.sample, job)[:SENSITIVITY_WINDOWS]
        return trim.sensitivity(model, windows, progress=job.report)

    def _windows_of(self, model: trim.Model, sample: SampleKey, job: Job) -> Tensor:
        key = (model.fingerprint, sample)
        if key not in self._windows:
            self._windows[key] = trim.load_corpus(
                sample.corpus,
                model.tokenizer,
                windows=sample.windows,
                length=sample.length,
                seed=sample.seed,
                bos=sample.bos,
                progress=job.report,
            )
            while len(self._windows) > KEPT_WINDOWS:
                self._windows.popitem(last=False)
        return self._windows[key]


def _said(key: Hashable) -> str:
    match key:
        case ModelKey():
            return f"model {key.source}"
        case StudyKey():
            return f"layer {key.layer}"
    return "sensitivities of the rows"


def _loaded(key: ModelKey, job: Job) -> trim.Model:
    with JOBS.turn(job.report):
        return trim.load_model(key.source, device=key.device, dtype=key.dtype, progress=job.report)


def _devices(job: Job) -> list[str]:
    job.report(Progress("Loading PyTorch"))
    import torch
    import transformers  # noqa: F401, what loads models needs it

    freeze_gc(now=True)
    return ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]


def _described(source: str, job: Job) -> trim.ModelDescription:
    job.report(Progress("Asking what the model is"))
    return trim.describe_model(source)
