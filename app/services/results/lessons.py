"""The numbers of the lessons on a stored run: the rows of its layers, and perplexities. No model is loaded."""

import math
from collections.abc import Callable

from app.services.results.perplexities import on_one_text
from app.services.results.sweep_curves import curves, texts
from app.services.runs.layer import METHOD_LABELS
from app.services.runs.store import STORE
from diagnostics.lessons import PerplexityLesson, RowsLesson
from diagnostics.numeric import rank_correlation, spread_indices
from trim.errors import RunError
from trim.names import path_in_block
from trim.runs.folder import Run

KIND = "mlp.down_proj"  # of the layers that are shown, where a run has such
POINTS = 240  # of a layer's rows
LAYERS = 48  # of a run's layers, evenly spread


def has_rows(run: Run) -> bool:
    """Return whether TRIM searched layers of the run."""
    return any(run.numbers(name).get("search") is not None for name in run.layers)


def has_perplexity(run: Run) -> bool:
    """Return whether the run was measured on a text."""
    return on_one_text([run]) is not None


def demo_run(fits: Callable[[Run], bool]) -> Run | None:
    """Return a run of a whole model that `fits` accepts, a shipped one if there is one."""
    stored = [entry for entry in STORE.runs() if entry.run is not None and entry.run.kind == "model"]
    stored.sort(key=lambda entry: not entry.shipped)
    for entry in stored:
        try:
            if entry.run is not None and entry.run.layers and fits(entry.run):
                return entry.run
        except RunError:  # its files are damaged; try the next
            continue
    return None


def run_rows(run: Run) -> list[RowsLesson]:
    """Return the rows of the run's layers of one kind.

    Raises:
        RunError: a file of the run is damaged.
    """
    searched = [name for name in run.layers if run.numbers(name).get("search") is not None]
    kinds = [path_in_block(name) for name in searched]
    kind = KIND if KIND in kinds else kinds[-1]
    names = [name for name in searched if path_in_block(name) == kind]
    numbers = {name: run.numbers(name) for name in names}
    gains = {
        name: float(each["realised_quality"]) - float(each["uniform_quality"])
        for name, each in numbers.items()
    }
    ordered = sorted(gains, key=gains.__getitem__, reverse=True)
    lessons = []
    for index in spread_indices(len(names), LAYERS).tolist():
        name = names[index]
        record = STORE.layer(run.id, name)
        gini, sparsity = record.gini.astype(float), record.row_sparsity.astype(float)
        correlation = rank_correlation(gini, sparsity)
        rows = [row for row in gini.argsort(kind="stable").tolist() if not math.isnan(gini[row])]
        if not rows:  # every weight is zero
            continue
        shown = [rows[at] for at in spread_indices(len(rows), POINTS).tolist()]
        lessons.append(
            RowsLesson(
                name, len(gini), record.columns, record.sparsity,
                record.search.learning_rate if record.search else None,
                gini[shown], sparsity[shown], None if correlation is None else correlation.coefficient,
                gains[name], ordered.index(name) + 1, len(names),
            )
        )  # fmt: skip
    return lessons


def run_perplexity(run: Run) -> list[PerplexityLesson]:
    """Return the run's perplexity, with the dense model's and Wanda's where it has them."""
    measured = on_one_text([run])
    if measured is None:
        raise RunError("The run was not measured on a text.")
    sparsity = run.metrics.get("sparsity", {}).get("realised") or run.request.target_sparsity or 0.0
    methods = tuple(
        (METHOD_LABELS.get(bar.method, bar.method) if bar.method not in ("dense", "uniform") else bar.label, bar.method,
         bar.perplexity)
        for bar in measured.bars()
    )  # fmt: skip
    return [PerplexityLesson(sparsity, methods)]


def demo_perplexities() -> list[PerplexityLesson]:
    """Return what the shipped sweep measured, a lesson for each sparsity that all of its methods have."""
    sweeps = [entry.sweep for entry in STORE.sweeps() if entry.sweep is not None and entry.shipped]
    for text in texts(sweeps):
        pruned, dense = curves(sweeps, text)
        at = [dict(zip(curve.sparsity, curve.perplexity, strict=True)) for curve in pruned]
        common = sorted(set.intersection(*(set(each) for each in at))) if at else []
        return [
            PerplexityLesson(
                sparsity,
                (() if dense is None else (("Dense", "dense", dense),))
                + tuple(
                    (curve.label, curve.method, values[sparsity])
                    for curve, values in zip(pruned, at, strict=True)
                ),
            )
            for sparsity in common
        ]
    return []
