"""The run store: the runs and sweeps in the user's folder, and the small ones that come with the app."""

import contextlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.services.runs.layer import LayerView
from app.services.runs.shipped import shipped_folder
from app.services.server.faults import explain
from app.services.server.lru import SharedCache, cached
from trim.errors import ForeignFolderError, RunError
from trim.runs.folder import Run, open_run
from trim.runs.listing import is_run_id, runs_folder
from trim.runs.record import LayerRecord
from trim.sweeps.folder import Sweep, open_sweep

LAYER_CACHE_SIZE = 64
SWEEP_CACHE_SIZE = 64
# The files of a run apart from its blocks; after a change in any of them it is read again.
_READ = ("config.json", "manifest.json", "metrics.json", "diagnoses.json", "notes.json", "budgets.json")


@dataclass(frozen=True, eq=False)
class StoredRun:
    """A run in the store: opened, or the reason why it cannot be.

    Attributes:
        id: the name of its folder, which addresses and links use.
        path: the folder.
        shipped: whether it came with the app; shipped runs are read-only.
        run: the run; None if it cannot be read.
        problem: why it cannot be read, and what to do; None: nothing is wrong.
    """

    id: str
    path: Path
    shipped: bool
    run: Run | None
    problem: str | None

    def opened(self) -> Run:
        """Return the run.

        Raises:
            RunError: the run cannot be read; the message is `problem`.
        """
        if self.run is None:
            raise RunError(self.problem)
        return self.run


@dataclass(frozen=True, eq=False)
class StoredSweep:
    """A sweep in the store; the attributes are those of `StoredRun`."""

    id: str
    path: Path
    shipped: bool
    sweep: Sweep | None
    problem: str | None


