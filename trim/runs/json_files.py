"""Read and write the JSON files in the folder of a run, a recovery or a sweep; what is read is checked."""

import datetime
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar, cast

from trim.cache import fingerprint
from trim.errors import ForeignFolderError, RunError, SettingsError
from trim.files import write_atomically
from trim.names import format_bytes, one_line
from trim.runs.fields import parse_json, read_value
from trim.runs.shapes import MAX_NAME_LENGTH

SCHEMA = 1
MAX_JSON_BYTES = 20_000_000

T = TypeVar("T")


def settings_fingerprint(settings: dict) -> str:
    """Return the hash of a run's settings and their schema."""
    return fingerprint({"schema": SCHEMA, "settings": settings})


def read_json(path: Path, shape: type[T], *, optional: bool = False) -> T:
    """Read a JSON file of a run.

    Args:
        path: the file.
        shape: the type of its content, such as those of `trim.runs.shapes`.
        optional: whether a missing file is an empty object; otherwise it must be there.

    Raises:
        RunError: no such file, or damaged; the message names it.
    """
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ValueError(f"it is larger than {format_bytes(MAX_JSON_BYTES)}")
        content = parse_json(path.read_bytes())
    except FileNotFoundError:
        if optional:
            return cast(T, {})
        raise RunError(
            f"{path} is missing; this is not a complete run, prune again into another folder"
        ) from None
    except PermissionError as error:
        raise unreadable(path, error) from error
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error
    return _checked(path, content, shape)


def read_record(
    file: Path, shape: type[T], again: str, hash_settings: Callable[[dict], str] = settings_fingerprint
) -> T:
    """Read the file that makes a folder a run, a recovery or a sweep, and check its schema and fingerprint.

    Args:
        file: with "schema", "fingerprint" and "settings".
        shape: the type of its content, such as those of `trim.runs.shapes`.
        again: how to make such a folder again, such as "prune again".
        hash_settings: computes the fingerprint of the settings, as they are stored.

    Raises:
        RunError: no such file, another schema, edited or damaged; the message names it.
        ForeignFolderError: the file is of another program.
    """
    content = read_json(file, dict)
    if "schema" not in content and file.name == "config.json":
        raise ForeignFolderError(
            f"{file.parent} is not a folder that TRIM Lab wrote: its {file.name} may be that of a model; choose another"
        )
    if content.get("schema") != SCHEMA:
        raise RunError(
            f"{file} is of schema {one_line(repr(content.get('schema')))}, and this version reads schema {SCHEMA}; "
            f"open it with the version of TRIM Lab that wrote it, or {again} into another folder"
        )
    record = _checked(file, content, shape)
    if hash_settings(content["settings"]) != content["fingerprint"]:
        raise RunError(
            f"{file} was edited: its settings no longer match their fingerprint. Restore the file, or {again} into "
            "another folder"
        )
    return record


def _checked(path: Path, content: object, shape: type[T]) -> T:
    try:
        return cast(T, read_value(content, shape, "it"))
    except SettingsError as error:
        raise damaged(path, error) from error


def write_json(path: Path, content: Mapping[str, object]) -> None:
    """Write a complete JSON file; NaN and infinity are refused, because other programs cannot read them."""
    write_atomically(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def update_json(target: Path, content: Mapping[str, object]) -> None:
    """Add to a JSON file; top-level keys are replaced.

    Raises:
        RunError: the file is damaged, or cannot be written.
    """
    write_json(target, {**read_json(target, dict, optional=True), **content})


def write_record(file: Path, name: str, fingerprint: str, settings: dict, **facts: object) -> None:
    """Write the file that makes a folder a run, a recovery or a sweep, as `read_record` reads it.

    Args:
        file: in the folder, which is made if it is missing.
        name: the title.
        fingerprint: the hash of the settings.
        settings: everything that changes the result.
        facts: further entries.
    """
    head = {"schema": SCHEMA, "name": one_line(name, MAX_NAME_LENGTH), "created": now()}
    write_json(file, {**head, **facts, "fingerprint": fingerprint, "settings": settings})


def now() -> str:
    """Return the time in UTC, ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def damaged(path: Path, why: object) -> RunError:
    """Return the error that a file of a run is damaged."""
    if path.name == "notes.json":
        remedy = "correct it or remove it: it holds only a name and a note"
    elif path.name == "diagnoses.json" or path.parent.name == "diagnoses":
        remedy = "remove it, and measure again with: python -m trim diagnose"
    else:
        remedy = "prune again into another folder"
    return RunError(f"{path} is damaged ({why}); {remedy}")


def unreadable(path: Path, error: PermissionError) -> RunError:
    """Return the error that a file of a run may not be read."""
    return RunError(f"{path} cannot be read ({error.strerror}); check its permissions")


def incomplete(path: Path) -> RunError:
    """Return the error that a run or a recovery is not complete."""
    return RunError(f"{path} is not complete; resume with: python -m trim resume {path}")


def read_events(path: Path, *, latest_first: bool = False) -> Iterator[dict]:
    """Read the `events.jsonl` of a folder, in order or the latest first; a line that a kill cut short is skipped."""
    try:
        with (path / "events.jsonl").open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - MAX_JSON_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return
    for line in reversed(lines) if latest_first else lines:
        try:
            event = parse_json(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            yield event
