"""The work of a recovery that has begun: load both models, let the dense one write, train, write the result."""

import contextlib
import dataclasses
import functools
import shutil
import time
from collections.abc import Iterable, Iterator

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from trim.calibration.text_pass import fixed_threads
from trim.devices import choose_device, memory_errors_named
from trim.errors import RunError
from trim.models.fusion import fused
from trim.models.loaded import Model
from trim.models.replaced import replaced
from trim.progress import Progress, ProgressListener
from trim.pruning.events import Finished, Note, end_reported, to_json
from trim.recovery import events
from trim.recovery.events import FactListener
from trim.recovery.folder import RecoveryWriter
from trim.recovery.kept import KeptWeights
from trim.recovery.memory import Plan
from trim.recovery.pair import Pair, recovery_dtype
from trim.recovery.result import model_card, write_model, write_moved
from trim.recovery.sampling import sample_text
from trim.recovery.training import UNKNOWN_STEPS, Settled, Training
from trim.runs.recovery import HeldOut, Recovery, RecoveryMetrics
from trim.runs.writer import update_metrics

SAMPLING_SHARE = 0.15  # of the minutes
SAVE_SECONDS = 60.0
_TELL_SECONDS = 1.0


def work(
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
    settled = Settled.of(request)
    device = choose_device(request.device)
    dtype = recovery_dtype(request.dtype, device)

    def fact(event: events.Fact) -> None:
        writer.log(to_json(event))
        if listener:
            listener(event)

    def report(now: Progress) -> None:
        writer.log(to_json(now))
        if progress:
            progress(now)

    with fixed_threads(record.compute.threads or torch.get_num_threads()), end_reported(fact):
        fact(
            events.Began(
                pair.sizes.trained,
                settled.batch,
                plan.windows,
                plan.checkpointing,
                plan.bytes,
                writer.has_state,
            )
        )
        report(Progress("Loading both models"))
        dense, student = pair.load(device, dtype, progress)
        named = dict(student.module.named_parameters())
        kept = KeptWeights((name, named[name]) for name in pair.trained)
        for parameter in student.module.parameters():
            parameter.data = parameter.data.to(dtype).contiguous()  # those of experts may be views
        kept.begin()
        before = kept.values.to("cpu", copy=True)
        size = kept.typical_size()
        kept.write(kept.values)
        course, best = writer.read_state(kept)
        earlier = course.seconds
        text = writer.read_text()
        with _ready(dense, student, plan, device):
            began = time.monotonic()
            if settled.sampled and not len(text.sampled):
                wanted = None
                if request.steps is not None:
                    wanted = max(
                        1, min(round(settled.sampled * request.steps * settled.batch), request.windows)
                    )
                sampled = sample_text(
                    dense,
                    text.training,
                    wanted,
                    60 * request.minutes * SAMPLING_SHARE,
                    request.seed,
                    report,
                )
                text = dataclasses.replace(text, sampled=sampled)
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
                request,
                size=size,
                in_one_pass=plan.windows,
            )
            if best is not None:
                training.best.copy_(best)
            with _state_saved(writer, training):
                _train(writer, training, report, fact)
        course = training.course
        seen = course.done * settled.batch * settled.length
        report(Progress("Writing the recovered model"))
        with _state_saved(writer, training):
            write_moved(writer.path, student, kept, before, training.best)
            shutil.rmtree(recovery.model, ignore_errors=True)  # of a process that was killed right after it
            card = model_card(recovery, course.done, seen, len(kept))
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
            fact(
                Note(
                    f"{zeros['rounded']:,} kept weights are so small that the type of the files makes them zero."
                )
            )
        fact(Finished(metrics["sparsity"], seconds))
        return writer.finish()


def _train(writer: RecoveryWriter, training: Training, report: ProgressListener, fact: FactListener) -> None:
    """Train; the state is on disk from time to time."""
    saved, reported = time.monotonic(), 0.0

    def tell() -> None:
        nonlocal saved, reported
        course = training.course
        last = course.curve[-1]
        planned = f" of about {course.planned:,}" if course.done < course.planned < UNKNOWN_STEPS else ""
        what = f"Step {course.done:,}{planned}: held-out perplexity {last['perplexity']:.4g}"
        left = training.seconds_left
        if time.monotonic() - reported > _TELL_SECONDS:
            report(Progress(what, course.position, 1.0, None if left is None else round(left, 1)))
            reported = time.monotonic()
        if time.monotonic() - saved > SAVE_SECONDS:
            writer.write_state(training)
            saved = time.monotonic()

    def measured(now: HeldOut, best: bool) -> None:
        update_metrics(writer.path, _metrics(training))
        fact(events.Measured(now["step"], now["seconds"], now["divergence"], now["perplexity"], best))

    with memory_errors_named(
        "memory filled up while the model was trained; resume it when more is free, or recover again with shorter "
        "windows (--length) or fewer of them in a step (--batch)"
    ):
        training.run(tell, measured, lambda text: fact(Note(text)))


@contextlib.contextmanager
def _state_saved(writer: RecoveryWriter, training: Training) -> Iterator[None]:
    """Write the state of the training if it, or the writing of its result, is stopped."""
    try:
        yield
    except BaseException:
        if training.consistent and training.course.curve:
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


@contextlib.contextmanager
def _ready(dense: Model, student: Model, plan: Plan, device: torch.device) -> Iterator[None]:
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
