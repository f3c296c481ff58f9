"""Carry out a recovery whose folder exists: load both models, sample text, train, and write the result."""

import contextlib
import dataclasses
import functools
import shutil
import time
from collections.abc import Iterable, Iterator

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from trim.devices import choose_device, fixed_threads, memory_errors_named
from trim.errors import RunError
from trim.models.fusion import fused
from trim.models.loaded import Model
from trim.models.replaced import replaced
from trim.models.towers import auto_class
from trim.progress import Progress, ProgressListener
from trim.pruning.events import Finished, Note, end_reported, logged
from trim.recovery import events
from trim.recovery.events import FactListener, Listener
from trim.recovery.folder import RecoveryWriter
from trim.recovery.kept import KeptWeights
from trim.recovery.memory import MemoryPlan
from trim.recovery.pair import ModelPair, recovery_dtype
from trim.recovery.result import model_card, write_model, write_moved
from trim.recovery.sampling import sample_text
from trim.recovery.text import RecoveryText
from trim.recovery.training import UNKNOWN_STEPS, ResolvedSettings, Training
from trim.runs.recover_settings import RecoverSettings
from trim.runs.recovery import HeldOut, Recovery, RecoveryMetrics
from trim.runs.writer import update_metrics

SAMPLING_SHARE = 0.15  # the share of the minutes in which the dense model writes text
SAVE_SECONDS = 60.0  # between two saved states
_REPORT_EVERY_SECONDS = 1.0


def run_recovery(
    writer: RecoveryWriter,
    pair: ModelPair,
    plan: MemoryPlan,
    begin: float,
    progress: ProgressListener | None,
    listener: FactListener | None,
) -> Recovery:
    """Load both models, sample text from the dense one, train, and write the result.

    `begin`: the value of `time.perf_counter` when the recovery was requested.
    """
    recovery = writer.recovery
    record, request = recovery.record, recovery.record.request
    resolved = ResolvedSettings.from_request(request)
    device = choose_device(request.device)
    dtype = recovery_dtype(request.dtype, device)
    emit: Listener = logged(writer, progress, listener)
    with fixed_threads(record.compute.threads or torch.get_num_threads()), end_reported(emit):
        emit(
            events.Began(
                pair.sizes.trained,
                resolved.batch,
                plan.windows,
                plan.checkpointing,
                plan.bytes,
                writer.has_state,
            )
        )
        emit(Progress("Loading both models"))
        dense, student = pair.load(device, dtype, progress)
        kept = _trained_weights(student, pair.trained, dtype)
        before = kept.values.to("cpu", copy=True)
        size = kept.typical_size()
        state, best = writer.read_state(kept)
        earlier = state.seconds
        text = writer.read_text()
        with _ready(dense, student, plan, device):
            sampling_begin = time.monotonic()
            if resolved.sampled and not len(text.sampled):
                text = _with_sampled(text, dense, request, resolved, emit)
                writer.write_text(text)
            if request.steps is not None:
                state.planned = request.steps
            state.seconds += time.monotonic() - sampling_begin
            training = Training(
                dense, student, kept, text, state, request, size=size, in_one_pass=plan.windows
            )
            if best is not None:
                training.best.copy_(best)
            with _state_saved(writer, training):
                _train(writer, training, emit)
        state = training.state
        seen = state.done * resolved.batch * resolved.length
        emit(Progress("Writing the recovered model"))
        with _state_saved(writer, training):
            write_moved(writer.path, student, kept, before, training.best)
            # A process that was killed later may have left one.
            shutil.rmtree(recovery.model, ignore_errors=True)
            loads = auto_class(student.module.config).__name__
            card = model_card(recovery, state.done, seen, len(kept), loads)
            zeros = write_model(recovery.model, pair, kept, before, training.best, card, progress)
            seconds = earlier + time.perf_counter() - begin
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
            emit(
                Note(
                    f"{zeros['rounded']:,} kept weights are so small that the type of the files makes them zero."
                )
            )
        emit(Finished(metrics["sparsity"], seconds))
        return writer.finish()


