"""Read run folders: the record of one pruning, which needs neither the model nor a GPU.

config.json         every setting that changes the result; the fingerprint is their hash
manifest.json       the complete blocks; a block counts once it is listed here
budgets.json        the sparsity of each layer (whole models)
blocks/015.safetensors   arrays named LAYER/ARRAY (see `record`), numbers in the metadata
events.jsonl        progress, one event a line
metrics.json        sparsities, times, perplexities
diagnoses.json      later measurements of its layers, blocks and tokens
diagnoses/          later measurements of single layers, a file for each (see `diagnosis_files`)
notes.json          name and note, free to edit
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors import SafetensorError

from trim.errors import RunError, SettingsError
from trim.models.heads import HeadLayout
from trim.names import RECOVERY_FILE, closest_matches
from trim.row_parts import RowPart, Structure
from trim.runs.block_file import BlockFile
from trim.runs.diagnosis_shapes import Diagnoses
from trim.runs.fields import read_fields
from trim.runs.json_files import damaged, read_json, read_record, unreadable
from trim.runs.listing import FolderEntry, StoredFolder, list_folders, runs_folder
from trim.runs.record import MASK_ARRAYS, LayerRecord, from_parts
from trim.runs.run_record import Compute, ModelFacts, RunRecord, TextFacts
from trim.runs.settings import PruneSettings
from trim.runs.shapes import BudgetsJson, Config, LayerRecordJson, Manifest, Metrics


@dataclass(frozen=True, eq=False)
class Run(StoredFolder):
    """A run on disk. Its small files are read when it is opened, its blocks when they are used.

    Attributes:
        path: the folder.
        config: `config.json`, checked against its fingerprint.
        record: its settings, read and checked.
        manifest: `manifest.json` as it was when the run was opened.
    """

    path: Path
    config: Config
    record: RunRecord
    manifest: Manifest

    @property
    def kind(self) -> str:
        """Return "model", or "layer" for single layers kept from the app."""
        return self.config["kind"]

    @property
    def settings(self) -> dict:
        """Return everything that changes the result, as JSON: the fingerprint is its hash, `record` its parsed form."""
        return self.config["settings"]

    @property
    def request(self) -> PruneSettings:
        """Return the user's request."""
        return self.record.request

    @property
    def model(self) -> ModelFacts:
        """Return the model that was pruned."""
        return self.record.model

    @property
    def text(self) -> TextFacts:
        """Return the calibration text."""
        return self.record.text

    @property
    def compute(self) -> Compute:
        """Return the hardware and the arithmetic that computed the run."""
        return self.record.compute

    @cached_property
    def structure(self) -> Structure:
        """Return the recorded facts about the model's blocks; empty for a run of an older version."""
        content = self.config.get("structure")
        if content is None:
            return Structure()
        parts = {
            name: tuple(RowPart(each["name"], each["rows"], tuple(each["starts"])) for each in parts)
            for name, parts in content["parts"].items()
        }
        return Structure(tuple(content["dense"]), parts)

    @property
    def heads(self) -> HeadLayout | None:
        """Return the model's attention heads; None: they are not recorded."""
        facts = self.config.get("heads")
        return (
            None if facts is None else HeadLayout.checked(facts["query"], facts["key_value"], facts["size"])
        )

    @property
    def complete(self) -> bool:
        """Return whether every block is complete."""
        return self.manifest["complete"]

    @cached_property
    def budgets(self) -> BudgetsJson:
        """Read `budgets.json`; empty for a single layer.

        Its "method", "totals" {name: weights}, "layers" {name: sparsity} and "clipped" [names].
        """
        path = self.path / "budgets.json"
        budgets = read_json(path, BudgetsJson, optional=True)
        if budgets and (missing := set(self.layers) - set(budgets.get("layers", {}))):
            raise damaged(path, f"it lacks {min(missing)}, which the run has pruned")
        return budgets

    @cached_property
    def metrics(self) -> Metrics:
        """Read `metrics.json`; empty until the run is complete."""
        return read_json(self.path / "metrics.json", Metrics, optional=True)

    @cached_property
    def diagnoses(self) -> Diagnoses:
        """Read `diagnoses.json`; keys that were never measured are missing.

        Raises:
            RunError: it is damaged.
        """
        path = self.path / "diagnoses.json"
        diagnoses = read_json(path, Diagnoses, optional=True)
        if (tokens := diagnoses.get("tokens")) is not None:
            counts = [len(each) - 1 for each in tokens["pieces"]]
            if any(counts != list(map(len, losses)) for losses in (tokens["dense"], tokens["pruned"])):
                raise damaged(path, "its tokens and losses differ in number")
        return diagnoses

    @property
    def blocks(self) -> list[int]:
        """Return the indices of the complete blocks, in order."""
        return sorted(int(index) for index in self.manifest["blocks"])

    @cached_property
    def layers(self) -> list[str]:
        """Return the names of the layers of all complete blocks, in the model's order."""
        return [name for block in self.blocks for name in self.manifest["blocks"][str(block)]["layers"]]

    def __contains__(self, layer: str) -> bool:
        """Return whether a layer of this name is in a complete block."""
        return layer in self._names

    @cached_property
    def _names(self) -> frozenset[str]:
        return frozenset(self.layers)

    def block(self, index: int) -> dict[str, LayerRecord]:
        """Read every layer of a block.

        Raises:
            RunError: the block is not complete, or its file is damaged.
        """
        if str(index) not in self.manifest["blocks"]:
            raise RunError(
                f"{self.path}: block {index} is not there; resume with: python -m trim resume {self.path}"
            )
        return {name: self.layer(name) for name in self.manifest["blocks"][str(index)]["layers"]}

    def layer(self, name: str, *, mask: bool = True) -> LayerRecord:
        """Read and check one layer.

        Args:
            name: such as "15.mlp.gate_proj".
            mask: whether to read its mask and its changed weights too, which are the largest part.

        Raises:
            RunError: no such layer in the run, or its file is damaged; the message names the file.
        """
        file = self._file_of(name)
        keys = [key for key in file.arrays[name] if mask or key not in MASK_ARRAYS]
        arrays = self._read(file, name, keys)
        try:
            return from_parts(name, arrays, file.numbers[name])
        except RunError as error:
            raise self._damaged(file.path, error) from error

    def array(self, name: str, key: str) -> np.ndarray:
        """Read one array of one layer, by its name in `trim.runs.record.ARRAYS`, without reading the others.

        Raises:
            RunError: no such layer or array, or a damaged file.
        """
        return self.arrays(name, key)[key]

    def arrays(self, name: str, *keys: str) -> dict[str, np.ndarray]:
        """Read some arrays of one layer, as `array` does.

        Raises:
            RunError: as `array`.
        """
        file = self._file_of(name)
        if missing := [key for key in keys if key not in file.arrays[name]]:
            raise RunError(f"{file.path} keeps no {missing[0]} of {name}")
        return self._read(file, name, keys)

    def _read(self, file: BlockFile, name: str, keys: Iterable[str]) -> dict[str, np.ndarray]:
        try:
            return {key: file.read(name, key) for key in keys}
        except (SafetensorError, OSError, RunError) as error:
            raise self._damaged(file.path, error) from error

    def numbers(self, name: str) -> LayerRecordJson:
        """Return the numbers of one layer, such as "rows", "columns", "budget", "realised_quality" and "search".

        Raises:
            RunError: no such layer, or a damaged file.
        """
        path, _ = self._find(name)
        return (self._numbers.get(path) or self._file_of(name).numbers)[name]

    @cached_property
    def _numbers(self) -> dict[Path, dict[str, LayerRecordJson]]:
        """The numbers of the blocks that were opened."""
        return {}

    def _find(self, name: str) -> tuple[Path, tuple[int, int]]:
        """Find the file of a layer's block, and its inode and time of change, after a check of its size."""
        if name not in self:
            raise RunError(
                f"{self.path} holds no layer {name!r}; closest names: {closest_matches(name, self.layers)}"
            )
        entry = self.manifest["blocks"][name.partition(".")[0]]
        path = self.path / entry["file"]
        try:
            status = path.stat()
        except PermissionError as error:
            raise unreadable(path, error) from error
        except OSError as error:
            raise self._damaged(path, error) from error
        if status.st_size != entry["bytes"]:
            raise self._damaged(path, f"it has {status.st_size:,} bytes instead of {entry['bytes']:,}")
        return path, (status.st_ino, status.st_mtime_ns)

    def _file_of(self, name: str) -> BlockFile:
        """Open the file of a layer's block. Only the last one stays open, so layers are best read block by block."""
        path, stamp = self._find(name)
        last: BlockFile | None = self.__dict__.get("_last_file")
        if last is None or (last.path, last.stamp) != (path, stamp):
            layers = self.manifest["blocks"][name.partition(".")[0]]["layers"]
            try:
                last = BlockFile(path, stamp, layers, self._numbers.get(path))
            except PermissionError as error:
                raise unreadable(path, error) from error
            except (SafetensorError, OSError, KeyError, ValueError) as error:
                raise self._damaged(path, error) from error
            self.__dict__["_last_file"], self._numbers[path] = last, last.numbers
        return last

    def _damaged(self, path: Path, why: object) -> RunError:
        cure = (
            f"python -m trim resume {self.path} --repair"
            if self.kind == "model"
            else "keep the layer again from the app, and delete this run"
        )
        return RunError(f"{path} is damaged: {why}. To make it again: {cure}")


