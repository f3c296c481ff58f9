"""Import a run or a recovery from a zip: every path and array is checked before it joins the runs."""

import contextlib
import hashlib
import re
import shutil
import stat
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import IO

from app.services.runs.files import RECOVERY_FILES, SMALL_FILES, discard_deleted
from app.services.runs.layer import LayerView
from app.services.server.access import SEMINAR
from trim.errors import RunError
from trim.files import FolderLock, is_locked, remedy
from trim.names import RECOVERED_FOLDER, RECOVERY_FILE, format_bytes, one_line
from trim.runs.diagnosis_files import measured_files, read_layer_diagnoses
from trim.runs.folder import open_run
from trim.runs.json_files import MAX_JSON_BYTES
from trim.runs.listing import new_run_path
from trim.runs.recovery import is_recovery, open_recovery

MAX_FILES = 2_000
MAX_BYTES = 1_000_000_000  # unpacked
MAX_ZIP_RATIO = 100  # unpacked to packed; runs stay below 10
CHUNK_BYTES = 1 << 20
UNLOCKED_SECONDS = 60
STAGING = ".importing-"  # in the runs' folder, where a rename is atomic; nothing in it is listed as a run

_BLOCK = re.compile(r"blocks/[0-9]{3,4}(\.2)?\.safetensors")
_MEASURED = re.compile(r"diagnoses/[0-9][\w.]{0,200}\.json")
# Skipped: files of archivers, our own locks, files that an unfinished run can make again, a recovery's model.
_LEFT_OUT = re.compile(
    r"(.*/)?(\.DS_Store|\.?lock|calibration\.safetensors|sensitivity\.safetensors)|__MACOSX/.*"
)
_MODEL = re.compile(rf"([^/]+/)?{RECOVERED_FOLDER}/.*")


def import_run(file: IO[bytes], folder: Path, taken: Callable[[str], bool], name: str = "run") -> Path:
    """Unpack, check and keep a run, or a recovery without its model.

    Args:
        file: the zip, seekable.
        folder: the user's runs.
        taken: returns whether an id is already in use; then the run gets another.
        name: the zip's name, which names a run that lies in it without a folder.

    Returns:
        The folder of the new run.

    Raises:
        RunError: the run cannot be trusted, or the disk is full; the message says why. No file is left behind.
    """
    SEMINAR.require("Importing a run")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _discard_leftovers(folder)
        discard_deleted(folder)
        with (
            tempfile.TemporaryDirectory(dir=folder, prefix=STAGING) as temporary,
            FolderLock(Path(temporary)),
        ):
            path = Path(temporary) / "run"
            title = _unpack(file, path) or Path(name).stem
            try:
                (check_recovery if is_recovery(path) else check_run)(path)
            except RunError as error:
                raise _refusal(str(error).rstrip(".")) from error
            return _move_in(path, folder, title, taken)
    except (
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        zlib.error,
        EOFError,
        ValueError,
        RuntimeError,
    ) as error:
        raise _refusal(f"it is damaged, or not a zip file ({one_line(str(error))})") from error
    except OSError as error:
        raise RunError(
            f"The run cannot be written to {folder} ({error.strerror or error}); {remedy(error)}, and import it again."
        ) from error


