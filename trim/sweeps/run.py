"""Working through a sweep: one cell after another here, or many at once on Ray."""

import time
from collections.abc import Callable, Iterator

from trim.pruning.events import Event
from trim.sweeps.cell import CellMaker, _has_masks, drop_masks
from trim.sweeps.events import (
    CellBegan,
    CellDone,
    CellProgress,
    DenseMeasured,
    Listener,
    SweepBegan,
    SweepFinished,
)
from trim.sweeps.folder import CellOutcome, Sweep
from trim.sweeps.results import write_results
from trim.sweeps.settings import Cell


def run_sweep(sweep: Sweep, *, ray: str | None = None, listener: Listener | None = None) -> Sweep:
    """Work through the cells that are not done; each is on disk as soon as it is.

    Stopped, killed or interrupted, it resumes where it was: finished cells stay, a half-made one is resumed.

    Args:
        sweep: as `create_sweep` or `open_sweep` gives it.
        ray: None: here, one cell after another; "local": on this machine's processors and GPUs; or the address of a
            Ray cluster ("auto": the one that this machine belongs to).
        listener: receives the progress.

    Raises:
        RunLockedError: another process works on the sweep.
        ModelError, CorpusError: the model or an evaluation text cannot be read. What goes wrong in a cell does not end
            the sweep: it is the cell's `problem`.
        SettingsError: Ray is not installed, or not there.
    """
    tell = listener or (lambda event: None)
    begin = time.perf_counter()
    with sweep.locked():
        outcomes = sweep.outcomes()
        left = [outcome.cell for outcome in outcomes if not outcome.done]
        if not sweep.keep_masks:
            for outcome in outcomes:
                run = outcome.run
                if run is not None and outcome.done and _has_masks(run):  # stopped just before it lost them
                    drop_masks(run.path)
        tell(SweepBegan(len(sweep.cells), len(sweep.cells) - len(left)))
        if ray is None:
            made = _one_by_one(sweep, left, tell)
        else:
            from trim.sweeps.ray import on_ray

            made = on_ray(sweep, left, ray, lambda values: tell(DenseMeasured(values)))
        failed = 0
        for number, outcome in enumerate(made, 1):
            failed += not outcome.done
            write_results(sweep)
            seconds = time.perf_counter() - begin
            tell(
                CellDone(
                    outcome.cell.id,
                    tuple(float(entry["perplexity"]) for entry in outcome.perplexities if entry),
                    outcome.problem,
                    seconds,
                    seconds / number * (len(left) - number),
                )
            )
        write_results(sweep)
    tell(SweepFinished(len(sweep.cells) - failed, failed, time.perf_counter() - begin))
    return sweep


def _one_by_one(sweep: Sweep, cells: list[Cell], tell: Listener) -> Iterator[CellOutcome]:
    maker = CellMaker(sweep)
    tell(DenseMeasured(maker.measure_dense()))
    for number, cell in enumerate(cells, 1):
        tell(CellBegan(cell.id, number, len(cells)))
        yield maker.make(cell, _in_cell(cell, tell))


def _in_cell(cell: Cell, tell: Listener) -> Callable[[Event], None]:
    """Return the listener of the cell's run."""
    return lambda event: tell(CellProgress(cell.id, event))