class RunStore:
    """Lists and opens runs by id. A bounded cache keeps each run until one of its files changes.

    Until then all readers get the same object, so caches can use it as a key. A run of the user's hides a shipped run
    of the same id.
    """

    def __init__(
        self, folder: Callable[[], Path] = runs_folder, shipped: Callable[[], Path] = shipped_folder
    ) -> None:
        self._folder, self._shipped = folder, shipped
        self._runs: dict[str, tuple[tuple, StoredRun | None]] = {}
        self._sweeps: OrderedDict[tuple, StoredSweep] = OrderedDict()
        self._layers: SharedCache[tuple, LayerRecord] = SharedCache(LAYER_CACHE_SIZE)
        self._views: SharedCache[tuple[Run, str], LayerView] = SharedCache(LAYER_CACHE_SIZE)
        self._lock = threading.Lock()

    def runs(self) -> list[StoredRun]:
        """List all runs: the user's, newest first, then the shipped ones, the least sparse first."""
        found: dict[str, StoredRun] = {}
        present: set[str] = set()
        for folder, shipped in self._folders():
            read = {path: self._read(path, shipped) for path in _contents(folder)}
            present |= read.keys()
            entries = [entry for entry in read.values() if entry is not None]
            entries.sort(key=lambda entry: (entry.run.created if entry.run else "", entry.id), reverse=True)
            if shipped:
                entries.sort(key=lambda entry: (entry.run and entry.run.request.target_sparsity) or 1.0)
            for entry in entries:
                found.setdefault(entry.id, entry)
        with self._lock:
            for path in self._runs.keys() - present:
                del self._runs[path]
        return list(found.values())

    def sweeps(self) -> list[StoredSweep]:
        """List all sweeps in the same order."""
        found: dict[str, StoredSweep] = {}
        for folder, shipped in self._folders():
            entries = [self._read_sweep(str(file.parent), shipped) for file in folder.glob("*/sweep.json")]
            entries.sort(key=lambda entry: entry.sweep.created if entry.sweep else "", reverse=True)
            for entry in entries:
                found.setdefault(entry.id, entry)
        return list(found.values())

    def find(self, run_id: str) -> StoredRun:
        """Find a run, in whatever state it is.

        Raises:
            RunError: no run has this id; it may have been deleted while it was on a page.
        """
        if is_run_id(run_id):
            for folder, shipped in self._folders():
                if (entry := self._read(os.path.join(folder, run_id), shipped)) is not None:
                    return entry
        raise RunError(
            f"There is no run {run_id[:60]!r} (any more): it may have been deleted, renamed or moved. "
            "Choose another on the Runs page."
        )

    def open(self, run_id: str) -> Run:
        """Open a run.

        Raises:
            RunError: no run has this id, or it is damaged or of another version.
        """
        return self.find(run_id).opened()

    def layer(self, run_id: str, name: str) -> LayerRecord:
        """Read one layer of a run, without its mask.

        Raises:
            RunError: the run or layer does not exist, or a file is damaged.
        """
        run = self.open(run_id)
        key = (run.path, _stamp(str(run.path)), name)
        try:
            return self._layers.get(key, lambda: run.layer(name, mask=False))
        except RunError:
            self.find(run_id)  # deleted since: say that rather than that a file is missing
            raise

    def view(self, run: Run, name: str) -> LayerView:
        """Return the view of one layer of an opened run.

        Raises:
            RunError: the layer does not exist, or a file is damaged.
        """
        return self._views.get((run, name), lambda: LayerView.of(run, self.layer(run.id, name)))

    @property
    def shipped_problem(self) -> str | None:
        """Return why the shipped runs are missing; None: they exist."""
        try:
            self._shipped()
        except RunError as error:
            return str(error)
        return None

    def _folders(self) -> list[tuple[Path, bool]]:
        folders = [(self._folder(), False)]
        with contextlib.suppress(RunError):  # without the shipped runs, the user's own can still be listed
            folders.append((self._shipped(), True))
        return folders

    def _read(self, folder: str, shipped: bool) -> StoredRun | None:
        """Return the run in a folder, even a damaged one; None: there is no run, or another program's folder."""
        stamp = _stamp(folder)
        if stamp[0] is None:
            return None
        with self._lock:
            cached_run = self._runs.get(folder)
        if cached_run is not None and cached_run[0] == stamp:
            return cached_run[1]
        path = Path(folder)
        entry: StoredRun | None
        try:
            run = open_run(path)
            _ = run.notes, run.metrics, run.budgets  # read now, so that a damaged one shows here
            entry = StoredRun(path.name, path, shipped, run, None)
        except ForeignFolderError:  # such as an exported model
            entry = None
        except Exception as error:  # a bad run must not hide the others
            entry = StoredRun(path.name, path, shipped, None, explain(error))
        with self._lock:
            self._runs[folder] = stamp, entry
        return entry

    def _read_sweep(self, folder: str, shipped: bool) -> StoredSweep:
        """Return the sweep in a folder, even a damaged one; the same object until it or one of its cells changes."""

        def read() -> StoredSweep:
            path = Path(folder)
            try:
                return StoredSweep(path.name, path, shipped, open_sweep(path), None)
            except Exception as error:
                return StoredSweep(path.name, path, shipped, None, explain(error))

        cells = tuple(
            (cell, changed(cell), _stamp(cell)) for cell in sorted(_contents(Path(folder, "cells")))
        )
        stamp = (folder, changed(f"{folder}/sweep.json"), changed(f"{folder}/dense.json"), cells)
        with self._lock:
            return cached(self._sweeps, stamp, read, SWEEP_CACHE_SIZE)


def _contents(folder: Path) -> list[str]:
    """Return the paths of all files and folders in a folder; none if it does not exist."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return [entry.path for entry in entries]
    return []


def _stamp(folder: str) -> tuple:
    """Return a stamp of a run's folder; its first member is None if there is no run."""
    return tuple(changed(f"{folder}/{name}") for name in _READ)


def changed(file: str) -> tuple[int, int, int] | None:
    """Return a stamp that changes when the file is rewritten; None if there is no file."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


STORE = RunStore()
