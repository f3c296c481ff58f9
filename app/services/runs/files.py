"""Operations on a run as a whole: copy, export as a zip, rename, delete."""

import contextlib
import io
import shutil
import tempfile
import uuid
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from app.services.runs.store import StoredRun
from app.services.server.access import SEMINAR
from trim.errors import RunError
from trim.files import FolderLock, remedy
from trim.names import RECOVERY_FILE
from trim.runs.diagnosis_files import measured_files
from trim.runs.folder import Run, open_run
from trim.runs.record import LayerRecord
from trim.runs.recovery import MOVED_FILE, Recovery
from trim.runs.writer import RunWriter, write_notes

DELETED = ".deleted"  # a folder among the runs, for runs that are being removed
# The files of a run, without its blocks. The calibration text and the sensitivities of an unfinished run are left out:
# `resume` makes them again.
SMALL_FILES = (
    "config.json",
    "manifest.json",
    "budgets.json",
    "metrics.json",
    "diagnoses.json",
    "notes.json",
    "events.jsonl",
)
# The files of a recovery, without its model, which `trim export` copies.
RECOVERY_FILES = (RECOVERY_FILE, "metrics.json", "notes.json", "events.jsonl", MOVED_FILE)


def copy_run(run: Run, path: Path, change: Callable[[LayerRecord], LayerRecord]) -> None:
    """Copy a run into a new folder, without its masks; `change` may remove more.

    Raises:
        RunError: the run is damaged, or the folder cannot be written.
    """
    with RunWriter.create(path, run.settings, kind=run.kind) as writer:
        for index in run.blocks:
            entry = run.manifest["blocks"][str(index)]
            records = [change(run.layer(name, mask=False)) for name in entry["layers"]]
            writer.write_block(index, records, **entry)
        if run.complete:
            writer.finish(run.metrics)
    for name in (*SMALL_FILES, *measured_files(run.path)):
        if name != "manifest.json" and (run.path / name).exists():
            (path / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(run.path / name, path / name)


@contextlib.contextmanager
def exported(run: Run, *, masks: bool) -> Iterator[IO[bytes]]:
    """Yield the run as a zip, an open temporary file; `importing` reads it.

    Raises:
        RunError: the run is damaged, or the disk is full.
    """
    with contextlib.ExitStack() as stack:
        try:
            source, top = run.path, run.id.encode(errors="replace").decode()
            if not masks:
                source = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "run"
                copy_run(run, source, lambda record: record)
            file = stack.enter_context(tempfile.TemporaryFile())
            blocks = [entry["file"] for entry in open_run(source).manifest["blocks"].values()]
            _zip(file, source, top, (*SMALL_FILES, *measured_files(source), *blocks))
        except OSError as error:
            raise RunError(
                f"{run.id} cannot be exported ({error.strerror or error}); for its temporary files, {remedy(error)}"
            ) from error
        file.seek(0)
        yield file


def exported_recovery(recovery: Recovery) -> bytes:
    """Return a recovery as a zip without its model, which is as large as a model.

    Raises:
        RunError: the recovery cannot be read.
    """
    file = io.BytesIO()
    try:
        _zip(file, recovery.path, recovery.id.encode(errors="replace").decode(), RECOVERY_FILES)
    except OSError as error:
        raise RunError(f"{recovery.id} cannot be exported ({error.strerror or error})") from error
    return file.getvalue()


def _zip(file: IO[bytes], source: Path, top: str, names: Sequence[str]) -> None:
    # The app's own files have dates of 1970, before the first year that zips can store.
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:
        for name in names:
            if (source / name).exists():
                archive.write(source / name, f"{top}/{name}")


def rename(entry: StoredRun, name: str, note: str) -> None:
    """Change the name and note of one of the user's runs or recoveries.

    Raises:
        RunError: the run came with the app, is gone, or cannot be written.
    """
    SEMINAR.require("Renaming a run")
    _require_own(entry)
    write_notes(entry.path, name=name, note=note)


def delete(entry: StoredRun) -> None:
    """Delete one of the user's runs from the disk.

    Raises:
        RunLockedError: a process is writing it.
        RunError: the run came with the app, is gone already, or its files cannot be removed.
    """
    SEMINAR.require("Deleting a run")
    _require_own(entry)
    path = entry.path
    if path.is_symlink():
        raise RunError(
            f"{path} is a link to a folder elsewhere; remove it there, or remove the link yourself"
        )
    if not path.is_dir():
        raise RunError(f"{path} is deleted already; reload the page")
    with FolderLock(path):
        pass
    removed = path.parent / DELETED / uuid.uuid4().hex
    try:
        removed.parent.mkdir(exist_ok=True)
        path.rename(removed)  # atomic: if the process is killed, the run is either complete or deleted
    except OSError as error:
        raise RunError(f"{path} cannot be removed ({error.strerror or error}); {remedy(error)}") from error
    discard_deleted(path.parent)
    if removed.exists():
        raise RunError(f"{removed} could not be removed completely; remove what is left of it yourself")


def discard_deleted(folder: Path) -> None:
    """Remove the rest of deleted runs, also if the deleting process was killed."""
    for removed in (folder / DELETED).glob("*"):
        shutil.rmtree(removed, ignore_errors=True)
    with contextlib.suppress(OSError):
        (folder / DELETED).rmdir()


def _require_own(entry: StoredRun) -> None:
    if entry.shipped:
        raise RunError(
            f"{entry.id} came with the app and stays as it is; export and import it to have a copy"
        )
