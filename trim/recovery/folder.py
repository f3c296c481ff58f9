"""Write the folders of recoveries: record, text, and the state from which a stopped recovery resumes."""

import dataclasses
import json
from pathlib import Path
from typing import Self, cast

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from trim.errors import RunError
from trim.files import FolderLock, atomic_file, remove_temporary
from trim.names import RECOVERY
from trim.recovery.kept import KeptWeights
from trim.recovery.text import RecoveryText
from trim.recovery.training import Course, Training
from trim.runs.fields import parse_json, read_fields
from trim.runs.json_files import settings_fingerprint
from trim.runs.recovery import Recovery, RecoveryRecord, open_recovery
from trim.runs.writer import FolderWriter, write_record

TEXT, STATE = "text.safetensors", "state.safetensors"


class RecoveryWriter(FolderWriter):
    """Writes the folder of one recovery."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, FolderLock(path))
        remove_temporary(path)

    @classmethod
    def create(cls, path: Path, record: RecoveryRecord, text: RecoveryText, name: str) -> Self:
        """Begin a recovery in an empty folder.

        Raises:
            RunError: the folder holds something, or cannot be written.
        """
        writer = cls(path)
        try:
            harmless = {"lock", ".lock", TEXT, ".DS_Store"}
            if foreign := sorted(entry.name for entry in path.iterdir() if entry.name not in harmless):
                hint = f"; resume with: python -m trim resume {path}" if (path / RECOVERY).exists() else ""
                raise RunError(f"{path} is not empty (it holds {foreign[0]}); choose another folder{hint}")
            writer.write_text(text)
            settings = dataclasses.asdict(record)
            write_record(path / RECOVERY, name or path.name, settings_fingerprint(settings), settings)
        except BaseException:
            writer._lock.release()
            raise
        return writer

    @property
    def recovery(self) -> Recovery:
        """Return what the folder holds now."""
        return open_recovery(self.path)

    @property
    def has_state(self) -> bool:
        """Return whether there is a state to resume from."""
        return (self.path / STATE).exists()

    def write_text(self, text: RecoveryText) -> None:
        """Save the windows until the recovery is complete."""
        _save(self.path / TEXT, {key: each.int() for key, each in vars(text).items()}, {})

    def read_text(self) -> RecoveryText:
        """Read the saved windows.

        Raises:
            RunError: they are gone or damaged.
        """
        try:
            return RecoveryText(**{key: each.long() for key, each in load_file(self.path / TEXT).items()})
        except (OSError, SafetensorError, TypeError) as error:
            raise RunError(
                f"{self.path / TEXT} is damaged or gone; delete the folder and recover again"
            ) from error

    def write_state(self, training: Training) -> None:
        """Write all that further steps depend on."""
        tensors = {key: each.cpu() for key, each in training.kept.state.items()} | {"best": training.best}
        course = {"course": dataclasses.asdict(training.course), "adam_steps": training.kept.steps}
        _save(self.path / STATE, tensors, course)

    def read_state(self, kept: KeptWeights) -> tuple[Course, Tensor | None]:
        """Load the trained weights and the state of the optimizer.

        Returns:
            How far the training was, and the best weights so far; a new course and None where nothing was written.

        Raises:
            RunError: the file is damaged.
        """
        if not self.has_state:
            return Course(), None
        try:
            with safe_open(self.path / STATE, "pt") as file:
                content = cast(dict, parse_json((file.metadata() or {})["trim"]))
                course = read_fields(Course, content["course"], "course")
                kept.steps = int(content["adam_steps"])
                for key, state in kept.state.items():
                    state.copy_(file.get_tensor(key))
                best: Tensor = file.get_tensor("best")
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(
                f"{self.path / STATE} is damaged; remove it, and the recovery starts again with: python -m trim resume "
                f"{self.path}"
            ) from error
        kept.write(kept.values)
        return course, best

    def finish(self) -> Recovery:
        """Remove the files that only a resumed recovery needs."""
        for name in (STATE, TEXT):
            (self.path / name).unlink(missing_ok=True)
        return self.recovery


def has_leftovers(path: Path) -> bool:
    """Return whether a complete recovery still holds what it resumed from: it was killed at its very end."""
    return any((path / name).exists() for name in (STATE, TEXT))


def _save(path: Path, tensors: dict[str, Tensor], facts: dict) -> None:
    with atomic_file(path) as file:
        held = {key: each.contiguous() for key, each in tensors.items()}
        save_file(held, file.name, {"trim": json.dumps(facts)})