def _unpack(file: IO[bytes], path: Path) -> str:
    """Extract the files of a run to `path`; return the name of their folder in the zip, "" if there is none."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        _check_sizes(members)
        names = {member.filename: member for member in members}
        if len(names) < len(members):
            raise _refusal("it holds two files of one name")
        for member in members:
            _check_member(member)
        files = {name: member for name, member in names.items() if not member.is_dir()}
        wanted = {name: member for name, member in files.items() if not _LEFT_OUT.fullmatch(name)}
        recovered = any(name.rpartition("/")[2] == RECOVERY_FILE for name in wanted)
        if recovered:
            wanted = {name: member for name, member in wanted.items() if not _MODEL.fullmatch(name)}
        allowed = RECOVERY_FILES if recovered else SMALL_FILES
        top = _top(wanted, allowed[0])
        left = MAX_BYTES
        for name, member in wanted.items():
            inside = name.removeprefix(top)
            large = not recovered and _BLOCK.fullmatch(inside)
            measured = not recovered and _MEASURED.fullmatch(inside)
            if inside not in allowed and not large and not measured:
                raise _refusal(f"it holds {one_line(name)!r}, which is not part of a run")
            limit = left if large else min(left, MAX_JSON_BYTES)
            left -= _extract(archive, member, path / inside, limit)
    return top.rstrip("/")


def _check_sizes(members: Collection[zipfile.ZipInfo]) -> None:
    packed = sum(member.compress_size for member in members)
    unpacked = sum(member.file_size for member in members)
    if len(members) > MAX_FILES:
        raise _refusal(f"it holds {len(members):,} files, and a run at most {MAX_FILES:,}")
    if unpacked > MAX_BYTES or unpacked > max(packed, 1) * MAX_ZIP_RATIO:
        raise _refusal(
            f"it would unpack from {format_bytes(packed)} to {format_bytes(unpacked)}, more than any run does"
        )


def _check_member(member: zipfile.ZipInfo) -> None:
    name = member.filename
    parts = name.rstrip("/").split("/")
    if name.startswith("/") or "\\" in member.orig_filename or ":" in name or not name.isprintable():
        raise _refusal(f"it holds the path {one_line(name)!r}, which would lie outside of the run")
    if any(part in ("", ".", "..") for part in parts):
        raise _refusal(f"it holds the path {one_line(name)!r}, which would lie outside of the run")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _refusal(f"{one_line(name)!r} in it is a link or a device, not a file")
    # Only the two compressions that every archiver knows: others could use any amount of memory.
    if member.flag_bits & 0x1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _refusal(f"{one_line(name)!r} in it is packed in an unusual way, or with a password")


def _top(files: Collection[str], record: str) -> str:
    """Return the run's folder inside the zip, with its slash; "" if the run lies at the top."""
    records = [name for name in files if name.rpartition("/")[2] == record]
    if not records:
        raise _refusal(f"it holds no {record}, so it is not a run")
    if len(records) > 1:
        raise _refusal(f"it holds {len(records)} runs; import them one by one")
    return records[0].removesuffix(record)


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, limit: int) -> int:
    """Extract one file and return its size, counted from the content instead of trusting the zip."""
    content = bytearray()
    with archive.open(member) as source:
        while chunk := source.read(CHUNK_BYTES):
            content += chunk
            if len(content) > limit:
                raise _refusal(f"{one_line(member.filename)!r} in it is too large for a run's")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return len(content)


def _move_in(path: Path, folder: Path, title: str, taken: Callable[[str], bool]) -> Path:
    """Move a run to its own id if that is plain and free, else to a new id; another import may take the id first."""
    usable = re.fullmatch(r"\w[\w.-]{0,99}", title) and not taken(title)
    target = folder / title if usable else new_run_path(folder, title)
    while True:
        if not target.exists():
            try:
                return path.rename(target)
            except OSError:
                if not target.exists():
                    raise
        target = new_run_path(folder, title)


def _refusal(why: str) -> RunError:
    return RunError(
        f"This zip was not imported: {why}. Nothing of it was kept. Export the run again, and import that zip."
    )


def _discard_leftovers(folder: Path) -> None:
    """Remove the files of killed imports: those whose lock is free, or was not taken within a minute."""
    for leftover in folder.glob(f"{STAGING}*"):
        with contextlib.suppress(OSError):
            locked = (leftover / "lock").exists()
            if (locked or time.time() - leftover.stat().st_mtime > UNLOCKED_SECONDS) and not is_locked(
                leftover
            ):
                shutil.rmtree(leftover)


def check_recovery(path: Path) -> None:
    """Read a whole untrusted recovery folder, as the pages would.

    Raises:
        RunError: the recovery is of another version, damaged, or not complete; the message says what.
    """
    try:
        recovery = open_recovery(path)
        _ = recovery.notes, recovery.metrics
        if not recovery.complete:
            raise RunError("it is a recovery that is not complete; resume it where it was begun")
        recovery.rows_moved()
    except RunError as error:
        raise RunError(str(error).replace(f"{path}/", "").replace(str(path), "the recovery")) from error


def check_run(path: Path) -> None:
    """Read a whole untrusted run folder, as the pages would.

    Raises:
        RunError: the run is of another version, damaged, or contradicts itself; the message says what.
    """
    try:
        run = open_run(path)
        _ = run.notes, run.metrics, run.budgets, run.diagnoses
        named = {run.path / entry["file"] for entry in run.manifest["blocks"].values()}
        if strangers := set(path.glob("blocks/*")) - named:
            raise RunError(f"the manifest does not name {min(strangers).name}")
        measured = {name.partition("/")[2].removesuffix(".json") for name in measured_files(path)}
        if unknown := measured - set(run.layers):
            raise RunError(f"it has measured {min(unknown)}, and not pruned it")
        for index in run.blocks:
            entry = run.manifest["blocks"][str(index)]
            file = run.path / entry["file"]
            if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != entry.get("sha256"):
                raise RunError(f"{entry['file']} is not what the run recorded, or missing")
            for record in run.block(index).values():
                LayerView.of(run, record)
                read_layer_diagnoses(run, record.name)
    except RunError as error:
        raise RunError(str(error).replace(f"{path}/", "").replace(str(path), "the run")) from error
