"""Perplexities stored with runs: of the run, and of the dense model on the very same windows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from diagnostics.figures.perplexity import PerplexityBar
from trim.evaluation.entries import format_windows
from trim.runs.folder import Run
from trim.runs.recovery import RecoveryMetrics
from trim.runs.shapes import Metrics, PerplexityEntry


@dataclass(frozen=True)
class Measured:
    """A perplexity in a run's metrics, and the text that it was measured on."""

    corpus: str
    windows: int
    length: int
    tokens_sha256: str
    perplexity: float
    bos: bool | None = None

    @property
    def text(self) -> str:
        """Describe the text."""
        return format_windows(Path(self.corpus).name, self.windows, self.length, self.bos)


def perplexities(run: Run) -> list[Measured]:
    """Return the perplexities of a run, last first."""
    return measured(run.metrics)


def measured(metrics: Metrics | RecoveryMetrics) -> list[Measured]:
    """Return the perplexities of a run or a recovery, last first."""
    return _read(metrics.get("perplexities", []))


def dense_perplexities(run: Run) -> list[Measured]:
    """Return the perplexities of its dense model, last first."""
    return _read(run.metrics.get("dense_perplexities", []))


def _read(entries: Sequence[PerplexityEntry]) -> list[Measured]:
    return [
        Measured(
            entry["corpus"],
            entry["windows"],
            entry["length"],
            entry["tokens_sha256"],
            float(entry["perplexity"]),
            entry.get("bos"),
        )
        for entry in reversed(entries)
    ]


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
    text = next((each for run in runs for each in perplexities(run)), None)
    if text is None:
        return None

    def there(entries: list[Measured]) -> float | None:
        return next((each.perplexity for each in entries if each.tokens_sha256 == text.tokens_sha256), None)

    pairs = [(run, there(perplexities(run))) for run in runs]
    found = [(run, value) for run, value in pairs if value is not None]
    dense = [there(dense_perplexities(run)) for run in runs]
    uniform = [there(_read(run.metrics.get("uniform_perplexities", []))) for run in runs]
    if any(method_of(run) == "uniform" for run, _ in found):
        uniform = []
    return OnOneText(text.text, text.tokens_sha256, found, _first(dense), _first(uniform))


def method_of(run: Run) -> str:
    """Return the name of the allocation that was asked for."""
    return run.request.allocation


def _first(values: list[float | None]) -> float | None:
    return next((value for value in values if value is not None), None)
