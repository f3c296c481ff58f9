"""Write run folders: each file complete or absent, each block committed by the manifest, one writer at a time."""

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Self, TextIO, cast

import numpy as np

from trim.errors import RunError
from trim.files import FolderLock, is_locked, remedy, remove_temporary
from trim.models.heads import HeadLayout
from trim.row_parts import Structure
from trim.runs.array_files import write_arrays
from trim.runs.diagnosis_shapes import Diagnoses
from trim.runs.folder import Run, block_file, open_run
from trim.runs.json_files import SCHEMA, now, settings_fingerprint, update_json, write_json, write_record
from trim.runs.places import occupied_error, require_empty
from trim.runs.record import LayerRecord, to_parts
from trim.runs.recovery import open_stored
from trim.runs.shapes import MAX_NAME_LENGTH, MAX_NOTE_LENGTH, BlockEntry, LayerRecordJson, Manifest


class FolderWriter:
    """Keeps other processes out of a run's or a recovery's folder while it is open (`with …Writer…`)."""

    def __init__(self, path: Path, lock: FolderLock) -> None:
        self.path = path
        self._lock = lock
        self._events: TextIO | None = None  # stays open: experts make hundreds of events a second

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._events is not None:
            with contextlib.suppress(OSError):  # reported by `log` already
                self._events.close()
        self._lock.release()

    def log(self, event: dict) -> None:
        """Add a line to `events.jsonl`, as `log_event` does."""
        with _log_named(self.path):
            self._events = self._events or _open_log(self.path)
            self._events.write(_line(event))


class RunWriter(FolderWriter):
    """Writes one run."""

    def __init__(self, path: Path, lock: FolderLock, manifest: Manifest) -> None:
        super().__init__(path, lock)
        self.manifest = manifest

    @classmethod
    def create(
        cls,
        path: str | Path,
        settings: dict,
        *,
        kind: str = "model",
        name: str = "",
        heads: HeadLayout | None = None,
        structure: Structure | None = None,
    ) -> "RunWriter":
        """Begin a run in a new or empty folder.

        Args:
            path: the folder; made if it is missing.
            settings: everything that changes the result, as plain JSON, without access tokens.
            kind: "model", or "layer" for single layers kept from the app.
            name: the run's title.
            heads: the model's attention heads; None: not known.
            structure: further facts of the model's blocks; None: not known.

        Raises:
            RunError: the folder is not empty, or cannot be written.
            RunLockedError: another process is writing there.
        """
        path = Path(path)
        lock = FolderLock(path)
        try:
            _remove_half_written(path)
            if (path / "config.json").exists():
                raise occupied_error(open_run(path), settings)
            require_empty(path)
            writer = cls(path, lock, {"complete": False, "blocks": {}})
            writer._write_manifest()
            facts = {
                "kind": kind,
                **({} if heads is None else {"heads": dataclasses.asdict(heads)}),
                **({"structure": structure.to_json()} if structure else {}),
            }
            write_record(
                path / "config.json", name or path.name, settings_fingerprint(settings), settings, **facts
            )
        except BaseException:
            lock.release()
            raise
        return writer

    @classmethod
    def reopen(cls, path: str | Path) -> "RunWriter":
        """Resume a run.

        Raises:
            RunError: the folder is not a run, or is damaged.
            RunLockedError: another process is writing there.
        """
        open_run(path)  # before the lock, which would make the folder
        lock = FolderLock(Path(path))
        try:
            manifest = open_run(path).manifest
            _remove_half_written(Path(path), manifest)
            return cls(Path(path), lock, manifest)
        except BaseException:
            lock.release()
            raise

    def write_block(
        self,
        index: int,
        records: Iterable[LayerRecord],
        *,
        after: Callable[[], object] | None = None,
        **facts: object,
    ) -> int:
        """Write a block and commit it; an earlier file of the block stays until then.

        Args:
            index: the block's index in the model.
            records: its layers; each name begins with the index.
            after: waits for another block, which is committed before this one.
            facts: further entries about the block for the manifest.

        Returns:
            The size of its file in bytes.

        Raises:
            RunError: the block cannot be written; earlier blocks stay.
        """
        arrays: dict[str, np.ndarray] = {}
        numbers: dict[str, LayerRecordJson] = {}
        for record in records:
            parts, numbers[record.name] = to_parts(record)
            arrays |= {f"{record.name}/{key}": value for key, value in parts.items()}
        # A single key: the order of several keys in the file would change each time.
        metadata = {"trim": json.dumps({"schema": SCHEMA, "layers": numbers})}
        entry = self.manifest["blocks"].get(str(index))
        before = None if entry is None else entry["file"]
        name = block_file(index, again=before == block_file(index))
        size, digest = write_arrays(self.path / name, arrays, metadata)
        if after is not None:
            after()
        own = {
            "file": name,
            "bytes": size,
            "sha256": digest,
            "layers": list(numbers),
        }
        self.manifest["blocks"][str(index)] = cast(BlockEntry, facts | own)
        self._write_manifest()
        if before is not None:
            (self.path / before).unlink(missing_ok=True)
        return size

    def drop_blocks(self, indices: Iterable[int]) -> None:
        """Take blocks out of the manifest, so that they are made again."""
        for index in indices:
            self.manifest["blocks"].pop(str(index), None)
        self.manifest["complete"] = False
        self._write_manifest()

    def write_model_files(self, checksums: dict[str, str]) -> None:
        """Record the sha256 of the model's files; the run can be resumed only with the same files."""
        self.manifest["model_files"] = checksums
        self._write_manifest()

    def write_budgets(self, budgets: dict) -> None:
        """Write `budgets.json`."""
        write_json(self.path / "budgets.json", budgets)

    def finish(self, metrics: Mapping[str, object]) -> Run:
        """Write the metrics and mark the run complete."""
        update_metrics(self.path, metrics)
        self.manifest["complete"] = True
        self._write_manifest()
        return open_run(self.path)

    def _write_manifest(self) -> None:
        write_json(self.path / "manifest.json", self.manifest)