def _trained_weights(student: Model, names: Iterable[str], dtype: torch.dtype) -> KeptWeights:
    """Return the weights to train, in float32, and convert the student to the type of its forward passes."""
    named = dict(student.module.named_parameters())
    kept = KeptWeights((name, named[name]) for name in names)
    for parameter in student.module.parameters():
        parameter.data = parameter.data.to(dtype).contiguous()  # experts' weights may be views
    kept.collect_gradients()
    kept.write(kept.values)
    return kept


def _with_sampled(
    text: RecoveryText,
    dense: Model,
    request: RecoverSettings,
    resolved: ResolvedSettings,
    report: ProgressListener,
) -> RecoveryText:
    """Return the text with windows of the dense model: as many as the steps read, or as the time allows."""
    wanted = None
    if request.steps is not None:
        needed = round(resolved.sampled * request.steps * resolved.batch)
        wanted = max(1, min(needed, request.windows))
    seconds = 60 * request.minutes * SAMPLING_SHARE
    sampled = sample_text(dense, text.training, wanted, seconds, request.seed, report)
    return dataclasses.replace(text, sampled=sampled)


def _train(writer: RecoveryWriter, training: Training, emit: Listener) -> None:
    """Train, report the progress, and save the state every `SAVE_SECONDS`."""
    saved, reported = time.monotonic(), 0.0

    def after_step() -> None:
        nonlocal saved, reported
        state = training.state
        last = state.curve[-1]
        planned = f" of about {state.planned:,}" if state.done < state.planned < UNKNOWN_STEPS else ""
        what = f"Step {state.done:,}{planned}: held-out perplexity {last['perplexity']:.4g}"
        left = training.seconds_left
        if time.monotonic() - reported > _REPORT_EVERY_SECONDS:
            emit(Progress(what, state.position, 1.0, None if left is None else round(left, 1)))
            reported = time.monotonic()
        if time.monotonic() - saved > SAVE_SECONDS:
            writer.write_state(training)
            saved = time.monotonic()

    def measured(now: HeldOut, best: bool) -> None:
        update_metrics(writer.path, _metrics(training))
        emit(events.Measured(now["step"], now["seconds"], now["divergence"], now["perplexity"], best))

    with memory_errors_named(
        "memory filled up while the model was trained; resume it when more is free, or recover again with shorter "
        "windows (--length) or fewer of them in a step (--batch)"
    ):
        training.run(after_step, measured, lambda text: emit(Note(text)))


@contextlib.contextmanager
def _state_saved(writer: RecoveryWriter, training: Training) -> Iterator[None]:
    """Write the state of the training if it, or the writing of its result, is stopped."""
    try:
        yield
    except BaseException:
        if training.consistent and training.state.curve:
            with contextlib.suppress(RunError):
                writer.write_state(training)
        raise


def _metrics(training: Training) -> RecoveryMetrics:
    state = training.state
    return RecoveryMetrics(
        curve=state.curve,
        best=state.best,
        steps=state.done,
        restarts=state.restarts,
        training_seconds=state.seconds,
    )


@contextlib.contextmanager
def _ready(dense: Model, student: Model, plan: MemoryPlan, device: torch.device) -> Iterator[None]:
    """Prepare both models: fused kernels on a GPU, and blocks that are computed again if memory is short."""
    with contextlib.ExitStack() as stack:
        for model in (dense, student):
            for block in model.blocks:
                stack.enter_context(fused(block, device))
        if plan.checkpointing:
            stack.enter_context(recomputed(student.blocks))
        yield


@contextlib.contextmanager
def recomputed(blocks: Iterable[nn.Module]) -> Iterator[None]:
    """Compute blocks again in the backward pass inside the `with` block: memory holds only their inputs."""
    with contextlib.ExitStack() as stack:
        for block in blocks:
            again = functools.partial(
                checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False
            )
            stack.enter_context(replaced(block, "forward", again))
        yield
