"""Recoveries in the store: list them, describe them in the table of runs, delete them like runs."""

from collections.abc import Sequence
from pathlib import Path

from app.services.runs.facts import (
    RunFacts,
    State,
    folder_bytes,
    is_being_written,
    last_perplexities,
    perplexity_on,
)
from app.services.runs.store import StoredRun, changed
from app.services.server.lru import SharedCache
from diagnostics.figures.perplexity import PerplexityBar
from trim.names import RECOVERY_FILE
from trim.runs.folder import Run
from trim.runs.listing import FolderEntry, runs_folder
from trim.runs.recovery import Recovery, list_recoveries

_READ = (RECOVERY_FILE, "metrics.json", "notes.json", "moved.safetensors", "model/config.json")
RECOVERY_CACHE_SIZE = 256
_cache: SharedCache[tuple, FolderEntry[Recovery]] = SharedCache(RECOVERY_CACHE_SIZE)


def recoveries(folder: Path | None = None) -> list[FolderEntry[Recovery]]:
    """List all recoveries, newest first; until a file of one changes, all readers get the same object.

    Beyond `RECOVERY_CACHE_SIZE` recoveries each reader gets its own.
    """
    return list(map(_cached, list_recoveries(folder or runs_folder())))


def _cached(entry: FolderEntry[Recovery]) -> FolderEntry[Recovery]:
    stamp = (entry.path, *(changed(f"{entry.path}/{name}") for name in _READ))
    return _cache.get(stamp, lambda: entry)


def recoveries_of(run: Run) -> list[Recovery]:
    """List the recoveries of a run, newest first."""
    return [
        entry.opened
        for entry in recoveries()
        if entry.opened is not None and entry.opened.record.run == run.fingerprint
    ]


def recovery_facts(entry: FolderEntry[Recovery]) -> RunFacts:
    """Return the line of a recovery in the table of runs."""
    size, recovery = folder_bytes(entry.path), entry.opened
    if recovery is None:
        name, problem = entry.path.name, entry.problem or ""
        return RunFacts(name, name, "damaged", size, kind="recovery", problem=problem)
    metrics, record = recovery.metrics, recovery.record
    perplexity, dense = last_perplexities(metrics)
    state: State = "complete" if recovery.complete else "unfinished"
    if state == "unfinished" and is_being_written(entry.path):
        state = "being written"
    return RunFacts(
        id=recovery.id,
        name=recovery.name,
        note=recovery.notes["note"],
        kind="recovery",
        model=record.dense.title,
        allocation=f"{record.pruned.title}, trained",
        score=f"{metrics.get('training_seconds', 0) / 60:.3g} min",
        sparsity=metrics.get("sparsity"),
        perplexity=perplexity,
        dense_perplexity=dense,
        created=recovery.created,
        state=state,
        size_bytes=size,
    )


def recovered_bars(found: Sequence[Recovery], tokens_sha256: str) -> list[PerplexityBar]:
    """Return a bar of the perplexity figure for each recovery that was measured on these tokens."""
    pairs = [(each.name, perplexity_on(each.metrics.get("perplexities"), tokens_sha256)) for each in found]
    return [PerplexityBar(name, "recovered", value) for name, value in pairs if value is not None]


def as_stored(entry: FolderEntry[Recovery]) -> StoredRun:
    """Return a recovery as a stored run, for the operations on folders."""
    return StoredRun(entry.path.name, entry.path, False, None, entry.problem)
