"""Prune a whole model into a run folder, and resume a run that was stopped."""

import contextlib
import dataclasses
import time
from pathlib import Path

import numpy
import torch
from torch import Tensor

from trim.calibration.inputs import MIN_TOKENS
from trim.calibration.text_pass import DensePass, default_batch
from trim.checksums import ByteListener, checksums, sha256_of_file
from trim.devices import fixed_threads
from trim.errors import RunError
from trim.methods.budgets import Budgets
from trim.methods.choices import BUDGETS
from trim.methods.pattern import Pattern
from trim.models.experts import experts_width
from trim.models.structure import find_structure
from trim.names import CORPORA, MODELS, absolute
from trim.progress import ProgressListener
from trim.pruning.events import Began, FactListener, Finished, Listener, end_reported, logged
from trim.pruning.layer import Method
from trim.pruning.loop import prune_blocks
from trim.pruning.plan import chosen_layers, plan_budgets
from trim.pruning.plan_inputs import PlanInputs
from trim.pruning.plan_optimal import SENSITIVITY_FILE, load_sensitivity, plan_sensitivity, save_sensitivity
from trim.pruning.source import TEXT_FILE, RunSource, read_text, require_same, write_text
from trim.runs.folder import Run, open_run
from trim.runs.json_files import unreadable
from trim.runs.options import make_settings
from trim.runs.places import require_free
from trim.runs.settings import PruneSettings
from trim.runs.writer import RunWriter


def prune(
    model: str | Path,
    out: str | Path,
    settings: PruneSettings | None = None,
    *,
    tokens: Tensor | None = None,
    mask: Tensor | None = None,
    tokens_of_corpus: bool = False,
    name: str = "",
    activation_bytes: int | None = None,
    progress: ProgressListener | None = None,
    listener: FactListener | None = None,
    **changes: object,
) -> Run:
    """Prune a whole model; weights are read block by block, and the result is a run folder with its masks.

        settings = trim.PruneSettings(target=0.7, windows=16, length=256)
        run = trim.prune("demo", "runs/first", settings)

    In a notebook options can be given by name, alone or as changes to `settings`:

        run = trim.prune("demo", "runs/first", target=0.7, windows=16, length=256)

    Args:
        model: a source for `load_model`.
        out: the run folder; must be empty or missing.
        settings: every option; `model` replaces their own model.
        tokens: (windows, length) int64, a calibration text of your own instead of `corpus`.
        mask: (windows, length) bool, False where `tokens` are padding.
        tokens_of_corpus: whether `tokens` were read from `corpus` before, because several runs share them.
        name: the run's title.
        activation_bytes: the most memory that hidden states may take; None: a share of the free memory. Does not change
            the result.
        progress: called at each step.
        listener: receives events (`trim.pruning.events`): each layer, each block, notes.
        changes: options by their names in `PruneSettings`: target, allocation, budget, score, windows, …

    Raises:
        SettingsError: an option has a wrong value, or options contradict each other.
        ModelError, CorpusError: the model or text cannot be read.
        RunError: the folder is not empty, or cannot be written.
        NonFiniteError: NaN or infinity in a layer; the message names it.
        NotEnoughMemoryError: memory does not suffice, with advice.
    """
    chosen = make_settings(
        PruneSettings,
        ({} if settings is None else vars(settings)) | changes | {"model": absolute(model, MODELS)},
    )
    # Paths are absolute, so that a run can be resumed from any folder.
    chosen = dataclasses.replace(
        chosen, corpus=absolute(chosen.corpus, CORPORA), budget=absolute(chosen.budget, BUDGETS)
    )
    if tokens is not None and tokens.ndim == 2:
        chosen = dataclasses.replace(chosen, windows=tokens.shape[0], length=tokens.shape[1])
    require_free(Path(out), chosen.to_json())
    source = RunSource.open(chosen, tokens, mask, progress)
    batch = chosen.batch or default_batch(
        source.calibration, source.model.device, experts_width=experts_width(source.model.blocks)
    )
    given = tokens is not None and not tokens_of_corpus
    record = source.record(min(batch, source.calibration.windows), torch.get_num_threads(), given=given)
    blocks = find_structure(source.model.blocks)
    with RunWriter.create(
        out, record.to_json(), name=name or chosen.name, heads=source.heads, structure=blocks
    ) as writer:
        write_text(writer.path / TEXT_FILE, source.calibration)
        writer.write_model_files(source.model.files.checksums(progress))
        return _complete(writer, source, activation_bytes, progress, listener)


