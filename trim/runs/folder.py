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

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
from safetensors import SafetensorError, safe_open

from trim.errors import RunError, SettingsError
from trim.models.heads import HeadLayout
from trim.names import closest_matches
from trim.row_parts import RowPart, Structure
from trim.runs.fields import parse_json, read_fields, read_value
from trim.runs.json_files import damaged, read_json, read_record
from trim.runs.listing import FolderEntry, StoredFolder, list_folders, runs_folder
from trim.runs.record import MASK_ARRAYS, LayerRecord, check_array, from_parts
from trim.runs.run_record import Compute, ModelFacts, RunRecord, TextFacts
from trim.runs.settings import PruneSettings
from trim.runs.shapes import (
    BlockNumbers,
    BudgetFacts,
    Config,
    Diagnoses,
    LayerNumbers,
    Manifest,
    Metrics,
)


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
    def budgets(self) -> BudgetFacts:
        """Read `budgets.json`; empty for a single layer.

        Its "method", "totals" {name: weights}, "layers" {name: sparsity} and "clipped" [names].
        """
        path = self.path / "budgets.json"
        budgets = read_json(path, BudgetFacts, optional=True)
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
        path, numbers = self._file_of(name), self.numbers(name)
        try:
            file = self._block_file(path)
            arrays = {
                key: file.content.get_tensor(f"{name}/{key}")
                for key in file.arrays[name]
                if mask or key not in MASK_ARRAYS
            }
            for key, value in arrays.items():
                check_array(name, key, value, numbers)
            return from_parts(name, arrays, numbers)
        except (SafetensorError, OSError, RunError) as error:
            raise self._damaged(path, error) from error

    def array(self, name: str, key: str) -> np.ndarray:
        """Read one array of one layer, by its name in `trim.runs.record.ARRAYS`, without reading the others.

        Raises:
            RunError: no such layer or array, or a damaged file.
        """
        path, numbers = self._file_of(name), self.numbers(name)
        try:
            file = self._block_file(path)
            if key not in file.arrays[name]:
                raise RunError(f"{path} keeps no {key} of {name}")
            value: np.ndarray = file.content.get_tensor(f"{name}/{key}")
        except (SafetensorError, OSError) as error:
            raise self._damaged(path, error) from error
        check_array(name, key, value, numbers)
        return value

    def numbers(self, name: str) -> LayerNumbers:
        """Return the numbers of one layer, such as "rows", "columns", "budget", "realised_quality" and "search".

        Raises:
            RunError: no such layer, or a damaged file.
        """
        return self._block_numbers(name.partition(".")[0], self._file_of(name))[name]

    def _block_numbers(self, block: str, path: Path) -> dict[str, LayerNumbers]:
        """Read the numbers of all layers of a block once; the file must have the layers of the manifest."""
        cached: dict[str, dict[str, LayerNumbers]] = self.__dict__.setdefault("_numbers", {})
        if block not in cached:
            try:
                file = self._block_file(path)
                text = (file.content.metadata() or {})["trim"]
                numbers = cast(BlockNumbers, read_value(parse_json(text), BlockNumbers, path.name))["layers"]
                if not set(self.manifest["blocks"][block]["layers"]) == set(numbers) == file.arrays.keys():
                    raise ValueError("its layers are not those of the manifest")
            except (SafetensorError, OSError, KeyError, ValueError) as error:
                raise self._damaged(path, error) from error
            cached[block] = numbers
        return cached[block]

    def _block_file(self, path: Path) -> "_BlockFile":
        """Open the file of a block; the last one stays open, because a block may have hundreds of layers."""
        status = path.stat()
        stamp = path, status.st_ino, status.st_mtime_ns
        last: _BlockFile | None = self.__dict__.get("_last_file")
        if last is None or last.stamp != stamp:
            last = self.__dict__["_last_file"] = _BlockFile(stamp)
        return last

    def _file_of(self, name: str) -> Path:
        """Return the file of a layer's block, after a check of its size."""
        block = name.partition(".")[0]
        entry = self.manifest["blocks"].get(block)
        if entry is None or name not in entry["layers"]:
            raise RunError(
                f"{self.path} holds no layer {name!r}; closest names: {closest_matches(name, self.layers)}"
            )
        path: Path = self.path / entry["file"]
        try:
            size = path.stat().st_size
        except OSError as error:
            raise self._damaged(path, error) from error
        if size != entry["bytes"]:
            raise self._damaged(path, f"it has {size:,} bytes instead of {entry['bytes']:,}")
        return path

    def _damaged(self, path: Path, why: object) -> RunError:
        cure = (
            f"python -m trim resume {self.path} --repair"
            if self.kind == "model"
            else "keep the layer again from the app, and delete this run"
        )
        return RunError(f"{path} is damaged: {why}. To make it again: {cure}")


class _BlockFile:
    """An open file of a block.

    Attributes:
        stamp: its path, inode and time of change, which tell when the file was replaced.
        content: its tensors.
        arrays: the names of each layer's arrays.
    """

    def __init__(self, stamp: tuple[Path, int, int]) -> None:
        self.stamp = stamp
        self.content = safe_open(stamp[0], "np")
        self.arrays: dict[str, list[str]] = {}
        for key in self.content.keys():  # noqa: SIM118
            name, _, array = key.rpartition("/")
            self.arrays.setdefault(name, []).append(array)


def open_run(path: str | Path) -> Run:
    """Open a run folder for reading.

    Raises:
        RunError: not a run folder, another schema, or a damaged file; the message names the file and a remedy.
    """
    path = Path(path)
    if not path.is_dir():
        raise RunError(
            f"{path} is not a folder; list the runs here with: python -m trim inspect {runs_folder()}"
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
