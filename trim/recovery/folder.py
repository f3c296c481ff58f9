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
from trim.names import RECOVERY_FILE
from trim.recovery.kept import KeptWeights
from trim.recovery.text import RecoveryText
from trim.recovery.training import Training, TrainingState
from trim.runs.fields import parse_json, read_fields
from trim.runs.json_files import settings_fingerprint, write_record
from trim.runs.places import require_empty, require_writable
from trim.runs.recovery import Recovery, RecoveryRecord, open_recovery
from trim.runs.writer import FolderWriter

TEXT_FILE, STATE_FILE = "text.safetensors", "state.safetensors"
# The files that a folder may contain before a recovery begins in it.
_ALLOWED_BEFORE = {"lock", ".lock", TEXT_FILE, ".DS_Store"}


class RecoveryWriter(FolderWriter):
    """Writes the folder of one recovery."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, FolderLock(path))
        remove_temporary(path)

    @classmethod
    def create(cls, path: Path, record: RecoveryRecord, text: RecoveryText, name: str) -> Self:
        """Begin a recovery in an empty folder.

        Raises:
            RunError: the folder is not empty, or cannot be written.
        """
        writer = cls(path)
        try:
            require_free(path)
            writer.write_text(text)
            settings = dataclasses.asdict(record)
            write_record(path / RECOVERY_FILE, name or path.name, settings_fingerprint(settings), settings)
        except BaseException:
            writer._lock.release()
            raise
        return writer

    @property
    def recovery(self) -> Recovery:
        """Open the recovery as it is on disk now."""
        return open_recovery(self.path)

    @property
    def has_state(self) -> bool:
        """Return whether there is a state to resume from."""
        return (self.path / STATE_FILE).exists()

    def write_text(self, text: RecoveryText) -> None:
        """Save the windows until the recovery is complete."""
        _save(self.path / TEXT_FILE, {key: each.int() for key, each in vars(text).items()}, {})

    def read_text(self) -> RecoveryText:
        """Read the saved windows.

        Raises:
            RunError: the file is missing or damaged.
        """
        try:
            tensors = load_file(self.path / TEXT_FILE)
            return RecoveryText(**{key: each.long() for key, each in tensors.items()})
        except (OSError, SafetensorError, TypeError) as error:
            raise RunError(
                f"{self.path / TEXT_FILE} is damaged or gone; delete the folder and recover again"
            ) from error

    def write_state(self, training: Training) -> None:
        """Save the trained weights, the optimizer's state and the progress of the training."""
        tensors = {key: each.cpu() for key, each in training.kept.state_dict().items()}
        facts = {"course": dataclasses.asdict(training.state), "adam_steps": training.kept.steps}
        _save(self.path / STATE_FILE, tensors | {"best": training.best}, facts)

    def read_state(self, kept: KeptWeights) -> tuple[TrainingState, Tensor | None]:
        """Load the trained weights and the state of the optimizer.

        Returns:
            The state of the training, and the best weights so far; a new state and None where nothing was saved.

        Raises:
            RunError: the file is damaged.
        """
        if not self.has_state:
            return TrainingState(), None
        try:
            with safe_open(self.path / STATE_FILE, "pt") as file:
                content = cast(dict, parse_json((file.metadata() or {})["trim"]))
                training_state = read_fields(TrainingState, content["course"], "course")
                kept.steps = int(content["adam_steps"])
                for key, tensor in kept.state_dict().items():
                    tensor.copy_(file.get_tensor(key))
                best: Tensor = file.get_tensor("best")
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(
                f"{self.path / STATE_FILE} is damaged; remove it, and the recovery starts again with: "
                f"python -m trim resume {self.path}"
            ) from error
        kept.write(kept.values)
        return training_state, best

    def finish(self) -> Recovery:
        """Remove the files that only a resumed recovery needs."""
        for name in (STATE_FILE, TEXT_FILE):
            (self.path / name).unlink(missing_ok=True)
        return self.recovery


def require_free(path: Path) -> None:
    """Require a folder in which a recovery can begin; nothing is made here.

    Raises:
        RunError: it cannot be written to, holds a recovery already, or is not empty.
    """
    require_writable(path)
    if (path / RECOVERY_FILE).exists():
        raise RunError(
            f"{path} holds a recovery already; choose another folder, or resume it with: python -m trim resume {path}"
        )
    require_empty(path, _ALLOWED_BEFORE)


def has_leftovers(path: Path) -> bool:
    """Return whether a complete recovery still has the files that `finish` removes: it was killed just before."""
    return any((path / name).exists() for name in (STATE_FILE, TEXT_FILE))


def _save(path: Path, tensors: dict[str, Tensor], facts: dict) -> None:
    with atomic_file(path) as file:
        contiguous = {key: each.contiguous() for key, each in tensors.items()}
        save_file(contiguous, file.name, {"trim": json.dumps(facts)})