def resume(
    path: str | Path,
    *,
    tokens: Tensor | None = None,
    mask: Tensor | None = None,
    activation_bytes: int | None = None,
    repair: bool = False,
    progress: ProgressListener | None = None,
    listener: FactListener | None = None,
) -> Run:
    """Resume a run that was stopped; it ends bit for bit as if it had not been.

    Args:
        path: the run folder.
        tokens: the text that `prune` was given as tokens; only needed to repair a complete run.
        mask: the mask of that text.
        activation_bytes: as for `prune`.
        repair: make damaged blocks again, and all later ones.
        progress: called at each step.
        listener: as for `prune`.

    Raises:
        RunError: the folder is not a run, or the model, the text, the device or a version changed since it began.
        The errors of `prune`.
    """
    run = open_run(path)
    if run.kind != "model":
        raise RunError(f"{path} contains single layers from the app; there is nothing to resume")
    with RunWriter.reopen(path) as writer:
        damaged = _damaged_blocks(open_run(path), progress)
        if damaged and not repair:
            open_run(path).block(damaged[0])  # raises a more precise error if the file was cut short
            raise RunError(
                f"{writer.path / run.manifest['blocks'][str(damaged[0])]['file']} is damaged: its content has changed. "
                f"To make it again: python -m trim resume {path} --repair"
            )
        if damaged:
            writer.drop_blocks(index for index in run.blocks if index >= damaged[0])
        run = open_run(path)
        if run.complete:
            return run
        if tokens is None:
            tokens, mask = read_text(run.path / TEXT_FILE)
        if tokens is None and run.text.given:
            raise RunError(
                f"{path} began with tokens of your own; give them again: trim.resume({str(path)!r}, tokens=…)"
            )
        source = RunSource.open(run.request, tokens, mask, progress)
        require_same(path, run.record, source.record(*_batch_and_threads(run), given=run.text.given))
        before, now = run.manifest.get("model_files"), source.model.files.checksums(progress)
        if before is None and not run.blocks:  # the run was killed before it recorded them
            writer.write_model_files(now)
        elif before is not None and before != now:
            raise RunError(
                f"{path} cannot be resumed: the weights in {source.model.folder} have changed since the run began. Put "
                "them back, or prune again into another folder"
            )
        return _complete(writer, source, activation_bytes, progress, listener)


