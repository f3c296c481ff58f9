"""The objects that one server shares between all its pages: a model, samples, studies and sensitivities."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING, TypeVar

import trim
from app.services.jobs.manager import JOBS
from app.services.layer.background import Job, JobTable
from app.services.layer.keys import (
    DEVICES,
    SENSITIVITY_WINDOWS,
    AgreementKey,
    ModelKey,
    SampleKey,
    SensitivityKey,
    SignalKey,
    SolutionKey,
    StudyKey,
    TokensKey,
    XrayKey,
    job_title,
)
from app.services.layer.samples import Samples
from app.services.server.access import SEMINAR
from app.services.server.lane import Lane
from app.services.server.memory import freeze_gc
from trim.methods.search_settings import SearchSettings
from trim.progress import Progress
from trim.seeds import following_seeds

if TYPE_CHECKING:  # torch is imported by the jobs that compute with it
    from torch import Tensor

    from app.services.layer.study import Outcome, Study
    from trim.runs.diagnosis_shapes import TokenDiagnosis

R = TypeVar("R")

MODEL_CACHE_BYTES = 2 * 2**30
STUDY_CACHE_BYTES = 2**30
SOLUTION_CACHE_BYTES = 2**28


class Laboratory:
    """Loads models and measures them in background threads, heavy ones one at a time; caches the last used."""

    def __init__(self) -> None:
        self._tables: dict[type, JobTable] = {
            str: JobTable(16),  # descriptions of models, and the devices
            ModelKey: JobTable(MODEL_CACHE_BYTES, _model_bytes),
            StudyKey: JobTable(STUDY_CACHE_BYTES, _study_bytes),
            SignalKey: JobTable(16),
            SolutionKey: JobTable(SOLUTION_CACHE_BYTES, _solution_bytes),
            **{kind: JobTable(4) for kind in (SensitivityKey, XrayKey, AgreementKey, TokensKey)},
        }
        self._loading = Lane()
        # Hooks of two measurements on one model would mix, so a cancelled measurement holds the lane until it ends.
        self._measuring = Lane(to_the_end=True)
        self._samples = Samples()

    def description(self, source: str) -> Job[trim.ModelDescription]:
        """Start a job that describes a model, before anything large is downloaded.

        Raises:
            PresenterNeededError: the caller is a reader of a seminar. All methods that start a job raise it.
        """
        return self._job(source, "Opening a model", source, lambda job: _describe(source, job))

    def devices(self) -> Job[list[str]]:
        """Start a job that lists the devices for a model; the first call loads torch, which takes seconds."""
        return self._tables[str].job(DEVICES, _devices)

    def cached_devices(self) -> list[str]:
        """Return the devices for a model without waiting; only the CPU until torch is loaded."""
        job: Job[list[str]] | None = self._finished(DEVICES)
        return ["cpu"] if job is None else job.result()

    def next_step(self, key: StudyKey) -> tuple[Hashable, Job]:
        """Return the key and the job of the next step towards a study: devices, model, or the study itself.

        A step that failed is returned again.

        Raises:
            PresenterNeededError: the caller is a reader of a seminar.
        """
        devices = self.devices()
        if not devices.done or devices.failed:
            return DEVICES, devices
        model = self.model(key.model)
        if not model.done or model.failed:
            return key.model, model
        return key, self.study(key, model.result())

    def started(self, key: Hashable) -> bool:
        """Return whether the job of this key was started and is still cached."""
        return self._tables[type(key)].get(key) is not None

    def model(self, key: ModelKey) -> Job[trim.Model]:
        """Start a job that loads a model; downloads run in parallel, only one model is loaded at a time."""

        def work(job: Job) -> trim.Model:
            from trim.models.loaded import fetch_model

            with JOBS.turn(job):
                fetched = fetch_model(key.source, progress=job.report)
                with self._loading.turn(job):
                    try:
                        return fetched.load(key.device, key.dtype, job.report)
                    except trim.NotEnoughMemoryError:
                        for kind in (ModelKey, StudyKey):
                            self._tables[kind].drop_results()
                        gc.collect()
                    return fetched.load(key.device, key.dtype, job.report)

        return self._job(key, "Loading a model", key.source, work)

    def study(self, key: StudyKey, model: trim.Model) -> Job[Study]:
        """Start a job that prepares the study of a layer of a loaded model."""

        def work(job: Job) -> Study:
            from app.services.layer.study import Origin, Study
            from app.services.layer.tensor_layer import TensorLayer
            from trim.calibration.capture import load_cached_capture

            sample = key.sample
            windows = self._samples.windows(model, sample, job)
            origin = Origin.of(model, windows)

            def study_of(captured: dict[str, trim.LayerSample], *, refining: bool = False) -> Study:
                job.report(
                    dataclasses.replace(job.progress, what=f"Computing the retention curves of {key.layer}")
                )
                return Study(key, TensorLayer(captured[key.layer], key.score), origin, refining=refining)

            def preview(captured: dict[str, trim.LayerSample]) -> None:
                job.preview = study_of(captured, refining=True)

            vectors, seed = sample.vectors_per_sequence, sample.seed
            captured = load_cached_capture(
                model, windows, [key.layer], vectors_per_sequence=vectors, seed=seed
            )
            if captured is None:
                with JOBS.turn(job), self._measuring.turn(job):
                    captured = trim.capture(
                        model,
                        windows,
                        [key.layer],
                        vectors_per_sequence=vectors,
                        seed=seed,
                        also=["*"],
                        progress=job.report,
                        partial=preview,
                    )
            return study_of(captured)

        return self._job(key, "Preparing a layer", key.model.source, work)

    def sensitivity(self, key: SensitivityKey, model: trim.Model) -> Job[dict[str, Tensor]]:
        """Start a job that measures the sensitivity (D,) of the rows of every layer of a loaded model.

        It and studies wait for each other, because both put hooks on the model.
        """

        def work(job: Job) -> dict[str, Tensor]:
            from trim.calibration.sensitivity import load_cached_sensitivity

            windows = self._samples.windows(model, key.sample, job)[:SENSITIVITY_WINDOWS]
            sensitivity = load_cached_sensitivity(model, windows)
            if sensitivity is None:
                with JOBS.turn(job), self._measuring.turn(job):
                    sensitivity = trim.sensitivity(model, windows, progress=job.report)
            return sensitivity

        return self._job(key, "Measuring sensitivities", key.model.source, work)

    def xray(self, key: XrayKey) -> Job[trim.Xray]:
        """Start a job that finds out how a checkpoint was pruned."""

        def work(job: Job) -> trim.Xray:
            with JOBS.turn(job):
                return trim.xray(key.checkpoint, key.parent, progress=job.report)

        return self._job(key, "An X-ray of a checkpoint", key.checkpoint, work)

    def agreements(self, key: AgreementKey, parent: trim.Model) -> Job[list[trim.Agreement]]:
        """Start a job that compares a checkpoint's zeros with the masks of the library."""

        def work(job: Job) -> list[trim.Agreement]:
            windows = self._samples.windows(parent, key.sample, job)
            with JOBS.turn(job), self._measuring.turn(job):
                return trim.agreements(
                    key.checkpoint,
                    parent,
                    windows,
                    vectors_per_sequence=key.sample.vectors_per_sequence,
                    seed=key.sample.seed,
                    progress=job.report,
                )

        return self._job(key, "Comparing masks", key.checkpoint, work)

    def tokens(self, key: TokensKey, parent: trim.Model) -> Job[TokenDiagnosis]:
        """Start a job that measures which tokens suffer under a checkpoint."""

        def work(job: Job) -> TokenDiagnosis:
            sample = key.sample
            windows = trim.load_corpus(
                sample.corpus,
                parent.tokenizer,
                split="evaluation",
                windows=sample.windows,
                length=min(sample.length, parent.longest_window or sample.length),
                bos=sample.bos,
                progress=job.report,
            )
            with JOBS.turn(job), self._measuring.turn(job):
                checkpoint = trim.load_model(
                    key.checkpoint, device=parent.device, dtype=parent.dtype, progress=job.report
                )
                return trim.compare_tokens(parent, checkpoint, windows, sample.corpus, progress=job.report)

        return self._job(key, "Comparing losses", key.checkpoint, work)

    def signal(self, key: SignalKey, model: trim.Model) -> Job[trim.RowSignal]:
        """Start a job that learns the row sparsities of a layer of a loaded model several times."""

        def work(job: Job) -> trim.RowSignal:
            study, sample = key.study, key.study.sample
            vectors = sample.vectors_per_sequence

            def capture(sample: SampleKey) -> trim.LayerSample:
                windows = self._samples.windows(model, sample, job)
                samples = trim.capture(
                    model, windows, [study.layer], vectors_per_sequence=vectors, seed=sample.seed
                )
                return samples[study.layer]

            with JOBS.turn(job), self._measuring.turn(job):
                samples: Iterator[trim.LayerSample]
                if key.drawn == "vectors":
                    one = capture(sample)
                    samples = trim.resampled(one, key.draws, vectors=key.vectors, seed=sample.seed)
                elif key.drawn == "windows":
                    seeds = following_seeds(sample.seed, key.draws)
                    samples = (capture(dataclasses.replace(sample, seed=seed)) for seed in seeds)
                else:
                    texts = (sample.corpus, *key.texts)
                    samples = (capture(dataclasses.replace(sample, corpus=text)) for text in texts)
                signal = trim.row_signal(
                    samples, key.settings, score=study.score, draws=key.draws, progress=job.report
                )
                titles = (sample.corpus, *key.texts) if key.drawn == "texts" else signal.titles
                return dataclasses.replace(signal, titles=titles)

        return self._job(key, "Measuring uncertainty", key.study.model.source, work)

    def measured_signal(
        self, study: StudyKey, settings: SearchSettings
    ) -> tuple[SignalKey, trim.RowSignal] | None:
        """Return the latest cached draws of a layer under these settings; None if there are none."""
        for key, job in self._tables[SignalKey].succeeded():
            if isinstance(key, SignalKey) and (key.study, key.settings) == (study, settings):
                return key, job.result()
        return None

    def solution(self, key: SolutionKey, model: trim.Model, outcome: Outcome) -> Job[trim.SolvedLayer]:
        """Start a job that solves a layer of a loaded model and compares it with the masks of an outcome."""

        def work(job: Job) -> trim.SolvedLayer:
            import torch

            weights, masks = outcome.optimum.sensitivity, outcome.view.masks
            with JOBS.turn(job), self._measuring.turn(job):
                return trim.solve_layer(
                    self._samples.products(key.study, model, job),
                    key.settings.target_sparsity,
                    key.solver,
                    sensitivity=None if weights is None else torch.from_numpy(weights),
                    masks={name: torch.from_numpy(masks[name]()) for name in ("trim", "optimal")},
                    progress=job.report,
                )

        return self._job(key, "Solving a layer", key.study.model.source, work)

    def open_studies(self) -> list[Study]:
        """Return the cached studies, the last used first."""
        return [job.result() for _, job in self._tables[StudyKey].succeeded()]

    def unfinished(self) -> list[tuple[str, Job]]:
        """Return the jobs that run or wait, each with a title to display."""
        tables = [table for kind, table in self._tables.items() if kind is not str]
        return [(job_title(key), job) for table in tables for key, job in table.unfinished()]

    def finished_study(self, key: StudyKey | None) -> Study | None:
        """Return the study of this key if it is still cached."""
        job: Job[Study] | None = None if key is None else self._finished(key)
        return None if job is None else job.result()

    def forget(self, key: Hashable) -> None:
        """Make the next request for a description, model, study or sensitivity do its work again."""
        SEMINAR.require("Computing something again")
        self._tables[type(key)].forget(key)

    def _job(self, key: Hashable, what: str, source: str, work: Callable[[Job], R]) -> Job[R]:
        """Start a job, or return the existing one; in a seminar only the presenter may do `what`."""
        SEMINAR.require(what, source)
        return self._tables[type(key)].job(key, work)

    def _finished(self, key: Hashable) -> Job | None:
        job = self._tables[type(key)].get(key)
        return job if job is not None and job.done and not job.failed else None


def _model_bytes(model: trim.Model) -> int:
    return sum(each.numel() * each.element_size() for each in model.module.parameters())


def _solution_bytes(solution: trim.SolvedLayer) -> int:
    """Return the size of the solved weights (float32) and of the mask."""
    return 5 * solution.keep.numel()


def _study_bytes(study: Study) -> int:
    """Return the size of a study: weight, score, ranks and three curves, four bytes a number."""
    return 6 * 4 * study.rows * study.columns


def _devices(job: Job) -> list[str]:
    job.report(Progress("Loading PyTorch"))
    import torch
    import transformers  # noqa: F401, needed to load models

    freeze_gc(now=True)
    return ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]


def _describe(source: str, job: Job) -> trim.ModelDescription:
    job.report(Progress("Asking what the model is"))
    return trim.describe_model(source)
