"""Check that a run, a recovery or a sweep can begin in a folder, before anything slow is done for it."""

import errno
import os
from collections.abc import Collection
from pathlib import Path

from trim.errors import RunError
from trim.files import is_temporary, remedy
from trim.runs.folder import Run, open_run
from trim.runs.json_files import settings_fingerprint

# The files that a folder may contain before a run begins in it.
_ALLOWED_BEFORE = {"lock", ".lock", "manifest.json", "notes.json", ".gitignore", ".DS_Store"}


def require_writable(path: Path) -> None:
    """Require a folder that can be written to, or can be made; nothing is made here.

    Raises:
        RunError: it is a file, or may not be written to.
    """
    nearest = next(each for each in (path, *path.absolute().parents) if os.path.lexists(each))
    if not nearest.is_dir():
        inside = "" if nearest == path else f", so {path} cannot be made"
        raise RunError(f"{nearest} is a file, not a folder{inside}; choose another folder")
    if not _may_write(nearest):
        denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        raise RunError(f"{path} cannot be written to ({denied.strerror}); {remedy(denied)}")


def require_storable(path: Path) -> None:
    """Require a run's or a recovery's folder in which measurements can be stored.

    Raises:
        RunError: it may not be written to.
    """
    if not _may_write(path):
        raise RunError(
            f"what is measured cannot be stored in {path} ({os.strerror(errno.EACCES)}); make it writable for you, or "
            "measure a copy of it"
        )


def _may_write(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


def require_free(path: Path, request: dict) -> None:
    """Require a folder in which a run with these options can begin; nothing is made here.

    Raises:
        RunError: it cannot be written to, holds a run already, or is not empty.
    """
    require_writable(path)
    if (path / "config.json").is_file():
        run = open_run(path)
        raise occupied_error(run, {**run.settings, "request": request})
    require_empty(path)


def require_empty(path: Path, allowed: Collection[str] = _ALLOWED_BEFORE) -> None:
    """Require a folder without other files than those `allowed`; a missing one is empty.

    Temporary files of a killed process do not count: whoever begins there removes them.

    Raises:
        RunError: it holds others.
    """
    names = sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []
    if foreign := [name for name in names if name not in allowed and not is_temporary(name)]:
        raise RunError(f"{path} is not empty (it holds {foreign[0]}); choose another folder")


def occupied_error(run: Run, settings: dict) -> RunError:
    """Return the error that explains why a run with these settings cannot begin in the folder of another."""
    if run.fingerprint == settings_fingerprint(settings):
        state = "complete" if run.complete else "not complete"
        return RunError(
            f"{run.path} contains this very run already, {state}; resume with: python -m trim resume {run.path}"
        )
    before, after = _flat(run.settings), _flat(settings)
    different = sorted(key for key in before | after if before.get(key) != after.get(key))
    return RunError(
        f"{run.path} holds a run with other settings ({', '.join(different[:6])}); it is not overwritten. "
        "Choose another folder with --out"
    )


def _flat(settings: dict, prefix: str = "") -> dict:
    flat: dict[str, object] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
