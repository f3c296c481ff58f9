"""A run in one line of a table: kind, method, results. Nothing here raises for a damaged run."""

import contextlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from weakref import WeakKeyDictionary

import psutil

from app.services.runs.store import StoredRun
from diagnostics.format import counted
from trim.runs.folder import Run
from trim.runs.recovery import RecoveryMetrics
from trim.runs.run_record import TextFacts
from trim.runs.settings import PruneSettings
from trim.runs.shapes import Metrics, PerplexityEntry

State = Literal["complete", "unfinished", "being written", "damaged"]


@dataclass(frozen=True)
class RunFacts:
    """A run in a few values: a line of the table of runs.

    Attributes:
        id: the run's id.
        name, note: texts of the user; escape them to display them.
        kind: "model", "layer" for a kept exploration, "recovery" for a pruned model that was trained; "": unknown.
        model: the title of its model.
        allocation, budget, score, pattern: the method; "": unknown.
        sparsity: realised sparsity of the model or the kept layer; the target while the run is not finished.
        dense_perplexity, perplexity: on the same text if both were measured; None: not measured.
        created: ISO 8601 in UTC; "": unknown.
        state, problem: the run's state, and what is wrong with a damaged run.
        blocks_done, blocks: the number of complete blocks, and of all blocks if it is known.
        size_bytes: size on the disk.
        shipped: whether the run came with the app.
    """

    id: str
    name: str
    state: State
    size_bytes: int
    note: str = ""
    kind: str = ""
    model: str = ""
    allocation: str = ""
    budget: str = ""
    score: str = ""
    pattern: str = ""
    sparsity: float | None = None
    perplexity: float | None = None
    dense_perplexity: float | None = None
    created: str = ""
    problem: str = ""
    blocks_done: int = 0
    blocks: int | None = None
    shipped: bool = False

    @property
    def method(self) -> str:
        """Allocation, budget and score in a few words."""
        if not self.allocation:
            return ""
        if self.kind == "recovery":
            return f"{self.allocation} {self.score}"
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


_lines: WeakKeyDictionary[StoredRun, RunFacts] = WeakKeyDictionary()


def run_facts(entry: StoredRun) -> RunFacts:
    """Return the line of a stored run, cached until a file of the run changes."""
    facts = _lines.get(entry)
    if facts is None:
        facts = _lines[entry] = _facts(entry)
    if facts.state == "unfinished" and is_being_written(entry.path):
        return replace(facts, state="being written")
    return facts


def _facts(entry: StoredRun) -> RunFacts:
    size = folder_bytes(entry.path)
    run = entry.run
    if run is None:
        problem = entry.problem or ""
        return RunFacts(entry.id, entry.id, "damaged", size, problem=problem, shipped=entry.shipped)
    perplexity, dense = last_perplexities(run.metrics)
    planned = {name.partition(".")[0] for name in run.budgets.get("layers", ())}
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
        state="complete" if run.complete else "unfinished",
        blocks_done=len(run.blocks),
        blocks=len(planned) or None,
        size_bytes=size,
        shipped=entry.shipped,
    )


def text_title(text: TextFacts, request: PruneSettings) -> str:
    """Describe a calibration text: "16 windows of 256 tokens of demo"; the folder of a file stays unsaid."""
    source = "given in Python" if text.given else f"of {Path(request.corpus).name}"
    return f"{counted(request.windows, 'window')} of {counted(request.length, 'token')} {source}"


def is_being_written(path: Path) -> bool:
    """Return whether another living process holds the folder's lock, by the lock file's content.

    Only for display: code that writes must take the lock.
    """
    try:
        writer = int((path / "lock").read_text().strip())
        return writer != os.getpid() and psutil.pid_exists(writer)
    except (OSError, ValueError):
        return False


def folder_bytes(path: Path) -> int:
    """Return the size of a folder on the disk, without files that vanish meanwhile."""
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


def _sparsity(run: Run) -> float | None:
    sparsity = run.metrics.get("sparsity") or run.metrics.get("layer_sparsity")
    return sparsity["realised"] if sparsity else run.request.target_sparsity


def last_perplexities(metrics: Metrics | RecoveryMetrics) -> tuple[float | None, float | None]:
    """Return the perplexity measured last, and the dense model's on the same windows."""
    measured = metrics.get("perplexities")
    if not measured:
        return None, None
    dense = perplexity_on(metrics.get("dense_perplexities"), measured[-1]["tokens_sha256"])
    return float(measured[-1]["perplexity"]), dense


def perplexity_on(entries: list[PerplexityEntry] | None, tokens_sha256: str) -> float | None:
    """Return the perplexity measured last on these tokens; None: there is none."""
    same = [each for each in entries or [] if each["tokens_sha256"] == tokens_sha256]
    return float(same[-1]["perplexity"]) if same else None
