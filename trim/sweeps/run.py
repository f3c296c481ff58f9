"""Run a sweep: one cell after another here, or many at once on Ray."""

import time
from collections.abc import Iterator
from dataclasses import replace

from trim.progress import Meter, Progress, ProgressListener
from trim.pruning.events import Fact, FactListener, Note
from trim.sweeps.cell import CellMaker, drop_masks
from trim.sweeps.events import CellDone, DenseMeasured, SweepBegan, SweepFinished, SweepListener
from trim.sweeps.folder import CellOutcome, Sweep
from trim.sweeps.results import write_results
from trim.sweeps.settings import Cell


def run_sweep(
    sweep: Sweep,
    *,
    ray: str | None = None,
    progress: ProgressListener | None = None,
    listener: SweepListener | None = None,
) -> Sweep:
    """Make the cells that are not done; each is on disk as soon as it is done.

    A sweep that was stopped, killed or interrupted can be run again: finished cells stay, an incomplete one is resumed.

    Args:
        sweep: from `create_sweep` or `open_sweep`.
        ray: None: here, one cell after another; "local": on this machine's processors and GPUs; or the address of a
            Ray cluster ("auto": the one that this machine belongs to).
        progress: called at each step.
        listener: receives events (`trim.sweeps.events`).

    Raises:
        RunLockedError: another process works on the sweep.
        ModelError, CorpusError: the model or an evaluation text cannot be read. An error in a cell does not end the
            sweep: it is the cell's `problem`.
        SettingsError: Ray is not installed, or there is no cluster at the address.
    """
    emit = listener or (lambda event: None)
    begin = time.perf_counter()
    with sweep.locked():
        outcomes = sweep.outcomes()
        left = [outcome.cell for outcome in outcomes if not outcome.done]
        if not sweep.keep_masks:
            for outcome in outcomes:
                if (
                    outcome.run is not None and outcome.done
                ):  # the sweep may have been stopped while it dropped them
                    drop_masks(outcome.run.path)
        emit(SweepBegan(len(sweep.cells), len(sweep.cells) - len(left)))
        done = len(sweep.cells) - len(left)
        meter = Meter(progress, of=len(sweep.cells), done=done)
        if ray is None:
            made = _one_by_one(sweep, left, meter, emit)
        else:
            from trim.sweeps.ray import make_on_ray

            meter.report("Measuring the dense model's perplexity")
            made = make_on_ray(sweep, left, ray, lambda values: emit(DenseMeasured(values)))
        failed = 0
        for number, outcome in enumerate(made, 1):
            failed += not outcome.done
            write_results(sweep)
            meter.report(f"{outcome.cell.id} is done", done + number)
            emit(
                CellDone(
                    outcome.cell.id,
                    tuple(float(entry["perplexity"]) for entry in outcome.perplexities if entry),
                    outcome.problem,
                    time.perf_counter() - begin,
                )
            )
        write_results(sweep)
    emit(SweepFinished(len(sweep.cells) - failed, failed, time.perf_counter() - begin))
    return sweep


def _one_by_one(sweep: Sweep, cells: list[Cell], meter: Meter, emit: SweepListener) -> Iterator[CellOutcome]:
    """Measure the dense model, then make each cell and yield it."""
    current = ""

    def report(step: Progress) -> None:
        meter.report(f"{current}: {step.what}")

    maker = CellMaker(sweep, report)
    current = "dense model"
    emit(DenseMeasured(maker.measure_dense()))
    for number, cell in enumerate(cells, 1):
        current = f"{number} of {len(cells)}, {cell.id}"
        yield maker.make(cell, _note_listener(cell, emit))


def _note_listener(cell: Cell, emit: SweepListener) -> FactListener:
    """Return a listener that passes the notes of a cell's run on, with the cell's name."""

    def listen(fact: Fact) -> None:
        if isinstance(fact, Note):
            emit(replace(fact, text=f"{cell.id}: {fact.text}"))

    return listen
