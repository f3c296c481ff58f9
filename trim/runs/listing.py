"""The folder of the runs, and lists of the runs, recoveries or sweeps in it."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from trim.errors import RunError


class Dated(Protocol):
    """A run or a sweep: a folder that says when it was created."""

    @property
    def created(self) -> str:
        """When, as ISO text in UTC."""
        ...


F = TypeVar("F", bound=Dated)


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

    Args:
        folder: where they are.
        file: what each of them holds.
        open_one: opens one of them; raises RunError if it is damaged.
    """
    folder = runs_folder() if folder is None else Path(folder)
    entries: list[tuple[str, FolderEntry[F]]] = []
    for found in sorted(folder.glob(f"*/{file}")):
        try:
            opened = open_one(found.parent)
            entries.append((opened.created, FolderEntry(found.parent, opened, None)))
        except RunError as error:
            entries.append(("", FolderEntry(found.parent, None, str(error))))
    return [entry for _, entry in sorted(entries, key=lambda entry: entry[0], reverse=True)]
