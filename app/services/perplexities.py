"""Perplexities that runs keep: of the run, and of the dense model on the very same windows."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import trim
from trim.run_writer import update_metrics
from trim.runs import Run
from trim.workbench import EvaluationText, Workbench, source_of

DENSE = "dense_perplexities"  # in metrics.json, in the form of "perplexities"


@dataclass(frozen=True)
class Measured:
    """A perplexity in a run's metrics, and the text that it is of."""

    corpus: str
    windows: int
    length: int
    tokens_sha256: str
    perplexity: float

    @property
    def text(self) -> str:
        """The text in words."""
        return f"{Path(self.corpus).name}, {self.windows:,} windows of {self.length:,} tokens"


def measure(folder: Path, *, windows: int, length: int) -> None:
    """Measure a run and its dense model on the evaluation part of its calibration text, and write both down.

    Raises:
        TrimError: the text, the model or the run does not allow it.
    """
    run = trim.open_run(folder)
    text = EvaluationText(run.settings["request"]["corpus"], windows, length)
    request = run.settings["request"]
    workbench = Workbench(device=request["device"], dtype=request["dtype"])
    trim.evaluate(folder, [text], workbench=workbench)
    dense = trim.evaluate(source_of(run), [text], workbench=workbench)
    update_metrics(folder, {DENSE: [entry.to_json() for entry in dense]})


def perplexities(run: Run) -> list[Measured]:
    """What was measured of a run, last first."""
    return _read(run.metrics.get("perplexities"))


def dense_perplexities(run: Run) -> list[Measured]:
    """What was measured of its dense model, last first."""
    return _read(run.metrics.get(DENSE))


def _read(entries: object) -> list[Measured]:
    fields = [field.name for field in dataclasses.fields(Measured)]
    found = []
    for entry in reversed(entries) if isinstance(entries, list) else ():
        try:
            values = {name: entry[name] for name in fields}
            found.append(Measured(**values | {"perplexity": float(values["perplexity"])}))
        except (KeyError, TypeError, ValueError):  # from another version, or edited: as good as not measured
            continue
    return found


def on_one_text(runs: Iterable[Run]) -> tuple[list[tuple[Run, float]], float | None, str]:
    """The runs measured on the text of the first that was measured at all; their dense model there; that text."""
    runs = list(runs)
    known = {run.path: {each.tokens_sha256: each for each in reversed(perplexities(run))} for run in runs}
    text = next((each for run in runs for each in perplexities(run)), None)
    if text is None:
        return [], None, ""
    measured = [
        (run, known[run.path][text.tokens_sha256].perplexity)
        for run in runs
        if text.tokens_sha256 in known[run.path]
    ]
    dense = (
        each.perplexity
        for run in runs
        for each in dense_perplexities(run)
        if each.tokens_sha256 == text.tokens_sha256
    )
    return measured, next(dense, None), text.text
