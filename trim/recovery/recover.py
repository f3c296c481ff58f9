"""Recover a pruned model: train what it kept to predict what the dense model predicts, zeros staying zero."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from trim.cache import text_sha256
from trim.calibration.corpora import load_corpus
from trim.calibration.text_pass import fixed_threads
from trim.devices import choose_device, memory_errors_named
from trim.errors import CorpusError, RunError
from trim.models.checkpoint import load_tokenizer, read_config
from trim.models.fusion import fused
from trim.models.loaded import Model
from trim.names import CORPORA, absolute
from trim.progress import Progress, ProgressListener
from trim.pruning.events import Finished, Note, Stopped, to_json
from trim.recovery import events
from trim.recovery.checkpointing import recomputed
from trim.recovery.events import FactListener
from trim.recovery.folder import RecoveryWriter
from trim.recovery.kept import KeptWeights
from trim.recovery.memory import Plan, plan_memory
from trim.recovery.pair import Pair, open_pair, recovery_dtype
from trim.recovery.result import model_card, write_model, write_moved
from trim.recovery.sampling import pieces_at_once, sample_windows
from trim.recovery.text import RecoveryText
from trim.recovery.training import Course, Training
from trim.runs import recovery as stored
from trim.runs.folder import is_run, runs_folder
from trim.runs.recording import compute_facts, versions
from trim.runs.recovery import HeldOut, Recovery, RecoverSettings, RecoveryMetrics, RecoveryRecord, open_recovery
from trim.runs.run_record import ModelFacts
from trim.runs.writer import new_run_path, update_metrics

RATE = 0.3  # over the width of the model: the wider, the smaller its weights
STEP_TOKENS = {"cpu": 1024, "cuda": 8192}
SAMPLED = {"cpu": 0.0, "cuda": 0.5}
LENGTH = 1024
SAMPLING_SHARE = 0.15  # of the minutes
SAVE_SECONDS = 60.0
_TELL_SECONDS = 1.0


class _Report(Protocol):
    """Receives progress; unless `always`, only now and then."""

    def __call__(self, now: Progress, *, always: bool = True) -> None: ...


def recover(
    sparse: str | Path,
    out: str | Path | None = None,
    settings: RecoverSettings | None = None,
    *,
    parent: str | Path | None = None,
    tokens: Tensor | None = None,
    name: str = "",
    progress: ProgressListener | None = None,
    listener: FactListener | None = None,
    **changes: object,
) -> Recovery:
    """Train a pruned model to predict what its dense parent predicts; its zeros stay.

        recovered = trim.recover("runs/first", minutes=5)
        trim.evaluate(recovered.path)

    Args:
        sparse: a run, or a pruned checkpoint as `load_model` takes it.
        out: the new folder; None: beside the run, with "-recovered" after its name.
        settings: every option.
        parent: the dense model, which a checkpoint needs; None: that of the run.
        tokens: (windows, length) int64, a text of your own instead of `corpus`.
        name: what people call it.
        progress: called at each step.
        listener: receives what was done (`trim.recovery.events`).
        changes: options by their names in `RecoverSettings`: minutes, steps, corpus, …

    Raises:
        SettingsError: settings that make no sense, no parent, or hardly a zero in the checkpoint.
        RunError: the run is not complete or pruned another model, or the folder holds something.
        ModelError: a model cannot be read, or one was not made from the other.
        CorpusError: the text is too short to hold a part of it out.
        NotEnoughMemoryError: not even one window fits.
        NonFiniteError: the pruned or the dense model computes NaN.
    """
    begin = time.perf_counter()
    chosen = RecoverSettings.of(({} if settings is None else vars(settings)) | changes)
    device = choose_device(chosen.device)
    dtype = recovery_dtype(chosen.dtype, device)
    pair = open_pair(sparse, parent, dtype, progress)
    chosen = _resolved(chosen, pair, device, dtype, tokens)
    assert chosen.batch is not None and chosen.length is not None
    plan = plan_memory(pair.sizes, chosen.batch, chosen.length, device)
    windows = _windows(chosen, pair, progress) if tokens is None else tokens
    text = RecoveryText.of(windows, device)
    facts = stored.RecoveryText(
        str(chosen.corpus), text_sha256(windows), chosen.length, len(text.training), len(text.held_out)
    )
    record = RecoveryRecord(
        chosen,
        pair.sparse,
        pair.run.fingerprint if pair.run else None,
        ModelFacts(pair.title, pair.sparse_weights),
        pair.parent,
        ModelFacts(pair.parent_title, pair.dense_weights),
        facts,
        compute_facts(device, dtype, plan.windows, torch.get_num_threads()),
        versions(),
    )
    path = new_path(sparse) if out is None else Path(out)
    title = name or f"{pair.title}, recovered"
    with RecoveryWriter.create(path, record, text, title) as writer:
        return _work(writer, pair, plan, begin, progress, listener)


def resume_recovery(
    path: str | Path,
    *,
    progress: ProgressListener | None = None,
    listener: FactListener | None = None,
) -> Recovery:
    """Resume a recovery that was stopped; with steps in place of minutes it ends on a CPU as if it had not been.

    Raises:
        RunError: a model, the device or a library has changed since it began.
        The errors of `recover`.
    """
    begin = time.perf_counter()
    recovery = open_recovery(path)
    if recovery.complete:
        return recovery
    record = recovery.record
    with RecoveryWriter(recovery.path) as writer:
        device = choose_device(record.request.device)
        dtype = recovery_dtype(record.request.dtype, device)
        pair = open_pair(record.sparse, record.parent, dtype, progress)
        _require_same(recovery, pair, device, dtype)
        assert record.request.batch is not None and record.request.length is not None
        plan = plan_memory(pair.sizes, record.request.batch, record.request.length, device)
        plan = dataclasses.replace(plan, windows=record.compute.batch or plan.windows)
        return _work(writer, pair, plan, begin, progress, listener)


def _require_same(recovery: Recovery, pair: Pair, device: torch.device, dtype: torch.dtype) -> None:
    """Refuse to resume where something that decides the result has changed."""
    record = recovery.record
    now = compute_facts(device, dtype, record.compute.batch, record.compute.threads)
    changed = {
        "the pruned model": (record.pruned.weights, record.run)
        != (pair.sparse_weights, pair.run.fingerprint if pair.run else None),
        "the dense model": record.dense.weights != pair.dense_weights,
        "the device or the type": record.compute != now,
        "a library": record.versions != versions(),
    }
    if said := [what for what, is_other in changed.items() if is_other]:
        raise RunError(
            f"{recovery.path} cannot be resumed: {' and '.join(said)} changed since it began. Restore it, or recover "
            "again into another folder"
        )


def _resolved(
    chosen: RecoverSettings, pair: Pair, device: torch.device, dtype: torch.dtype, tokens: Tensor | None
) -> RecoverSettings:
    """Return the settings with all that they leave open.

    Raises:
        CorpusError: the run's text was given as tokens, or windows are longer than the model reads.
    """
    run, kind = pair.run, device.type
    corpus, length = chosen.corpus, chosen.length
    longest = getattr(read_config(pair.files.folder), "max_position_embeddings", None)
    if tokens is not None:
        corpus, length = "tokens", tokens.shape[1]
    elif corpus is None:
        if run is not None and run.text.given:
            raise CorpusError(
                f"{run.path} was pruned on tokens of your own, which it does not keep; name a text with --corpus"
            )
        corpus = run.request.corpus if run is not None else "demo"
    if length is None:
        length = run.request.length if run is not None else min(LENGTH, longest or LENGTH)
    if longest and length > longest:
        raise CorpusError(
            f"{pair.parent_title} reads at most {longest:,} tokens at once, not {length:,}; use shorter windows "
            f"(--length {longest})"
        )
    return dataclasses.replace(
        chosen,
        corpus=absolute(corpus, CORPORA),
        length=length,
        batch=chosen.batch or max(1, STEP_TOKENS[kind] // length),
        sampled=SAMPLED[kind] if chosen.sampled is None else chosen.sampled,
        learning_rate=chosen.learning_rate or RATE / pair.sizes.hidden,
        device=str(device),
        dtype=str(dtype).removeprefix("torch."),
    )


def _windows(chosen: RecoverSettings, pair: Pair, progress: ProgressListener | None) -> Tensor:
    assert chosen.length is not None and chosen.corpus is not None
    return load_corpus(
        chosen.corpus,
        load_tokenizer(pair.files.folder),
        windows=chosen.windows,
        length=chosen.length,
        seed=chosen.seed,
        bos=pair.run.request.bos if pair.run else True,
        progress=progress,
    )


def new_path(sparse: str | Path) -> Path:
    """Return the folder of a new recovery: beside the run with "-recovered" after its name, or a new one in `runs`."""
    if not is_run(sparse):
        return new_run_path(runs_folder(), f"{Path(sparse).name} recovered")
    run = Path(sparse).resolve()
    base = run.with_name(f"{run.name}-recovered")
    path, number = base, 2
    while path.exists():
        path, number = base.with_name(f"{base.name}-{number}"), number + 1
    return path


def _work(
    writer: RecoveryWriter,
    pair: Pair,
    plan: Plan,
    begin: float,
    progress: ProgressListener | None,
    listener: FactListener | None,
) -> Recovery:
    """Load both models, let the dense one write, train, and write the result."""
    recovery = writer.recovery
    record, request = recovery.record, recovery.record.request
    device, dtype = choose_device(request.device), recovery_dtype(request.dtype, choose_device(request.device))
    told = 0.0

    def fact(event: events.Fact) -> None:
        writer.log(to_json(event))
        if listener:
            listener(event)

    def report(now: Progress, *, always: bool = True) -> None:
        nonlocal told
        if always or time.monotonic() - told > _TELL_SECONDS:
            told = time.monotonic()
            writer.log(to_json(now))
            if progress:
                progress(now)

    with fixed_threads(record.compute.threads or torch.get_num_threads()), _report_end(fact):
        report(Progress("Loading both models"))
        dense, student = pair.load(device, dtype, progress)
        named = dict(student.module.named_parameters())
        kept = KeptWeights((name, named[name]) for name in pair.trained)
        for parameter in student.module.parameters():
            parameter.data = parameter.data.to(dtype)
        kept.begin()
        before = kept.values.to("cpu", copy=True)
        kept.write(kept.values)
        course = writer.read_course()
        best = writer.read_state(kept)
        text = writer.read_text()
        fact(
            events.Began(
                len(kept), request.batch or 1, plan.windows, plan.checkpointing, plan.bytes, best is not None
            )
        )
        with _ready(dense, student, plan, device):
            began = time.monotonic()
            if request.sampled and not len(text.sampled):
                text = _sampled(text, dense, request, report)
                writer.write_text(text)
            if request.steps is not None:
                course.planned = request.steps
            course.seconds += time.monotonic() - began
            training = Training(
                dense,
                student,
                kept,
                text,
                course,
                rate=request.learning_rate or 0.0,
                windows=request.batch or 1,
                in_one_pass=plan.windows,
                sampled=request.sampled or 0.0,
                seed=request.seed,
                minutes=request.minutes if request.steps is None else None,
            )
            if best is not None:
                training.best.copy_(best)
            _train(writer, training, report, fact)
        course = training.course
        seen = course.done * (request.batch or 1) * (request.length or 1)
        report(Progress("Writing the recovered model"))
        write_moved(writer.path, student, kept, before, training.best)
        card = model_card(recovery, course.done, seen, len(kept))
        zeros = write_model(recovery.model, pair, kept, before, training.best, card, progress)
        seconds = recovery.metrics.get("seconds", 0.0) + time.perf_counter() - begin
        metrics = _metrics(training) | RecoveryMetrics(
            tokens=seen,
            sampled=len(text.sampled),
            trained=len(kept),
            seconds=seconds,
            weights=zeros,
            sparsity=zeros["zeros"] / max(1, zeros["of"]),
        )
        update_metrics(writer.path, metrics)
        if zeros["rounded"] > 0:
            fact(Note(f"{zeros['rounded']:,} kept weights are so small that the type of the files makes them zero."))
        fact(Finished(metrics["sparsity"], seconds))
        return writer.finish()


def _train(writer: RecoveryWriter, training: Training, report: _Report, fact: FactListener) -> None:
    """Train; the state is on disk from time to time, and where it is stopped."""
    saved = time.monotonic()

    def tell() -> None:
        nonlocal saved
        course = training.course
        last = course.curve[-1]
        planned = f" of about {course.planned:,}" if course.done < course.planned < 10_000 else ""
        what = f"Step {course.done:,}{planned}: held-out perplexity {last['perplexity']:.4g}"
        left = training.seconds_left
        report(Progress(what, course.position, 1.0, None if left is None else round(left, 1)), always=False)
        if time.monotonic() - saved > SAVE_SECONDS:
            writer.write_state(training)
            saved = time.monotonic()

    def measured(now: HeldOut, best: bool) -> None:
        update_metrics(writer.path, _metrics(training))
        fact(events.Measured(now["step"], now["seconds"], now["divergence"], now["perplexity"], best))

    try:
        with memory_errors_named(
            "memory filled up while the model was trained; resume it when more is free, or recover again with shorter "
            "windows (--length) or fewer of them in a step (--batch)"
        ):
            training.run(tell, measured, lambda text: fact(Note(text)))
    except BaseException:
        if training.consistent and training.course.curve:
            training.spend()
            with contextlib.suppress(RunError):
                writer.write_state(training)
        raise


def _metrics(training: Training) -> RecoveryMetrics:
    course = training.course
    return RecoveryMetrics(
        curve=course.curve,
        best=course.best,
        steps=course.done,
        restarts=course.restarts,
        training_seconds=course.seconds,
    )


def _sampled(
    text: RecoveryText, dense: Model, request: RecoverSettings, report: _Report
) -> RecoveryText:
    """Let the dense model write windows: for a share of the minutes, or as many as the steps read, up to `windows`."""
    length = text.training.shape[1]
    at_once = pieces_at_once(dense, length)
    wanted = None
    if request.steps is not None:
        asked = round((request.sampled or 0.0) * request.steps * (request.batch or 1))
        wanted = max(1, min(asked, request.windows))
    limit = 60 * request.minutes * SAMPLING_SHARE
    begin = time.monotonic()
    found: list[Tensor] = []
    while True:
        count, spent = sum(map(len, found)), time.monotonic() - begin
        # A further round takes as long as those before.
        done = min(spent * (1 + 1 / max(1, len(found))) / limit, 1.0) if wanted is None else count / wanted
        if done >= 1 and found:
            return dataclasses.replace(text, sampled=torch.cat(found)[:wanted])
        report(Progress(f"The dense model writes: {count:,} windows so far", done, 1.0))
        found.append(sample_windows(dense, text.training, at_once, request.seed * 100_003 + len(found)))


@contextlib.contextmanager
def _ready(dense: Model, student: Model, plan: Plan, device: torch.device) -> Iterator[None]:
    """Prepare both models: fused kernels on a GPU, and blocks that are computed again where memory asks for it."""
    with contextlib.ExitStack() as stack:
        for model in (dense, student):
            for block in model.blocks:
                stack.enter_context(fused(block, device))
        if plan.checkpointing:
            stack.enter_context(recomputed(student.blocks))
        yield


@contextlib.contextmanager
def _report_end(fact: FactListener) -> Iterator[None]:
    """Report in the last line of the log that a recovery was stopped, and by what."""
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(RunError):
            fact(Stopped(type(error).__name__))
        raise