def _complete(
    writer: RunWriter,
    source: RunSource,
    activation_bytes: int | None,
    progress: ProgressListener | None,
    listener: FactListener | None,
) -> Run:
    """Plan the budgets, prune the missing blocks, and write the totals."""
    begin = time.perf_counter()
    run = open_run(writer.path)
    batch, threads = _batch_and_threads(run)
    emit: Listener = logged(writer, progress, listener)
    with fixed_threads(threads), torch.inference_mode(), end_reported(emit):
        shapes = chosen_layers(source.settings.layers, source.model)
        settings = source.settings
        plan_inputs = PlanInputs(
            source.model, source.calibration, settings, shapes, batch, writer.path, activation_bytes, emit
        )
        sensitivity, budgets = _plan(run, writer, plan_inputs)
        with contextlib.ExitStack() as stack:
            if settings.needs_dense_pass and activation_bytes is not None:
                # Two passes share the memory.
                plan_inputs = dataclasses.replace(plan_inputs, activation_bytes=activation_bytes // 2)
            text = stack.enter_context(plan_inputs.text())
            dense = None
            if settings.needs_dense_pass:
                dense = DensePass(stack.enter_context(plan_inputs.text(alongside=text)))
            emit(
                Began(
                    len(source.model.blocks),
                    len(budgets.totals),
                    len(run.blocks),
                    source.calibration.real_tokens,
                    text.batch,
                    text.states.storage,
                )
            )
            method = Method(
                settings.allocation,
                settings.score,
                Pattern.parse(settings.pattern) if settings.pattern else None,
                settings.layer_quality,
                settings.search_settings,
                settings.refit,
                settings.tune,
                sensitivity,
            )
            prune_blocks(
                text,
                budgets,
                method,
                writer,
                run,
                recalculate=settings.recalculation if settings.recalculate_inputs else None,
                dense=dense,
                listener=emit,
            )
        metrics = _metrics(open_run(writer.path), budgets, time.perf_counter() - begin)
        for name in (TEXT_FILE, SENSITIVITY_FILE):
            (writer.path / name).unlink(missing_ok=True)
        emit(Finished(metrics["sparsity"]["realised"], metrics["seconds"]))
        return writer.finish(metrics)


def _plan(run: Run, writer: RunWriter, plan_inputs: PlanInputs) -> tuple[dict[str, Tensor] | None, Budgets]:
    """Return the sensitivities (None: not needed) and budgets with which the run began, or plan them."""
    sensitivity = load_sensitivity(writer.path / SENSITIVITY_FILE)
    if sensitivity is None and plan_inputs.settings.needs_sensitivity:
        sensitivity = plan_sensitivity(plan_inputs)
        save_sensitivity(writer.path / SENSITIVITY_FILE, sensitivity)
    budgets = _saved_budgets(run, plan_inputs.shapes)
    if budgets is None:
        budgets = plan_budgets(plan_inputs, sensitivity)
        writer.write_budgets(budgets.to_json())
    return sensitivity, budgets


def _batch_and_threads(run: Run) -> tuple[int, int]:
    """Return the windows in one forward pass and the CPU threads with which a run of a whole model began.

    Raises:
        RunError: config.json lacks them.
    """
    if run.compute.batch is None or run.compute.threads is None:
        raise RunError(
            f"{run.path / 'config.json'} is damaged: it lacks the batch or the threads of the run; prune again into "
            "another folder"
        )
    return run.compute.batch, run.compute.threads


def _saved_budgets(run: Run, shapes: dict[str, tuple[int, int]]) -> Budgets | None:
    """Return the budgets with which the run began, exact to the weight; None: they were not saved yet."""
    if not run.budgets:
        return None
    try:
        return Budgets(
            run.budgets["method"],
            {name: run.budgets["totals"][name] for name in shapes},
            shapes,
            run.budgets["requested"],
            tuple(run.budgets["clipped"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(
            f"{run.path / 'budgets.json'} is damaged ({error}); prune again into another folder"
        ) from error


def _metrics(run: Run, budgets: Budgets, seconds: float) -> dict:
    """Return the totals of a finished run, as `metrics.json` holds them."""
    layers = {name: run.numbers(name) for name in run.layers}
    target = run.request.target_sparsity
    weights = sum(numbers["rows"] * numbers["columns"] for numbers in layers.values())
    pruned = sum(int(run.array(name, "counts").sum(dtype=numpy.int64)) for name in layers)
    tokens = [numbers["tokens"] for numbers in layers.values() if "tokens" in numbers]  # of experts' layers
    experts = {
        "layers": len(tokens),
        "fewest_tokens": min(tokens, default=0),
        "most_tokens": max(tokens, default=0),
        "too_few_tokens": sum(number < MIN_TOKENS for number in tokens),
    }
    return {
        "sparsity": {
            "requested": budgets.requested_sparsity if target is None else target,
            "realised": pruned / weights,
        },
        "weights": {"pruned": pruned, "of": weights},
        "clipped_budgets": len(budgets.clipped),
        **({"experts": experts} if tokens else {}),
        "seconds": run.metrics.get("seconds", 0) + seconds,
    }


def _damaged_blocks(run: Run, progress: ProgressListener | None) -> list[int]:
    """Find the blocks whose file is missing or does not have the checksum of the manifest."""
    entries = [run.manifest["blocks"][str(index)] for index in run.blocks]
    files = [run.path / entry["file"] for entry in entries]
    found = checksums(files, _sha256_if_readable, "Checking the blocks that are done", progress)
    return [
        index
        for index, entry, sha256 in zip(run.blocks, entries, found, strict=True)
        if sha256 != entry.get("sha256")
    ]


def _sha256_if_readable(path: Path, read: ByteListener) -> str | None:
    try:
        return sha256_of_file(path, read)
    except PermissionError as error:
        raise unreadable(path, error) from error
    except OSError:
        return None
