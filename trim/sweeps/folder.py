"""The sweep folder: many prunings of one model, each a run without masks, and their results.

sweep.json                 what is varied, what is shared; the fingerprint is their hash
dense.json                 perplexities of the dense model
cells/<id>/                a run; its metrics.json holds the perplexities
cells/<id>.problem.json    the error of a cell that failed; removed when it succeeds
results.json, .csv, .md    the results of all cells, rewritten after each
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from trim.cache import fingerprint
from trim.errors import RunError, SettingsError
from trim.evaluation.entries import find_entry
from trim.files import FolderLock, remove_temporary
from trim.runs.folder import Run, list_runs, open_run
from trim.runs.json_files import read_json, read_record, write_record
from trim.runs.listing import FolderEntry, StoredFolder, list_folders
from trim.runs.places import require_writable
from trim.runs.shapes import PerplexityEntry
from trim.sweeps.settings import Cell, SweepSettings
from trim.sweeps.shapes import DenseMetrics, Problem, SweepConfig


@dataclass(frozen=True, eq=False)
class CellOutcome:
    """The state of a cell.

    Attributes:
        cell: the cell.
        run: its run, which may be incomplete; None: not begun.
        perplexities: an entry of the run's metrics for each text of the sweep, None where not measured.
        problem: why it could not be made or read; None: there is no problem.
    """

    cell: Cell
    run: Run | None
    perplexities: tuple[PerplexityEntry | None, ...]
    problem: str | None

    @property
    def done(self) -> bool:
        """Return whether the model is pruned and measured on every text."""
        return self.run is not None and self.run.complete and None not in self.perplexities


@dataclass(frozen=True, eq=False)
class Sweep(StoredFolder):
    """A sweep on disk.

    Attributes:
        path: the folder.
        config: `sweep.json`, checked against its fingerprint.
        settings: the settings in it, with the cells that follow from them.
    """

    path: Path
    config: SweepConfig
    settings: SweepSettings

    @property
    def keep_masks(self) -> bool:
        """Return whether the cells keep their masks, which are most of a run's size."""
        return self.config.get("keep_masks", False)

    @cached_property
    def cells(self) -> dict[str, Cell]:
        """The cells by their names."""
        return {cell.id: cell for cell in self.settings.cells}

    @property
    def cells_folder(self) -> Path:
        """Return the folder of the cells' runs; `list_runs` reads it as any folder of runs."""
        return self.path / "cells"

    def runs(self) -> list[FolderEntry[Run]]:
        """Return the cells that have begun, as runs."""
        return list_runs(self.cells_folder)

    def cell_path(self, cell: Cell) -> Path:
        """Return the run folder of a cell."""
        return self.cells_folder / cell.id

    def problem_path(self, cell: Cell) -> Path:
        """Return the file with the reason why a cell could not be made."""
        return self.cells_folder / f"{cell.id}.problem.json"

    def dense(self) -> tuple[PerplexityEntry | None, ...]:
        """Return the dense model's perplexity on each text, None where not measured yet."""
        entries = read_json(self.path / "dense.json", DenseMetrics, optional=True).get("perplexities", [])
        return tuple(find_entry(entries, text) for text in self.settings.texts)

    def outcome(self, cell: Cell) -> CellOutcome:
        """Return the state of a cell."""
        unmeasured = (None,) * len(self.settings.texts)
        try:
            problem = read_json(self.problem_path(cell), Problem, optional=True).get("problem")
            if not (self.cell_path(cell) / "config.json").exists():
                return CellOutcome(cell, None, unmeasured, problem)
            run = open_run(self.cell_path(cell))
            entries = run.metrics.get("perplexities", [])
        except RunError as error:
            return CellOutcome(cell, None, unmeasured, str(error))
        return CellOutcome(
            cell, run, tuple(find_entry(entries, text) for text in self.settings.texts), problem
        )

    def outcomes(self) -> list[CellOutcome]:
        """Return the state of each cell, in the order of the grid."""
        return [self.outcome(cell) for cell in self.settings.cells]

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second process from working on the sweep.

        Raises:
            RunLockedError: another process works on it.
        """
        with FolderLock(self.path):
            remove_temporary(self.path)
            remove_temporary(self.cells_folder)
            yield


def create_sweep(
    path: str | Path, settings: SweepSettings, *, name: str = "", keep_masks: bool = False
) -> Sweep:
    """Begin a sweep, or open the same one again to resume it.

    Raises:
        RunError: the folder holds another sweep, or something else, or cannot be written.
    """
    path = Path(path)
    require_writable(path)
    if (path / "sweep.json").exists():
        sweep = open_sweep(path)
        if sweep.settings.fingerprint != settings.fingerprint:
            before, after = sweep.settings.to_json(), settings.to_json()
            different = ", ".join(key for key in before if before[key] != after[key])
            raise RunError(
                f"{path} holds another sweep (other {different}); resume that one: python -m trim sweep "
                f"--resume {path}; or choose another folder with --out"
            )
        return sweep
    if path.exists() and any(not each.name.startswith(".") for each in path.iterdir()):
        raise RunError(f"{path} is not empty and holds no sweep; choose another folder with --out")
    write_record(path / "sweep.json", name, settings.fingerprint, settings.to_json(), keep_masks=keep_masks)
    return open_sweep(path)


def open_sweep(path: str | Path) -> Sweep:
    """Open a sweep folder for reading.

    Raises:
        RunError: no sweep folder, another version, or a damaged file; the message names the file and what to do.
    """
    path = Path(path)
    file = path / "sweep.json"
    if not file.is_file():
        raise RunError(
            f"{path} is not a sweep: it holds no sweep.json. `python -m trim sweep … --out {path}` writes one"
        )
    config = read_record(file, SweepConfig, "sweep again", fingerprint)
    try:
        settings = SweepSettings.from_json(config["settings"])
    except SettingsError as error:
        raise RunError(f"{file}: {error}; sweep again into another folder") from error
    return Sweep(path, config, settings)


def list_sweeps(folder: str | Path | None = None) -> list[FolderEntry[Sweep]]:
    """List the sweeps in a folder (default: `runs_folder()`), newest first; other folders are ignored."""
    return list_folders(folder, "sweep.json", open_sweep)
