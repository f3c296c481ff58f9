"""The cache on disk between uses.

It contains dequantized models, captured activations, checksums, the measurements behind budgets, runs that come with
the app, texts that users uploaded, and compiled functions.

The folder is `TRIM_CACHE`, or `trim-lab` in the user's cache folder. Entries appear complete (written under
a temporary name, then renamed), so processes may share a cache. The least recently used entries go when the cache
outgrows `TRIM_CACHE_LIMIT_BYTES`.
"""

import contextlib
import hashlib
import json
import math
import os
import shutil
import struct
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from safetensors import SafetensorError

from trim.errors import CacheWarning, SettingsError
from trim.files import new_file, new_folder

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT_LIMIT_BYTES = 20 * 2**30
# In the order in which entries are removed: forward passes are cheaper to repeat than dequantizing, and a user's own
# text cannot be restored.
KINDS = ("checksums", "shipped", "compiled", "captures", "budgets", "models", "texts")
ABANDONED_SECONDS = 24 * 3600  # after this, a temporary file or folder was left by a killed process
MEASURE_SECONDS = 60
# For each cache and limit: the time of the last measurement, and the bytes that still fit.
_room: dict[tuple[Path, int], tuple[float, int]] = {}
_measuring = threading.Lock()  # several threads store at once
_CHECK = struct.Struct("<I")  # at the end of every file: the CRC-32 of its other bytes

T = TypeVar("T")


