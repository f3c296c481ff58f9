"""Files that are whole or absent, and a folder that only one process writes."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from trim.errors import RunError, RunLockedError


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """A file for writing that takes its name, on disk to stay, when the block ends well, and is gone when it does not.

    Raises:
        RunError: the disk is full, or the folder cannot be written to; the message names the file.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
        temporary = None
        _sync_folder(path.parent)
    except OSError as error:
        raise RunError(
            f"{path} cannot be written ({error.strerror or error}); what was written before is safe. Free some "
            "space, or choose a folder that you may write to, then go on with: "
            f"python -m trim resume {path.parent.parent if path.parent.name == 'blocks' else path.parent}"
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a whole file under a temporary name, then rename it.

    Raises:
        RunError: see `atomic_file`.
    """
    with atomic_file(path) as file:
        file.write(content)


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current


def _sync_folder(folder: Path) -> None:
    """Makes the rename itself last; Windows cannot open a folder and needs no such step."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class FolderLock:
    """Keeps a second process out of a folder. The system lets go of it when its process ends, however it ends."""

    def __init__(self, folder: Path) -> None:
        """Take the lock.

        Raises:
            RunLockedError: another process holds it.
            RunError: the folder cannot be written to.
        """
        self.path = folder / "lock"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+")
        except OSError as error:
            raise RunError(
                f"{folder} cannot be written to ({error.strerror or error}); choose another folder with --out"
            ) from error
        try:
            _lock(self._file)
        except OSError:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
            self._file.close()
            raise RunLockedError(
                f"{folder} is in use by another process (process id {holder}); wait until it is done, or stop it"
            ) from None
        self._file.seek(0)
        self._file.truncate()
        self._file.write(f"{os.getpid()}\n")
        self._file.flush()

    def release(self) -> None:
        """Let others in."""
        self._file.close()


def is_locked(folder: Path) -> bool:
    """Whether some process, this one too, holds the folder's lock now."""
    try:
        file = (folder / "lock").open("r+")
    except OSError:
        return False
    with file:
        try:
            _lock(file)
        except OSError:
            return True
    return False


def _lock(file: IO) -> None:
    if sys.platform == "win32":
        import msvcrt

        # A byte far behind the content, so that the process id can still be read by others.
        file.seek(2**20)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
