"""Read the folders of recoveries: settings, models and progress of a training; needs neither the model nor torch.

recovery.json       every setting that changes the result; the pruned model, the dense model and the text
metrics.json        the curve of the held-out loss, steps, seconds, sparsity, perplexities
moved.safetensors   the relative change of each row's kept weights, (D,) by layer
events.jsonl        progress, one event a line
notes.json          name and note, free to edit
model/              the recovered model, which plain `transformers` loads
state.safetensors, text.safetensors    for resuming; removed when the recovery is complete
"""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, TypedDict

import numpy as np
from safetensors import SafetensorError, safe_open

from trim.errors import RunError, SettingsError
from trim.names import RECOVERED_FOLDER, RECOVERY_FILE
from trim.runs.fields import Limits, read_fields
from trim.runs.folder import Run, open_run
from trim.runs.json_files import damaged, incomplete, read_json, read_record
from trim.runs.listing import FolderEntry, StoredFolder, list_folders
from trim.runs.recover_settings import RecoverSettings
from trim.runs.run_record import Compute, ModelFacts
from trim.runs.shapes import Count, PerplexityEntry, RecordHead, Share

MOVED_FILE = "moved.safetensors"
_ALWAYS = {"curve", "best", "steps", "training_seconds"}  # keys of metrics.json after the first measurement
_LAYER = re.compile(r"[0-9]{1,4}\..{1,200}")


@dataclass(frozen=True)
class RecoveryTextFacts:
    """The text of a recovery: windows of `length` tokens to train on and held out, and those of the dense model."""

    corpus: str
    sha256: str
    length: int
    windows: int
    held_out: int


@dataclass(frozen=True)
class RecoveryRecord:
    """Everything that changes the result of a recovery.

    Attributes:
        request: the requested settings.
        sparse: the pruned model, a run's folder or a checkpoint.
        run: the fingerprint of the run; None: it is a checkpoint.
        pruned: the pruned model's title, and the fingerprint of its weights (for a run, of the dense model's).
        parent: the dense model, a source for `load_model`.
        dense: the dense model's title, and the fingerprint of its weights.
        text: the text of the training.
        compute: the hardware and the arithmetic.
        versions: the versions of Python and the libraries.
    """

    request: RecoverSettings
    sparse: str
    run: str | None
    pruned: ModelFacts
    parent: str
    dense: ModelFacts
    text: RecoveryTextFacts
    compute: Compute
    versions: dict[str, str]


class HeldOut(TypedDict):
    """The losses on the held-out windows at one time: nats per token to the dense model, and of the text itself."""

    step: Count
    seconds: Annotated[float, Limits(0)]
    divergence: float
    perplexity: float


class ZeroCounts(TypedDict):
    """The zeros among the weights of the blocks' matrices, and the kept weights that the files' type rounds to 0."""

    zeros: Count
    of: Count
    rounded: Count


class RecoveryMetrics(TypedDict, total=False):
    """`metrics.json` of a recovery."""

    curve: list[HeldOut]
    best: Count
    steps: Count
    tokens: Count
    sampled: Count
    restarts: list[Count]
    seconds: Annotated[float, Limits(0)]
    training_seconds: Annotated[float, Limits(0)]
    sparsity: Share
    weights: ZeroCounts
    trained: Count
    perplexities: list[PerplexityEntry]
    dense_perplexities: list[PerplexityEntry]


class RecoveryConfig(RecordHead):
    """`recovery.json`."""

    settings: dict


@dataclass(frozen=True, eq=False)
class Recovery(StoredFolder):
    """A recovery on disk.

    Attributes:
        path: the folder.
        config: `recovery.json`, checked against its fingerprint.
        record: everything that changes its result, read and checked.
    """

    path: Path
    config: RecoveryConfig
    record: RecoveryRecord

    @property
    def model(self) -> Path:
        """Return the folder of the recovered model, which exists once it is complete, and not in an imported zip."""
        return self.path / RECOVERED_FOLDER

    @property
    def has_model(self) -> bool:
        """Return whether the recovered model can be loaded."""
        return self.complete and (self.model / "config.json").is_file()

    @property
    def complete(self) -> bool:
        """Return whether the training has ended: its sparsity and seconds are written last."""
        return self.metrics.keys() >= {"sparsity", "seconds"}

    @cached_property
    def metrics(self) -> RecoveryMetrics:
        """Read `metrics.json`; empty until the first held-out loss.

        Raises:
            RunError: damaged, or it contradicts itself.
        """
        path = self.path / "metrics.json"
        metrics = read_json(path, RecoveryMetrics, optional=True)
        curve = metrics.get("curve", [])
        if (curve or "sparsity" in metrics) and (
            not metrics.keys() >= _ALWAYS or metrics["best"] >= len(curve)
        ):
            raise damaged(path, "its curve of the held-out losses is not complete")
        return metrics

    def rows_moved(self) -> dict[str, np.ndarray]:
        """Read ‖ŵ − w‖ / ‖w‖ over the kept weights of each row, (D,) float32 by layer; NaN for a row without any.

        Raises:
            RunError: the recovery is not complete, or its file is damaged.
        """
        path = self.path / MOVED_FILE
        try:
            with safe_open(path, "np") as file:
                moved = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if not moved or any(
                not _LAYER.fullmatch(name) or rows.ndim != 1 or rows.dtype != np.float32
                for name, rows in moved.items()
            ):
                raise ValueError("it must contain float32 vectors by the names of layers")
            return moved
        except (OSError, SafetensorError, ValueError, TypeError) as error:
            if not self.complete:
                raise incomplete(self.path) from error
            raise damaged(path, error) from error


def is_recovery(target: str | Path) -> bool:
    """Return whether the folder is a recovery's."""
    return (Path(target) / RECOVERY_FILE).is_file()


def open_recovery(path: str | Path) -> Recovery:
    """Open the folder of a recovery for reading.

    Raises:
        RunError: no such folder, another schema, or a damaged file; the message names the file and what to do.
    """
    path = Path(path)
    if not is_recovery(path):
        raise RunError(
            f"{path} is not a recovery: it holds no {RECOVERY_FILE}. `python -m trim recover RUN` writes one"
        )
    file = path / RECOVERY_FILE
    config = read_record(file, RecoveryConfig, "recover again")
    try:
        record = read_fields(RecoveryRecord, config["settings"], "settings")
    except SettingsError as error:
        raise damaged(file, error) from error
    return Recovery(path, config, record)


def open_stored(path: str | Path) -> Run | Recovery:
    """Open the folder of a run or of a recovery for reading.

    Raises:
        RunError: as `open_recovery`, or `open_run`.
    """
    return open_recovery(path) if is_recovery(path) else open_run(path)


def list_recoveries(folder: str | Path | None = None) -> list[FolderEntry[Recovery]]:
    """List the recoveries in a folder (default: `runs_folder()`), newest first."""

    def read(path: Path) -> Recovery:
        recovery = open_recovery(path)
        _ = recovery.notes, recovery.metrics  # read now, so that a damaged one shows here
        return recovery

    return list_folders(folder, RECOVERY_FILE, read)