def cache_folder() -> Path:
    """Return the cache's folder; it is not created here."""
    if chosen := os.environ.get("TRIM_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "trim-lab"


def limit_bytes() -> int:
    """Return how large the cache may grow.

    Raises:
        SettingsError: `TRIM_CACHE_LIMIT_BYTES` is not a whole number.
    """
    text = os.environ.get("TRIM_CACHE_LIMIT_BYTES", str(DEFAULT_LIMIT_BYTES))
    if not text.isdecimal():
        raise SettingsError(f"TRIM_CACHE_LIMIT_BYTES must be a whole number of bytes, not {text!r}")
    return int(text)


def fingerprint(settings: dict) -> str:
    """Return 32 hex digits that differ when any setting differs; the settings must be plain JSON."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def entry_path(kind: str, key: dict, suffix: str = "") -> Path:
    """Return the path in the cache of an entry that depends only on `key`, which must be plain JSON."""
    return cache_folder() / kind / f"{fingerprint(key)}{suffix}"


def cached(
    path: Path, measure: Callable[[], T], *, parse: Callable[[bytes], T], pack: Callable[[T], bytes]
) -> T:
    """Return a measurement from the cache, or measure and cache it.

    Args:
        path: from `entry_path`.
        measure: does the work.
        parse: reads the content of a file.
        pack: makes the content of a file.

    Raises:
        SettingsError: `TRIM_CACHE_LIMIT_BYTES` is not a whole number.
    """
    value = load_entry(path, parse)
    if value is None:
        value = measure()
        store([(path, pack(value))])
    return value


def cached_numbers(key: dict, measure: Callable[[], list[float]]) -> list[float]:
    """Return the numbers that are cached under this key, or measure and cache them; NaN is allowed."""
    return cached(
        entry_path("budgets", key, ".json"),
        measure,
        parse=lambda content: [float(value) for value in json.loads(content)],
        pack=lambda numbers: json.dumps(numbers).encode(),
    )


def cached_folder(target: Path, make: Callable[[Path], None]) -> Path:
    """Return a folder in the cache, and let `make` fill it if it does not exist.

    Raises:
        OSError: it cannot be written.
        SettingsError: `TRIM_CACHE_LIMIT_BYTES` is not a whole number.
    """
    if target.is_dir():
        touch(target)
        return target
    limit_bytes()
    with new_folder(target) as folder:
        make(folder)
    shrink_to_limit(keep=target)
    return target


def load_entry(path: Path, parse: Callable[[bytes], T]) -> T | None:
    """Load a file of the cache; None if it is missing or damaged.

    Raises:
        SettingsError: `TRIM_CACHE_LIMIT_BYTES` is not a whole number; raised before anything slow starts.
    """
    limit_bytes()
    try:
        content = path.read_bytes()
        if content[-_CHECK.size :] != _CHECK.pack(zlib.crc32(content[: -_CHECK.size])):
            return None
        value = parse(content[: -_CHECK.size])
    except (OSError, ValueError, TypeError, KeyError, SafetensorError):
        return None
    touch(_entry(path))
    return value


def store(files: Iterable[tuple[Path, bytes]]) -> None:
    """Write the files of one entry into the cache; if the disk is full, warn, because no result depends on it."""
    path, size = None, 0
    try:
        for path, content in files:
            with new_file(path) as file:
                file.write(content)
                file.write(_CHECK.pack(zlib.crc32(content)))
            size += len(content) + _CHECK.size
        if path is not None:
            _shrink_if_grown(size, keep=_entry(path))
    except OSError as error:
        warnings.warn(
            f"results cannot be cached in {cache_folder()} ({error.strerror or error}), so the next use makes them "
            "again; make room there or make it writable for you, or set TRIM_CACHE to another folder",
            CacheWarning,
            stacklevel=2,
        )


def _entry(path: Path) -> Path:
    """Return the entry that a file belongs to: the file itself, or the folder directly in that of its kind."""
    return cache_folder().joinpath(*path.relative_to(cache_folder()).parts[:2])


def touch(entry: Path) -> None:
    """Mark an entry as used just now; another process may have removed it."""
    with contextlib.suppress(OSError):
        os.utime(entry)


def text_sha256(tokens: "Tensor", mask: "Tensor | None" = None) -> str:
    """Return the sha256 of a text's tokens and mask, both (windows, length) on the CPU."""
    digest = hashlib.sha256(tokens.numpy().tobytes())
    if mask is not None:
        digest.update(mask.numpy().tobytes())
    return digest.hexdigest()


def usage_bytes() -> dict[str, int]:
    """Return the bytes on the disk of each kind of entry."""
    return {kind: _size_bytes(cache_folder() / kind) for kind in KINDS}


def clear() -> int:
    """Remove every entry, and return the number of bytes that were freed.

    Only the cache's own subfolders are removed; other files in the folder of `TRIM_CACHE` stay.
    """
    freed = sum(usage_bytes().values())
    for kind in KINDS:
        shutil.rmtree(cache_folder() / kind, ignore_errors=True)
    return freed - sum(usage_bytes().values())


def _shrink_if_grown(size: int, keep: Path) -> None:
    """Shrink the cache if new bytes may not fit; its size is measured once a minute, because that reads folders."""
    cache = cache_folder(), limit_bytes()
    with _measuring:
        measured, room = _room.get(cache, (-math.inf, 0))
        if size > room or time.monotonic() - measured > MEASURE_SECONDS:
            _room[cache] = time.monotonic(), shrink_to_limit(keep)
        else:
            _room[cache] = measured, room - size


def shrink_to_limit(keep: Path | None = None) -> int:
    """Remove the least recently used entries except `keep` until the cache fits; return the bytes that still fit.

    Raises:
        SettingsError: `TRIM_CACHE_LIMIT_BYTES` is not a whole number.
    """
    excess = sum(usage_bytes().values()) - limit_bytes()
    for kind in KINDS:
        for entry in _least_recently_used(cache_folder() / kind):
            abandoned = entry.name.startswith(".")
            if entry != keep and (excess > 0 or abandoned):
                excess -= _size_bytes(entry)
                _remove(entry)
    return -excess


def _least_recently_used(folder: Path) -> list[Path]:
    """Return a kind's entries, the least recently used first, without temporary ones that may still be in use."""
    now, entries = time.time(), []
    for entry in folder.glob("*"):
        with contextlib.suppress(OSError):  # removed by another process
            modified = entry.stat().st_mtime
            if not entry.name.startswith(".") or now - modified > ABANDONED_SECONDS:
                entries.append((modified, entry))
    return [entry for _, entry in sorted(entries)]


def _size_bytes(entry: Path) -> int:
    total = 0
    paths = [os.path.join(folder, name) for folder, _, names in os.walk(entry) for name in names]
    for path in paths or [str(entry)]:
        with contextlib.suppress(OSError):  # removed by another process
            total += os.stat(path).st_size
    return total


def _remove(entry: Path) -> None:
    if entry.is_dir():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)