def open_run(path: str | Path) -> Run:
    """Open a run folder for reading.

    Raises:
        RunError: not a run folder, another schema, or a damaged file; the message names the file and a remedy.
    """
    path = Path(path)
    if not path.is_dir():
        problem = "is a file, and a run is a folder" if path.exists() else "does not exist"
        listed = runs_folder()
        way = (
            f"list the runs here with: python -m trim inspect {listed}"
            if listed.is_dir()
            else "check the path"
        )
        raise RunError(f"{path} {problem}; {way}")
    if (path / RECOVERY_FILE).is_file():
        raise RunError(f"{path} is a recovery, and this needs a run; name the run that it was made from")
    if (path / "sweep.json").is_file():
        raise RunError(
            f"{path} is a sweep; name one of its runs in {path / 'cells'}. To resume the sweep: python -m trim sweep "
            f"--resume {path}"
        )
    if not (path / "config.json").is_file():
        raise RunError(
            f"{path} is not a run: it holds no config.json. A run is what `python -m trim prune … --out {path}` writes"
        )
    file = path / "config.json"
    config = read_record(file, Config, "prune again")
    try:
        record = read_fields(RunRecord, config["settings"], "settings")
    except SettingsError as error:
        raise RunError(
            f"{file} cannot be read: {error}. Open the run with the version of TRIM Lab that wrote it, "
            "or prune again into another folder"
        ) from error
    manifest = read_json(path / "manifest.json", Manifest)
    for index, entry in manifest["blocks"].items():
        names = entry["layers"]
        own = all(name.startswith(f"{index}.") for name in names)
        files = (block_file(int(index)), block_file(int(index), again=True))
        if entry["file"] not in files or not own or len(set(names)) < len(names):
            raise damaged(path / "manifest.json", f"its entry for block {index} is invalid")
    return Run(path, config, record, manifest)


def block_file(index: int, *, again: bool = False) -> str:
    """Return the file of a block inside the run folder; two names alternate each time that it is written `again`."""
    return f"blocks/{index:03d}{'.2' if again else ''}.safetensors"


def list_runs(folder: str | Path | None = None) -> list[FolderEntry[Run]]:
    """List the runs in a folder (default: `runs_folder()`), newest first; other folders are ignored."""
    return list_folders(folder, "config.json", open_run)


def is_run(target: str | Path) -> bool:
    """Return whether the folder is that of a run."""
    return (Path(target) / "manifest.json").is_file()
