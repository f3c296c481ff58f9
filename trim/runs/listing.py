"""The folder of the runs, and lists of the runs, recoveries or sweeps in it."""

import datetime
import os
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

from trim.errors import ForeignFolderError, RunError
from trim.runs.json_files import read_events, read_json
from trim.runs.shapes import Notes, RecordHead

_ID = re.compile(r"[^\s./\\:\0][^/\\:\0]{0,199}")


def is_run_id(text: str) -> bool:
    """Return whether a text, such as one from an address, can be the name of a run's folder and is not a path."""
    return _ID.fullmatch(text) is not None


class StoredFolder:
    """The folder of a run, a recovery or a sweep: its id, when it began, its name and note, and its events."""

    path: Path
    config: RecordHead

    @property
    def id(self) -> str:
        """Return the folder's name."""
        return self.path.name

    @property
    def created(self) -> str:
        """Return when it began, ISO 8601 in UTC."""
        return self.config["created"]

    @property
    def fingerprint(self) -> str:
        """Return the hash of its settings."""
        return self.config["fingerprint"]

    @cached_property
    def notes(self) -> dict[str, str]:
        """Read "name" and "note" of `notes.json`; the name defaults to the recorded one."""
        written = read_json(self.path / "notes.json", Notes, optional=True)
        return {
            "name": written.get("name") or self.config.get("name") or self.id,
            "note": written.get("note", ""),
        }

    @property
    def name(self) -> str:
        """Return its title."""
        return self.notes["name"]

    def events(self, *, latest_first: bool = False) -> Iterator[dict]:
        """Read the events of `events.jsonl`, in order or the latest first."""
        return read_events(self.path, latest_first=latest_first)


F = TypeVar("F", bound=StoredFolder, covariant=True)


def free_path(path: Path) -> Path:
    """Return the path, or if it is taken, the first free path with a number appended."""
    free, number = path, 2
    while free.exists():
        free, number = path.with_name(f"{path.name}-{number}"), number + 1
    return free


def new_run_path(folder: Path, name: str) -> Path:
    """Return the path of a new run: its name in plain letters, the time, and a number if that path is taken."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")[:60] or "run"
    return free_path(folder / f"{plain}-{datetime.datetime.now(datetime.UTC):%Y%m%d-%H%M%S}")


def runs_folder() -> Path:
    """Return the folder of the runs: `TRIM_RUNS`, or `runs` in the current folder."""
    return Path(os.environ.get("TRIM_RUNS") or "runs").expanduser()


@dataclass(frozen=True)
class FolderEntry(Generic[F]):
    """A folder in a list of runs or of sweeps: opened, or the reason why it cannot be."""

    path: Path
    opened: F | None
    problem: str | None


def list_folders(folder: str | Path | None, file: str, open_one: Callable[[Path], F]) -> list[FolderEntry[F]]:
    """List the folders in a folder (default: `runs_folder()`) that hold a file of this name, newest first.

    Folders of other programs, such as exported models, are left out.

    Args:
        folder: the folder to search.
        file: the file that each of them holds.
        open_one: opens one of them; raises RunError if it is damaged.
    """
    folder = runs_folder() if folder is None else Path(folder)
    entries: list[tuple[str, FolderEntry[F]]] = []
    for path in sorted(each.parent for each in folder.glob(f"*/{file}")):
        try:
            opened = open_one(path)
            entries.append((opened.created, FolderEntry(path, opened, None)))
        except ForeignFolderError:
            continue
        except RunError as error:
            entries.append(("", FolderEntry(path, None, str(error))))
    return [entry for _, entry in sorted(entries, key=lambda entry: entry[0], reverse=True)]
