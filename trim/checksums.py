"""Checksums of files that may be large, several at a time: one processor hashes about 1 GB in a second."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TypeVar

from trim.cache import cached, entry_path
from trim.progress import Meter, ProgressListener

T = TypeVar("T")


def sha256_of_file(path: Path) -> str:
    """Return the sha256 of a file, 64 hex digits.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached_sha256_of_file(path: Path) -> str:
    """Return the sha256 of a file, 64 hex digits; cached until the file's size or time changes.

    Raises:
        OSError: the file cannot be read.
    """
    status = path.stat()
    key = {"path": str(path.resolve()), "bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
    return cached(
        entry_path("checksums", key),
        lambda: sha256_of_file(path),
        parse=lambda content: content.decode(),
        pack=str.encode,
    )


def checksums(
    paths: Sequence[Path], checksum: Callable[[Path], T], title: str, progress: ProgressListener | None
) -> list[T]:
    """Compute the checksum of each file.

    Args:
        paths: the files.
        checksum: computes that of one file, in a thread.
        title: the title of the work for users.
        progress: called after each file; an exception that it raises ends the work.
    """
    meter = Meter(progress, of=len(paths))
    meter.report(title)
    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="trim-checksum") as threads:
        pending = [threads.submit(checksum, path) for path in paths]
        try:
            for done, each in enumerate(as_completed(pending), start=1):
                each.result()
                meter.report(title, done)
        finally:
            threads.shutdown(cancel_futures=True)
    return [each.result() for each in pending]
