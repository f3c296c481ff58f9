"""Recover a pruned model: train its kept weights towards the dense model's predictions; zeros stay zero."""

import dataclasses
import time
from pathlib import Path

import torch
from torch import Tensor

from trim.cache import text_sha256
from trim.calibration.corpora import check_length, load_corpus, require_text
from trim.devices import choose_device, dtype_name
from trim.errors import CorpusError, RunError
from trim.models.checkpoint import load_tokenizer, read_config
from trim.names import CORPORA, absolute
from trim.progress import ProgressListener
from trim.pruning.source import corpus_windows
from trim.recovery.events import FactListener
from trim.recovery.folder import RecoveryWriter, has_leftovers, require_free
from trim.recovery.memory import plan_memory
from trim.recovery.pair import ModelPair, open_pair, recovery_dtype
from trim.recovery.run import run_recovery
from trim.recovery.text import RecoveryText
from trim.recovery.training import ResolvedSettings
from trim.runs.facts import compute_facts, versions
from trim.runs.folder import is_run
from trim.runs.listing import free_path, new_run_path, runs_folder
from trim.runs.options import make_settings
from trim.runs.recover_settings import RecoverSettings
from trim.runs.recovery import Recovery, RecoveryRecord, RecoveryTextFacts, open_recovery
from trim.runs.run_record import ModelFacts

STEP_TOKENS = {"cpu": 512, "cuda": 8192}
SAMPLED = {"cpu": 0.0, "cuda": 0.5}
LENGTH = 1024


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
    """Train a pruned model towards the predictions of its dense parent; its zeros stay.

        recovered = trim.recover("runs/first", minutes=5)
        trim.evaluate(recovered.path)

    Args:
        sparse: a run, or a pruned checkpoint (a source for `load_model`).
        out: the new folder; None: next to the run, with "-recovered" after its name.
        settings: every option.
        parent: the dense model, which a checkpoint needs; None: that of the run.
        tokens: (windows, length) int64, a text of your own instead of `corpus`.
        name: the recovery's title.
        progress: called at each step.
        listener: receives events (`trim.recovery.events`).
        changes: options by their names in `RecoverSettings`: minutes, steps, corpus, …

    Raises:
        SettingsError: invalid settings, no parent, or too few zeros in the checkpoint.
        RunError: the run is not complete or pruned another model, or the folder is not empty.
        ModelError: a model cannot be read, or one was not made from the other.
        CorpusError: the text is too short for held-out windows.
        NotEnoughMemoryError: a single window does not fit.
        NonFiniteError: the pruned or the dense model computes NaN.
    """
    begin = time.perf_counter()
    chosen = make_settings(RecoverSettings, ({} if settings is None else vars(settings)) | changes)
    path = default_path(sparse) if out is None else Path(out)
    require_free(path)
    if tokens is None and chosen.corpus is not None:
        require_text(chosen.corpus)
    device = choose_device(chosen.device)
    dtype = recovery_dtype(chosen.dtype, device)
    pair = open_pair(sparse, parent, dtype, progress)
    chosen = _resolved(chosen, pair, device, dtype, tokens)
    resolved = ResolvedSettings.from_request(chosen)
    plan = plan_memory(pair.sizes, resolved.batch, resolved.length, device)
    windows = tokens
    if windows is None:
        windows = load_corpus(
            resolved.corpus,
            load_tokenizer(pair.files.folder),
            windows=chosen.windows,
            length=resolved.length,
            seed=chosen.seed,
            bos=pair.run.request.bos if pair.run else True,
            progress=progress,
        )
    text = RecoveryText.split(windows, device, calibration_windows(resolved.corpus, pair, progress))
    facts = RecoveryTextFacts(
        resolved.corpus, text_sha256(windows), resolved.length, len(text.training), len(text.held_out)
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
    title = name or f"{pair.title}, recovered"
    with RecoveryWriter.create(path, record, text, title) as writer:
        return run_recovery(writer, pair, plan, begin, progress, listener)


def resume_recovery(
    path: str | Path,
    *,
    progress: ProgressListener | None = None,
    listener: FactListener | None = None,
) -> Recovery:
    """Resume a recovery that was stopped; on a CPU, with `steps` set, it ends as an uninterrupted one.

    Raises:
        RunError: a model, the device or a library has changed since it began.
        The errors of `recover`.
    """
    begin = time.perf_counter()
    recovery = open_recovery(path)
    if recovery.complete and not has_leftovers(recovery.path):
        return recovery
    record = recovery.record
    with RecoveryWriter(recovery.path) as writer:
        if recovery.complete:
            return writer.finish()
        device = choose_device(record.request.device)
        dtype = recovery_dtype(record.request.dtype, device)
        pair = open_pair(record.sparse, record.parent, dtype, progress)
        _require_same(recovery, pair, device, dtype)
        resolved = ResolvedSettings.from_request(record.request)
        plan = plan_memory(pair.sizes, resolved.batch, resolved.length, device)
        plan = dataclasses.replace(plan, windows=record.compute.batch or plan.windows)
        return run_recovery(writer, pair, plan, begin, progress, listener)


def _require_same(recovery: Recovery, pair: ModelPair, device: torch.device, dtype: torch.dtype) -> None:
    """Require that everything that decides the result is as it was when the recovery began."""
    record = recovery.record
    now = compute_facts(device, dtype, record.compute.batch, record.compute.threads)
    changed = {
        "the pruned model": (record.pruned.weights, record.run)
        != (pair.sparse_weights, pair.run.fingerprint if pair.run else None),
        "the dense model": record.dense.weights != pair.dense_weights,
        "the device or the type": record.compute != now,
        "a library": record.versions != versions(),
    }
    if other := [what for what, is_other in changed.items() if is_other]:
        raise RunError(
            f"{recovery.path} cannot be resumed: {' and '.join(other)} changed since it began. Restore it, or recover "
            "again into another folder"
        )


def _resolved(
    chosen: RecoverSettings, pair: ModelPair, device: torch.device, dtype: torch.dtype, tokens: Tensor | None
) -> RecoverSettings:
    """Fill in the settings whose defaults depend on the pruned model and the device.

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
    check_length(pair.parent_title, longest, length)
    return dataclasses.replace(
        chosen,
        corpus=absolute(corpus, CORPORA),
        length=length,
        batch=chosen.batch or max(1, STEP_TOKENS[kind] // length),
        sampled=SAMPLED[kind] if chosen.sampled is None else chosen.sampled,
        device=str(device),
        dtype=dtype_name(dtype),
    )


def calibration_windows(corpus: str, pair: ModelPair, progress: ProgressListener | None) -> Tensor | None:
    """Draw the calibration windows of the run again, if they come from the same text; None: they do not."""
    if pair.run is None or pair.run.text.given or absolute(pair.run.request.corpus, CORPORA) != corpus:
        return None
    return corpus_windows(pair.run.request, load_tokenizer(pair.files.folder), progress)


def default_path(sparse: str | Path) -> Path:
    """Return the folder of a new recovery: next to the run, or to its sweep, with "-recovered" after its name.

    For a checkpoint it is a new folder in `runs`.
    """
    if not is_run(sparse):
        return new_run_path(runs_folder(), f"{Path(sparse).name} recovered")
    run = Path(sparse).resolve()
    folder, name = run.parent, run.name
    if (folder.parent / "sweep.json").is_file():  # a sweep's folder holds only its cells
        folder, name = folder.parents[1], f"{folder.parent.name}-{name}"
    return free_path(folder / f"{name}-recovered")
