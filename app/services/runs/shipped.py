"""The runs that come with the app: one archive, unpacked into the cache at first use."""

import functools
import hashlib
import lzma
import tarfile
from pathlib import Path

from trim.cache import cache_folder, cached_folder
from trim.errors import RunError

ARCHIVE = Path(__file__).parents[2] / "shipped" / "runs.tar.xz"


def shipped_folder() -> Path:
    """Return the folder with the shipped runs and sweeps; unpack it again if the cache was emptied.

    Raises:
        RunError: the cache cannot be written, or the archive is damaged.
    """
    cache = cache_folder() / "shipped"
    try:
        status = ARCHIVE.stat()
        folder = cache / _digest(ARCHIVE, status.st_mtime_ns, status.st_size)
        cached_folder(folder, _unpack)
    except (OSError, EOFError, tarfile.TarError, lzma.LZMAError) as error:
        raise RunError(
            f"The runs that come with the app cannot be unpacked into {cache} ({error}). Free some space there, or set "
            "TRIM_CACHE to a folder that can be written to."
        ) from error
    return folder


def _unpack(folder: Path) -> None:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")


@functools.lru_cache(maxsize=4)
def _digest(archive: Path, modified_ns: int, size_bytes: int) -> str:
    with archive.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]
