"""Perplexities stored with runs: of the run, and of the dense model on the very same windows."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from app.services.runs.facts import perplexity_on
from diagnostics.figures.perplexity import PerplexityBar
from trim.evaluation.entries import format_windows
from trim.runs.folder import Run
from trim.runs.shapes import PerplexityEntry


def text_of(entry: PerplexityEntry) -> str:
    """Describe the text that a perplexity was measured on."""
    return format_windows(Path(entry["corpus"]).name, entry["windows"], entry["length"], entry.get("bos"))


@dataclass(frozen=True, eq=False)
class OnOneText:
    """The measurements on the very same windows.

    Attributes:
        text: the description of the windows.
        tokens_sha256: hash of their tokens.
        runs: the runs that were measured on the windows, each with its perplexity.
        dense: perplexity of the model that they pruned; None: not measured.
        uniform: perplexity of Wanda with uniform sparsity, where a run stores it and no such run is among `runs`.
    """

    text: str
    tokens_sha256: str
    runs: list[tuple[Run, float]]
    dense: float | None
    uniform: float | None

    def bars(self) -> list[PerplexityBar]:
        """Return bars for the dense model, Wanda with uniform sparsity and each run."""
        bars = [PerplexityBar(run.name, method_of(run), value) for run, value in self.runs]
        if self.uniform is not None:
            bars.insert(0, PerplexityBar("Wanda, uniform", "uniform", self.uniform))
        if self.dense is not None:
            bars.insert(0, PerplexityBar("Dense", "dense", self.dense))
        return bars


def on_one_text(runs: Iterable[Run]) -> OnOneText | None:
    """Return the runs that share the text of the first measured one; None: no run was measured."""
    runs = list(runs)
    text = next((each for run in runs for each in reversed(run.metrics.get("perplexities", []))), None)
    if text is None:
        return None
    tokens = text["tokens_sha256"]
    pairs = [(run, perplexity_on(run.metrics.get("perplexities"), tokens)) for run in runs]
    found = [(run, value) for run, value in pairs if value is not None]
    dense = [perplexity_on(run.metrics.get("dense_perplexities"), tokens) for run in runs]
    uniform = [perplexity_on(run.metrics.get("uniform_perplexities"), tokens) for run in runs]
    if any(method_of(run) == "uniform" for run, _ in found):
        uniform = []
    return OnOneText(text_of(text), tokens, found, _first(dense), _first(uniform))


def method_of(run: Run) -> str:
    """Return the name of the allocation that was requested."""
    return run.request.allocation


def _first(values: list[float | None]) -> float | None:
    return next((value for value in values if value is not None), None)
