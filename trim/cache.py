"""Where things that can be made again are kept: dequantized models and captured activations.

The folder is `TRIM_CACHE`, or `trim-lab` in the user's cache folder. Entries are folders that appear whole (written
under a temporary name, then renamed); the least recently used captures go when the cache outgrows
`TRIM_CACHE_LIMIT_BYTES`.
"""

import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from trim.errors import SettingsError

DEFAULT_LIMIT_BYTES = 20 * 2**30


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
    if not text.isdigit():
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
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield temporary
        with contextlib.suppress(OSError):  # somebody else's entry of the same name stands already
            temporary.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def size_bytes() -> int:
    """What the cache holds now."""
    return sum(path.stat().st_size for path in cache_folder().rglob("*") if path.is_file())


def clear() -> int:
    """Remove everything in the cache; returns the bytes that were freed."""
    freed = size_bytes()
    shutil.rmtree(cache_folder(), ignore_errors=True)
    return freed


def shrink_to_limit(kind: str, keep: Path) -> None:
    """Remove the least recently used entries of one kind, but not `keep`, until the cache is under its limit."""
    entries = sorted((cache_folder() / kind).glob("[!.]*"), key=lambda entry: entry.stat().st_mtime)
    excess = size_bytes() - limit_bytes()
    for entry in entries:
        if excess <= 0:
            return
        if entry != keep:
            excess -= sum(path.stat().st_size for path in entry.rglob("*") if path.is_file())
            shutil.rmtree(entry, ignore_errors=True)
