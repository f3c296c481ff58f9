"""Write files and folders that are complete or absent, and lock a folder for one process."""

import contextlib
import errno
import os
import re
import shutil
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Self

from filelock import FileLock, Timeout

from trim.errors import RunError, RunLockedError
from trim.names import RECOVERY_FILE

_LOCK = ".lock"  # the file in a folder that the operating system locks


@contextlib.contextmanager
def new_file(path: Path, *, durable: bool = False) -> Iterator[IO[bytes]]:
    """Write a file under a temporary name; it replaces `path` if the block succeeds, and is removed otherwise.

    Args:
        path: its folder is made if it is missing.
        durable: whether the file must survive a failure of the machine.

    Raises:
        OSError: the file cannot be made, written or renamed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        with temporary.open("xb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if durable:
            _sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Fill a folder under a temporary name; it takes its name if the block succeeds, and is removed otherwise.

    A folder that another process finished first is kept.

    Raises:
        OSError: the folder cannot be made or renamed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(target)
    try:
        temporary.mkdir()
        yield temporary
        try:
            temporary.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remedy(error: OSError) -> str:
    """Return the advice that follows "cannot be written; "."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free some space there"
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return "make it writable for you, or choose another folder"
    return "choose another folder"


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Write a file of a run with a durable `new_file`, and give advice if that fails.

    Raises:
        RunError: the disk is full, or the folder cannot be written to; the message names the file.
    """
    try:
        with new_file(path, durable=True) as file:
            yield file
    except OSError as error:
        raise RunError(
            f"{path} cannot be written ({error.strerror or error}); {remedy(error)}{_resume_advice(path)}"
        ) from error


def _resume_advice(path: Path) -> str:
    """Return how to resume what has begun in the folder of a file; "" where nothing has."""
    folder = path.parent.parent if path.parent.name == "blocks" else path.parent
    if path.name in ("notes.json", "diagnoses.json") or path.parent.name == "diagnoses":
        return ""  # of what is complete
    for record, command in (
        ("config.json", "resume"),
        (RECOVERY_FILE, "resume"),
        ("sweep.json", "sweep --resume"),
    ):
        if (folder / record).exists():
            return f". What was written before is safe; it resumes with: python -m trim {command} {folder}"
    return ""


def write_atomically(path: Path, content: bytes) -> None:
    """Write a complete file under a temporary name, then rename it.

    Raises:
        RunError: see `atomic_file`.
    """
    with atomic_file(path) as file:
        file.write(content)


def remove_temporary(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder to which only this process writes."""
    for leftover in folder.glob(".*-*"):
        if not is_temporary(leftover.name):
            continue
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def is_temporary(name: str) -> bool:
    """Return whether a file or folder has a temporary name."""
    return re.fullmatch(r"\..+-[0-9a-f]{12}", name) is not None


def _temporary(path: Path) -> Path:
    """Return a name alongside a path that no other process uses."""
    return path.with_name(f".{path.name}-{uuid.uuid4().hex[:12]}")


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; Windows cannot open a folder, and does not need this step."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class FolderLock:
    """Keeps a second process out of a folder. The system releases the lock whenever its process ends."""

    def __init__(self, folder: Path) -> None:
        """Take the lock.

        Raises:
            RunLockedError: another process holds it.
            RunError: the folder cannot be written to.
        """
        holder, taken = folder / "lock", None  # the id of the process that took the lock last
        is_new = not folder.exists()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            taken = _try_lock(folder)
            if taken is not None:
                holder.write_text(f"{os.getpid()}\n")
        except OSError as error:
            if taken is not None:
                taken.release()
            if is_new:
                shutil.rmtree(folder, ignore_errors=True)
            raise RunError(
                f"{folder} cannot be written to ({error.strerror or error}); {remedy(error)}"
            ) from error
        if taken is None:
            raise RunLockedError(
                f"{folder} is in use by another process (process id {_holder(holder)}); wait until it is done, or "
                "stop it"
            )
        self.release = taken.release

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


def is_locked(folder: Path) -> bool:
    """Return whether a process, possibly this one, holds the folder's lock now."""
    if not (folder / _LOCK).exists():
        return False
    try:
        taken = _try_lock(folder)
    except OSError:
        return False
    if taken is not None:
        taken.release()
    return taken is None


def _try_lock(folder: Path) -> FileLock | None:
    """Lock the folder's lock file; return None if another process has locked it."""
    lock = FileLock(folder / _LOCK, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return None
    return lock


def _holder(path: Path) -> str:
    """Return the id of the process that locked the folder last, or "unknown"."""
    try:
        return path.read_text().strip() or "unknown"
    except OSError:
        return "unknown"
