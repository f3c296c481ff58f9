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
        sweep: as `create_sweep` or `open_sweep` gives it.
        ray: None: here, one cell after another; "local": on this machine's processors and GPUs; or the address of a
            Ray cluster ("auto": the one that this machine belongs to).
        progress: called at each step.
        listener: receives events (`trim.sweeps.events`).

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
                if outcome.run is not None and outcome.done:  # perhaps stopped while it lost them
                    drop_masks(outcome.run.path)
        tell(SweepBegan(len(sweep.cells), len(sweep.cells) - len(left)))
        done = len(sweep.cells) - len(left)
        meter = Meter(progress, of=len(sweep.cells), done=done)
        if ray is None:
            made = _one_by_one(sweep, left, meter, tell)
        else:
            from trim.sweeps.ray import on_ray

            meter.report("Measuring the dense model's perplexity")
            made = on_ray(sweep, left, ray, lambda values: tell(DenseMeasured(values)))
        failed = 0
        for number, outcome in enumerate(made, 1):
            failed += not outcome.done
            write_results(sweep)
            meter.report(f"{outcome.cell.id} is done", done + number)
            tell(
                CellDone(
                    outcome.cell.id,
                    tuple(float(entry["perplexity"]) for entry in outcome.perplexities if entry),
                    outcome.problem,
                    time.perf_counter() - begin,
                )
            )
        write_results(sweep)
    tell(SweepFinished(len(sweep.cells) - failed, failed, time.perf_counter() - begin))
    return sweep


def _one_by_one(sweep: Sweep, cells: list[Cell], meter: Meter, tell: SweepListener) -> Iterator[CellOutcome]:
    now = ""

    def within(step: Progress) -> None:
        meter.report(f"{now}: {step.what}")

    maker = CellMaker(sweep, within)
    now = "dense model"
    tell(DenseMeasured(maker.measure_dense()))
    for number, cell in enumerate(cells, 1):
        now = f"{number} of {len(cells)}, {cell.id}"
        yield maker.make(cell, _in_cell(cell, tell))


def _in_cell(cell: Cell, tell: SweepListener) -> FactListener:
    """Return the listener of the cell's run."""

    def listen(fact: Fact) -> None:
        if isinstance(fact, Note):
            tell(replace(fact, text=f"{cell.id}: {fact.text}"))

    return listen
