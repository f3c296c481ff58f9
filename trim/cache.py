"""Where things are kept between uses: dequantized models, captured activations, checksums, what budgets are made of,
runs that come with the app, texts that users brought.

The folder is `TRIM_CACHE`, or `trim-lab` in the user's cache folder. Entries appear whole (written under a
temporary name, then renamed), so processes may share a cache. The least recently used entries go when the cache
outgrows `TRIM_CACHE_LIMIT_BYTES`.
"""

import contextlib
import hashlib
import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from trim.errors import SettingsError

DEFAULT_LIMIT_BYTES = 20 * 2**30
# In the order in which room is made: a forward pass is cheaper than half a minute of dequantizing, and a text that a
# user brought cannot be made again.
KINDS = ("checksums", "shipped", "captures", "budgets", "models", "texts")
ABANDONED_SECONDS = 24 * 3600  # after this, a temporary file or folder is what a killed process left


def cache_folder() -> Path:
    """The cache's folder; not created here."""
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
    """How large the cache may grow.

    Raises:
        SettingsError: `TRIM_CACHE_LIMIT_BYTES` is no whole number.
    """
    text = os.environ.get("TRIM_CACHE_LIMIT_BYTES", str(DEFAULT_LIMIT_BYTES))
    if not text.isdecimal():
        raise SettingsError(f"TRIM_CACHE_LIMIT_BYTES must be a whole number of bytes, not {text!r}")
    return int(text)


def fingerprint(settings: dict) -> str:
    """32 hex digits that differ when any setting differs; the settings must be plain JSON."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its name when the block ends well and goes away when it does not.

    An entry that another process finished first is kept.

    Raises:
        OSError: the folder cannot be made or renamed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield temporary
        try:
            temporary.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def new_file(target: Path) -> Iterator[Path]:
    """A temporary path beside `target` that replaces it when the block ends well and goes away when it does not.

    Raises:
        OSError: the file cannot be made or renamed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}-", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def touch(entry: Path) -> None:
    """Mark an entry as used just now; one that another process removed meanwhile is no matter."""
    with contextlib.suppress(OSError):
        os.utime(entry)


def file_sha256(path: Path) -> str:
    """The sha256 of a file, 64 hex digits; remembered until the file's size or time changes.

    Raises:
        OSError: the file cannot be read.
    """
    status = path.stat()
    known_by = fingerprint(
        {"path": str(path.resolve()), "bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
    )
    remembered = cache_folder() / "checksums" / known_by
    with contextlib.suppress(OSError, ValueError):
        text = remembered.read_text(encoding="ascii")
        if len(text) == 64 and int(text, 16) >= 0:
            return text
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    with contextlib.suppress(OSError), new_file(remembered) as temporary:
        temporary.write_text(sha256, encoding="ascii")
    return sha256


def usage_bytes() -> dict[str, int]:
    """What each kind of entry takes on the disk now, by kind."""
    return {kind: _size_bytes(cache_folder() / kind) for kind in KINDS}


def clear() -> int:
    """Remove every entry; returns the bytes that were freed.

    Only the cache's own subfolders go: a `TRIM_CACHE` that points to a folder with other things in it keeps them.
    """
    freed = sum(usage_bytes().values())
    for kind in KINDS:
        shutil.rmtree(cache_folder() / kind, ignore_errors=True)
    return freed - sum(usage_bytes().values())


def shrink_to_limit(keep: Path | None = None) -> None:
    """Remove the least recently used entries, but not `keep`, until the cache is under its limit.

    Raises:
        SettingsError: `TRIM_CACHE_LIMIT_BYTES` is no whole number.
    """
    excess = sum(usage_bytes().values()) - limit_bytes()
    for kind in KINDS:
        for entry in _least_recently_used(cache_folder() / kind):
            abandoned = entry.name.startswith(".")
            if entry != keep and (excess > 0 or abandoned):
                excess -= _size_bytes(entry)
                _remove(entry)


def _least_recently_used(folder: Path) -> list[Path]:
    """A kind's entries, the one unused for longest first; of temporary ones only those that nobody writes any more."""
    now, found = time.time(), []
    for entry in folder.glob("*"):
        with contextlib.suppress(OSError):  # removed by another process
            modified = entry.stat().st_mtime
            if not entry.name.startswith(".") or now - modified > ABANDONED_SECONDS:
                found.append((modified, entry))
    return [entry for _, entry in sorted(found)]


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


def remembered(key: dict, measure: Callable[[], list[float]]) -> list[float]:
    """Numbers that were measured before under this key, or are measured now; NaN is a number here.

    Where the cache cannot be read or written, they are measured again each time.

    Args:
        key: everything that they depend on, as plain JSON.
        measure: does the work.
    """
    path = cache_folder() / "budgets" / f"{fingerprint(key)}.json"
    with contextlib.suppress(OSError, ValueError, TypeError):
        known = [math.nan if value is None else float(value) for value in json.loads(path.read_text("utf-8"))]
        touch(path)
        return known
    measured = measure()
    plain = [None if math.isnan(value) else value for value in measured]
    with contextlib.suppress(OSError), new_file(path) as temporary:
        temporary.write_text(json.dumps(plain), encoding="utf-8")
    return measured
