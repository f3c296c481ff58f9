"""Checksums of files that may be large, several at a time: one processor hashes about 1 GB in a second."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event
from typing import TypeAlias, TypeVar

from trim.cache import cached, entry_path
from trim.progress import Meter, ProgressListener

T = TypeVar("T")
# Called with the number of bytes after each piece of a file that was read; an exception ends the reading.
ByteListener: TypeAlias = Callable[[int], object]

PIECE_BYTES = 2**18
REPORT_SECONDS = 0.2


def sha256_of_file(path: Path, read: ByteListener = lambda size: None) -> str:
    """Return the sha256 of a file, 64 hex digits.

    Raises:
        OSError: the file cannot be read.
    """
    digest, piece = hashlib.sha256(), memoryview(bytearray(PIECE_BYTES))
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(piece):
            digest.update(piece[:size])
            read(size)
    return digest.hexdigest()


def cached_sha256_of_file(path: Path, read: ByteListener = lambda size: None) -> str:
    """Return the sha256 of a file, 64 hex digits; cached until the file's size or time changes.

    Raises:
        OSError: the file cannot be read.
    """
    status = path.stat()
    key = {"path": str(path.resolve()), "bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
    return cached(
        entry_path("checksums", key),
        lambda: sha256_of_file(path, read),
        parse=lambda content: content.decode(),
        pack=str.encode,
    )


def checksums(
    paths: Sequence[Path],
    checksum: Callable[[Path, ByteListener], T],
    title: str,
    progress: ProgressListener | None,
) -> list[T]:
    """Compute the checksum of each file.

    Args:
        paths: the files.
        checksum: computes that of one file, in a thread.
        title: the title of the work for users.
        progress: called several times a second; an exception that it raises ends the work at once.
    """
    sizes = [_size(path) for path in paths]
    done = [0] * len(paths)  # each thread writes to the place of its file
    stopped = Event()

    def work(place: int) -> T:
        def read(size: int) -> None:
            if stopped.is_set():
                raise InterruptedError(f"reading {paths[place]} was stopped")
            done[place] += size

        result = checksum(paths[place], read)
        done[place] = sizes[place]  # also where it was cached
        return result

    meter = Meter(progress, of=sum(sizes))
    meter.report(title)
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="trim-checksum") as threads:
        futures = [threads.submit(work, place) for place in range(len(paths))]
        pending = set(futures)
        try:
            while pending:
                finished, pending = wait(pending, REPORT_SECONDS, FIRST_EXCEPTION)
                for each in finished:
                    each.result()
                meter.report(title, sum(done))
        finally:
            stopped.set()
            threads.shutdown(cancel_futures=True)
    return [each.result() for each in futures]


def _size(path: Path) -> int:
    """Return the size of a file; 0 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
