"""The run folder, read: a record of one pruning that needs neither the model nor a GPU nor the writer.

config.json         every setting that changes the result; the fingerprint is their hash
manifest.json       which blocks are complete: the commit point
budgets.json        the sparsity asked of each layer (whole models)
blocks/015.safetensors   arrays named LAYER/ARRAY (see `layer_record`), numbers in the metadata
events.jsonl        progress, one event a line
metrics.json        sparsities, times, perplexities
notes.json          name and note, free to edit
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from trim.cache import fingerprint
from trim.errors import RunError, SettingsError
from trim.names import closest_matches
from trim.runs.record import MASK_ARRAYS, LayerRecord, check_array, from_parts
from trim.runs.run_record import Compute, ModelFacts, RunRecord, TextFacts
from trim.runs.settings import PruneSettings

SCHEMA = 1


def runs_folder() -> Path:
    """Return the folder of the runs: `TRIM_RUNS`, or `runs` in the current folder."""
    return Path(os.environ.get("TRIM_RUNS") or "runs").expanduser()


def settings_fingerprint(settings: dict) -> str:
    """Return the hash of a run's settings and of the schema that they are written in."""
    return fingerprint({"schema": SCHEMA, "settings": settings})


@dataclass(frozen=True, eq=False)
class Run:
    """A run on disk. Its small files are read when it is opened, its blocks when they are asked for.

    Attributes:
        path: the folder.
        config: `config.json`, checked against its fingerprint.
        record: its settings, read and checked.
        manifest: `manifest.json` as it was when the run was opened.
    """

    path: Path
    config: dict
    record: RunRecord
    manifest: dict

    @property
    def id(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def kind(self) -> str:
        """Return "model", or "layer" for what was kept of an exploration."""
        return str(self.config["kind"])

    @property
    def settings(self) -> dict:
        """Everything that changes the result, as the JSON that the fingerprint is of; `record` is the same, read."""
        settings: dict = self.config["settings"]
        return settings

    @property
    def request(self) -> PruneSettings:
        """Return the user's request."""
        return self.record.request

    @property
    def model(self) -> ModelFacts:
        """The model that was pruned."""
        return self.record.model

    @property
    def text(self) -> TextFacts:
        """The calibration text."""
        return self.record.text

    @property
    def compute(self) -> Compute:
        """Return the hardware and the arithmetic that computed the run."""
        return self.record.compute

    @property
    def fingerprint(self) -> str:
        """The hash of the settings."""
        return str(self.config["fingerprint"])

    @property
    def created(self) -> str:
        """Return when the run began, ISO 8601 in UTC."""
        return str(self.config["created"])

    @property
    def complete(self) -> bool:
        """Return whether every block is complete."""
        return bool(self.manifest["complete"])

    @cached_property
    def notes(self) -> dict[str, str]:
        """`notes.json`: "name" and "note"."""
        written = read_json(self.path / "notes.json", missing={})
        return {
            "name": str(written.get("name") or self.config.get("name") or self.id),
            "note": str(written.get("note", "")),
        }

    @property
    def name(self) -> str:
        """Return the title of the run."""
        return self.notes["name"]

    @cached_property
    def budgets(self) -> dict:
        """`budgets.json`; empty for a single layer.

        Its "method", "totals" {name: weights}, "layers" {name: sparsity} and "clipped" [names].
        """
        return read_json(self.path / "budgets.json", missing={})

    @cached_property
    def metrics(self) -> dict:
        """`metrics.json`; empty until the run is complete."""
        return read_json(self.path / "metrics.json", missing={})

    def events(self) -> Iterator[dict]:
        """`events.jsonl`, in order; a line that a dying process left half written is passed over."""
        try:
            lines = (self.path / "events.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                yield event

    @property
    def blocks(self) -> list[int]:
        """The complete blocks, in order."""
        return sorted(int(index) for index in self.manifest["blocks"])

    @cached_property
    def layers(self) -> list[str]:
        """The layers of the whole blocks, in the model's order."""
        return [name for block in self.blocks for name in self.manifest["blocks"][str(block)]["layers"]]

    def block(self, index: int) -> dict[str, LayerRecord]:
        """Every layer of a block.

        Raises:
            RunError: the block is not complete, or its file is damaged.
        """
        if str(index) not in self.manifest["blocks"]:
            raise RunError(
                f"{self.path}: block {index} is not there; resume with: python -m trim resume {self.path}"
            )
        return {name: self.layer(name) for name in self.manifest["blocks"][str(index)]["layers"]}

    def layer(self, name: str, *, mask: bool = True) -> LayerRecord:
        """One layer, read and checked.

        Args:
            name: such as "15.mlp.gate_proj".
            mask: whether to read its mask and its refitted weights too, the largest part of it.

        Raises:
            RunError: no such layer in the run, or its file is damaged; the message names the file.
        """
        path, numbers = self._file_of(name), self.numbers(name)
        prefix = f"{name}/"
        try:
            with safe_open(path, "np") as file:
                arrays = {
                    key.removeprefix(prefix): file.get_tensor(key)
                    for key in file.keys()  # noqa: SIM118
                    if key.startswith(prefix) and (mask or key.removeprefix(prefix) not in MASK_ARRAYS)
                }
            for key, value in arrays.items():
                check_array(name, key, value, numbers)
            return from_parts(name, arrays, numbers)
        except (SafetensorError, OSError, RunError) as error:
            raise self._damaged(path, error) from error

    def array(self, name: str, key: str) -> np.ndarray:
        """One array of one layer, by its name in `trim.runs.record.ARRAYS`, without reading the others.

        Raises:
            RunError: no such layer or array, or a damaged file.
        """
        path, numbers = self._file_of(name), self.numbers(name)
        try:
            with safe_open(path, "np") as file:
                if f"{name}/{key}" not in file.keys():  # noqa: SIM118
                    raise RunError(f"{path} keeps no {key} of {name}")
                value: np.ndarray = file.get_tensor(f"{name}/{key}")
        except (SafetensorError, OSError) as error:
            raise self._damaged(path, error) from error
        check_array(name, key, value, numbers)
        return value

    def numbers(self, name: str) -> dict:
        """Return the numbers of one layer, such as "rows", "columns", "budget", "realised_quality" and "search".

        Raises:
            RunError: no such layer, or a damaged file.
        """
        return self._block_numbers(name.partition(".")[0], self._file_of(name))[name]

    def _block_numbers(self, block: str, path: Path) -> dict[str, dict]:
        known: dict[str, dict[str, dict]] = self.__dict__.setdefault("_numbers", {})
        if block not in known:
            try:
                with safe_open(path, "np") as file:
                    known[block] = json.loads((file.metadata() or {})["trim"])["layers"]
            except (SafetensorError, OSError, KeyError, ValueError) as error:
                raise self._damaged(path, error) from error
        return known[block]

    def _file_of(self, name: str) -> Path:
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


def open_run(path: str | Path) -> Run:
    """Open a run folder for reading.

    Raises:
        RunError: no run folder, another schema, or a damaged file; the message names the file and what to do.
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
    config = read_json(path / "config.json")
    if config.get("schema") != SCHEMA:
        raise RunError(
            f"{path / 'config.json'} is of schema {config.get('schema')!r}, and this version reads schema {SCHEMA}; "
            "open it with the version of TRIM Lab that wrote it, or prune again into another folder"
        )
    expected = {"kind": str, "settings": dict, "fingerprint": str, "created": str}
    for key, kind in expected.items():
        if not isinstance(config.get(key), kind):
            raise RunError(f"{path / 'config.json'} is damaged: {key} is missing or of the wrong type")
    if settings_fingerprint(config["settings"]) != config["fingerprint"]:
        raise RunError(
            f"{path / 'config.json'} was edited: its settings no longer match their fingerprint. Restore the file, "
            "or prune again with the new settings into another folder"
        )
    try:
        record = RunRecord.from_json(config["settings"])
    except SettingsError as error:
        raise RunError(
            f"{path / 'config.json'} cannot be read: {error}. Open the run with the version of TRIM Lab that wrote it, "
            "or prune again into another folder"
        ) from error
    manifest = read_json(path / "manifest.json")
    _check_manifest(path / "manifest.json", manifest)
    return Run(path, config, record, manifest)


def _check_manifest(path: Path, manifest: dict) -> None:
    blocks = manifest.get("blocks")
    if not (
        isinstance(manifest.get("complete"), bool)
        and isinstance(blocks, dict)
        and all(_is_block(index, entry) for index, entry in blocks.items())
    ):
        raise RunError(f"{path} is damaged; prune again into another folder")


def _is_block(index: str, entry: object) -> bool:
    """Return whether the manifest's entry of a block is valid."""
    return (
        index.isdigit()
        and isinstance(entry, dict)
        and entry.get("file") == block_file(int(index))
        and isinstance(entry.get("bytes"), int)
        and isinstance(entry.get("layers"), list)
        and all(isinstance(name, str) and name.startswith(f"{index}.") for name in entry["layers"])
    )


def block_file(index: int) -> str:
    """Return the file of a block inside the run folder."""
    return f"blocks/{index:03d}.safetensors"


@dataclass(frozen=True)
class RunEntry:
    """A run folder in a list: opened, or the reason why it cannot be."""

    path: Path
    run: Run | None
    problem: str | None


def list_runs(folder: str | Path | None = None) -> list[RunEntry]:
    """List the runs in a folder (default: `runs_folder()`), newest first; other folders are passed over."""
    folder = runs_folder() if folder is None else Path(folder)
    entries = []
    for config in sorted(folder.glob("*/config.json")):
        try:
            entries.append(RunEntry(config.parent, open_run(config.parent), None))
        except RunError as error:
            entries.append(RunEntry(config.parent, None, str(error)))
    return sorted(entries, key=lambda entry: entry.run.created if entry.run else "", reverse=True)


def read_json(path: Path, missing: dict | None = None) -> dict:
    """Read the object in a JSON file of a run.

    Args:
        path: the file.
        missing: what a missing file is read as; None: it must be there.

    Raises:
        RunError: no such file, or damaged; the message names it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if missing is not None:
            return missing
        raise RunError(
            f"{path} is missing; this is not a complete run, prune again into another folder"
        ) from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is damaged ({error}); prune again into another folder") from error
    if not isinstance(content, dict):
        raise RunError(f"{path} is damaged: it holds no JSON object; prune again into another folder")
    return content


def is_run(target: str | Path) -> bool:
    """Return whether the folder is a run's, and not a model's."""
    return (Path(target) / "manifest.json").is_file()
