"""A run in one line of a table: what it is, how it was made, how it went. Nothing here raises for a bad run."""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

from app.services.runs.store import StoredRun
from trim.runs.folder import Run

State = Literal["complete", "unfinished", "being written", "damaged"]


@dataclass(frozen=True)
class RunFacts:
    """One line of the table.

    Attributes:
        id: addresses the run.
        name, note: for people, to be escaped where they are shown.
        kind: "model", or "layer" for what was kept of an exploration; "" where unknown.
        model: what its model is called.
        allocation, budget, score, pattern: the method; "" where unknown.
        sparsity: realised, of the model or of the kept layer; as it was asked for where it is not finished.
        dense_perplexity, perplexity: of the same text where both were measured; None: not measured.
        created: ISO 8601 in UTC; "" where unknown.
        state, problem: what it does; `problem` says what is wrong with a damaged one.
        blocks_done, blocks: how many blocks are complete, of how many where that is known.
        size_bytes: on the disk.
        shipped: whether it came with the app.
    """

    id: str
    name: str
    note: str
    kind: str
    model: str
    allocation: str
    budget: str
    score: str
    pattern: str
    sparsity: float | None
    perplexity: float | None
    dense_perplexity: float | None
    created: str
    state: State
    problem: str
    blocks_done: int
    blocks: int | None
    size_bytes: int
    shipped: bool

    @property
    def method(self) -> str:
        """Allocation, budget and score in a few words."""
        if not self.allocation:
            return ""
        budget = (
            "" if self.budget == "uniform" or self.kind == "layer" else f", budgets {Path(self.budget).name}"
        )
        pattern = f" {self.pattern}" if self.pattern else ""
        return f"{self.allocation}{pattern}{budget}, {self.score}"

    def matches(self, search: str) -> bool:
        """Return whether every word of a search is somewhere in the line."""
        line = " ".join(
            (self.id, self.name, self.note, self.kind, self.model, self.method, self.state)
        ).casefold()
        return all(word in line for word in search.casefold().split())


def run_facts(entry: StoredRun) -> RunFacts:
    """Return the line of a stored run."""
    run = entry.run
    size = folder_bytes(entry.path)
    if run is None:
        return RunFacts(
            entry.id, entry.id, "", "", "", "", "", "", "", None, None, None, "", "damaged",
            entry.problem or "", 0, None, size, entry.shipped,
        )  # fmt: skip
    perplexity, dense = _perplexities(run)
    planned = {name.partition(".")[0] for name in _table(run.budgets.get("layers"))}
    return RunFacts(
        id=entry.id,
        name=run.name,
        note=run.notes["note"],
        kind=run.kind,
        model=run.model.title,
        allocation=run.request.allocation,
        budget=run.request.budget,
        score=run.request.score,
        pattern=run.request.pattern or "",
        sparsity=_sparsity(run),
        perplexity=perplexity,
        dense_perplexity=dense,
        created=run.created,
        state="complete" if run.complete else "being written" if is_being_written(run.path) else "unfinished",
        problem="",
        blocks_done=len(run.blocks),
        blocks=len(planned) or None,
        size_bytes=size,
        shipped=entry.shipped,
    )


def is_being_written(path: Path) -> bool:
    """Return whether another living process took the folder's lock last; this one writes within a moment.

    Only for people to see: whoever wants to write takes the lock, which alone is certain.
    """
    try:
        writer = int((path / "lock").read_text().strip())
        return writer != os.getpid() and psutil.pid_exists(writer)
    except (OSError, ValueError):
        return False


def folder_bytes(path: Path) -> int:
    """Return the size of a folder on the disk; files that vanish meanwhile do not count."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


def _sparsity(run: Run) -> float | None:
    for key in ("sparsity", "layer_sparsity"):
        realised = _number(_table(run.metrics.get(key)).get("realised"))
        if realised is not None:
            return realised
    return run.request.target_sparsity


def _perplexities(run: Run) -> tuple[float | None, float | None]:
    """Return the perplexity measured last, and the dense model's on the same windows."""
    for entry in reversed(_list(run.metrics.get("perplexities"))):
        value = _number(_table(entry).get("perplexity"))
        if value is None:
            continue
        same = [
            _number(_table(dense).get("perplexity"))
            for dense in _list(run.metrics.get("dense_perplexities"))
            if _table(dense).get("tokens_sha256") == entry.get("tokens_sha256")
        ]
        return value, same[-1] if same else None
    return None, None


def _table(value: object) -> dict:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list:
    return value if isinstance(value, list) else []


def _number(value: object) -> float | None:
    """Return a number, also where JSON holds it as the word "nan" or "inf"."""
    if not isinstance(value, str | int | float):
        return None
    try:
        return float(value)
    except ValueError:
        return None