def log_event(path: Path, event: dict) -> None:
    """Add a line to a run's `events.jsonl`; it is a record, so it need not survive a crash.

    Raises:
        RunError: the disk is full.
    """
    with _log_named(path), _open_log(path) as file:
        file.write(_line(event))


def _open_log(path: Path) -> TextIO:
    return (path / "events.jsonl").open("a", encoding="utf-8", buffering=1)  # each line at once


def _line(event: dict) -> str:
    return json.dumps({"time": now(), **event}) + "\n"


@contextlib.contextmanager
def _log_named(path: Path) -> Iterator[None]:
    """Raise RunError with advice if a run's log cannot be written."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{path / 'events.jsonl'} cannot be written ({error.strerror}); {remedy(error)} and resume with: "
            f"python -m trim resume {path}"
        ) from error


def _remove_half_written(path: Path, manifest: Manifest | None = None) -> None:
    """Remove the files that a killed process left incomplete; no other process may hold the lock."""
    remove_temporary(path)
    remove_temporary(path / "blocks")
    for leftover in path.glob(".activations-*"):
        leftover.unlink(missing_ok=True)
    if manifest is not None:
        named = {path / entry["file"] for entry in manifest["blocks"].values()}
        for leftover in set(path.glob("blocks/*.safetensors")) - named:
            leftover.unlink(missing_ok=True)


def remove_unstarted(path: Path) -> None:
    """Remove the folder of a run that was killed before it wrote its record, unless it contains other files."""
    if not path.is_dir() or (path / "config.json").exists() or is_locked(path):
        return
    _remove_half_written(path)
    if {each.name for each in path.iterdir()} <= {"lock", ".lock", "manifest.json"}:
        shutil.rmtree(path)


def update_metrics(path: Path, metrics: Mapping[str, object]) -> None:
    """Add to a run's `metrics.json`; top-level keys are replaced."""
    update_json(path / "metrics.json", metrics)


def update_diagnoses(path: Path, diagnoses: Diagnoses) -> None:
    """Add to a run's `diagnoses.json`; top-level keys are replaced.

    Raises:
        RunError: the file cannot be written.
    """
    update_json(path / "diagnoses.json", diagnoses)


def write_notes(path: str | Path, *, name: str, note: str) -> None:
    """Set the name and the note of a run or a recovery, cut to their longest lengths; its record does not change.

    Raises:
        RunError: the folder is neither a run nor a recovery, or cannot be written.
    """
    write_json(
        open_stored(path).path / "notes.json",
        {"name": name.strip()[:MAX_NAME_LENGTH], "note": note.strip()[:MAX_NOTE_LENGTH]},
    )
