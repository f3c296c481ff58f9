"""Bringing a run in from a zip: every path and every array is checked before anything of it is among the runs."""

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import stat
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import IO

import numpy as np
from safetensors import SafetensorError, safe_open

from app.services.runs.files import SMALL_FILES
from app.services.runs.layer import LayerView
from app.services.server.access import SEMINAR
from trim.cache import ABANDONED_SECONDS
from trim.errors import RunError
from trim.methods.choices import ALLOCATIONS, LAYER_QUALITIES, SCORES
from trim.names import format_bytes, one_line
from trim.runs.folder import Run, open_run
from trim.runs.record import LayerRecord
from trim.runs.writer import new_run_path

MOST_FILES = 2_000
MOST_BYTES = 1_000_000_000  # unpacked
MOST_RATIO = 100  # unpacked to packed; runs stay below 10
MOST_JSON_BYTES = 20_000_000
CHUNK_BYTES = 1 << 20
STAGING = ".importing"  # in the runs' folder, where a rename is atomic; nothing in it is listed as a run

_BLOCK = re.compile(r"blocks/\d{3,6}\.safetensors")
# What archivers and our own locks leave beside a run, and what an unfinished run can make again: passed over.
_LEFT_OUT = re.compile(
    r"(.*/)?(\.DS_Store|\.?lock|calibration\.safetensors|sensitivity\.safetensors)|__MACOSX/.*"
)


def import_run(file: IO[bytes], folder: Path, taken: Callable[[str], bool], name: str = "run") -> Path:
    """Unpack, check and keep a run.

    Args:
        file: the zip, seekable.
        folder: where the user's runs are.
        taken: whether an id is in use already; then the run gets another.
        name: the zip's own name, for a run that lies in it without a folder.

    Returns:
        The folder of the new run.

    Raises:
        RunError: it is not a run that can be trusted, or there is no room; the message says why. Nothing is left.
    """
    SEMINAR.require("Importing a run")
    staging = folder / STAGING
    try:
        staging.mkdir(parents=True, exist_ok=True)
        _discard_leftovers(staging)
        with tempfile.TemporaryDirectory(dir=staging) as temporary:
            path = Path(temporary) / "run"
            title = _unpack(file, path) or Path(name).stem
            try:
                check_run(path)
            except RunError as error:
                raise _refused(str(error).rstrip(".")) from error
            target = _free_place(folder, title, taken)
            os.rename(path, target)
        return target
    except (
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        zlib.error,
        EOFError,
        ValueError,
        RuntimeError,
    ) as error:
        raise _refused(f"it is damaged, or no zip ({one_line(str(error))})") from error
    except OSError as error:
        raise RunError(
            f"The run cannot be written to {folder} ({error.strerror or error}). Free some space there and import it "
            "again."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            staging.rmdir()  # unless another import is on its way


def _unpack(file: IO[bytes], path: Path) -> str:
    """Write the files of a run below `path`; returns the name of the folder that held them, "" for none."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        _check_sizes(members)
        names = {member.filename: member for member in members}
        if len(names) < len(members):
            raise _refused("it holds two files of one name")
        for member in members:
            _check_member(member)
        files = {name: member for name, member in names.items() if not member.is_dir()}
        wanted = {name: member for name, member in files.items() if not _LEFT_OUT.fullmatch(name)}
        top = _top(wanted)
        left = MOST_BYTES
        for name, member in wanted.items():
            inside = name.removeprefix(top)
            if inside not in SMALL_FILES and not _BLOCK.fullmatch(inside):
                raise _refused(f"it holds {one_line(name)!r}, which is not part of a run")
            most = min(left, MOST_JSON_BYTES) if inside in SMALL_FILES else left
            left -= _extract(archive, member, path / inside, most)
    return top.rstrip("/")


def _check_sizes(members: Collection[zipfile.ZipInfo]) -> None:
    packed = sum(member.compress_size for member in members)
    unpacked = sum(member.file_size for member in members)
    if len(members) > MOST_FILES:
        raise _refused(f"it holds {len(members):,} files, and a run at most {MOST_FILES:,}")
    if unpacked > MOST_BYTES or unpacked > max(packed, 1) * MOST_RATIO:
        raise _refused(
            f"it would unpack from {format_bytes(packed)} to {format_bytes(unpacked)}, more than any run does"
        )


def _check_member(member: zipfile.ZipInfo) -> None:
    name = member.filename
    parts = name.rstrip("/").split("/")
    if name.startswith("/") or "\\" in member.orig_filename or ":" in name or not name.isprintable():
        raise _refused(f"it holds the path {one_line(name)!r}, which would lie outside of the run")
    if any(part in ("", ".", "..") for part in parts):
        raise _refused(f"it holds the path {one_line(name)!r}, which would lie outside of the run")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _refused(f"{one_line(name)!r} in it is a link or a device, not a file")
    # Of ways to pack, the two that every archiver knows; others can be made to take any amount of memory.
    if member.flag_bits & 0x1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise _refused(f"{one_line(name)!r} in it is packed in an unusual way, or with a password")


def _top(files: Collection[str]) -> str:
    """Return the folder in which the run lies inside the zip, with its slash; "" if it lies at the top."""
    configs = [name for name in files if name.rpartition("/")[2] == "config.json"]
    if not configs:
        raise _refused("it holds no config.json, so it is not a run")
    if len(configs) > 1:
        raise _refused(f"it holds {len(configs)} runs; import them one by one")
    return configs[0].removesuffix("config.json")


def _extract(archive: zipfile.ZipFile, member: zipfile.ZipInfo, target: Path, most: int) -> int:
    """Write one file, counting what comes out rather than believing what the zip says; returns its bytes."""
    content = bytearray()
    with archive.open(member) as source:
        while chunk := source.read(CHUNK_BYTES):
            content += chunk
            if len(content) > most:
                raise _refused(f"{one_line(member.filename)!r} in it is too large for a run's")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return len(content)


def _free_place(folder: Path, title: str, taken: Callable[[str], bool]) -> Path:
    """Return the run's own id where that is free and plain, otherwise a new one."""
    if re.fullmatch(r"\w[\w.-]{0,99}", title) and not taken(title) and not (folder / title).exists():
        return folder / title
    return new_run_path(folder, title)


def _refused(why: str) -> RunError:
    return RunError(f"This zip was not imported: {why}. Nothing of it was kept.")


def _discard_leftovers(staging: Path) -> None:
    """Remove what imports left that were killed on the way."""
    for leftover in staging.iterdir():
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime > ABANDONED_SECONDS:
                shutil.rmtree(leftover)


_LAYER = re.compile(r"\d{1,4}(\.\w{1,60}){1,8}")


_ROUNDING = 1e-3  # by which a cosine may leave −1 to 1


def check_run(path: Path) -> None:
    """Read all of a run folder that nobody trusts yet.

    Raises:
        RunError: it is of another version, damaged, or says what cannot be; the message says what.
    """
    try:
        for file in path.glob("*.json"):
            _plain_json(file)
        run = open_run(path)
        _check_settings(run)
        _check_small_files(run)
        for index in run.blocks:
            _check_block(run, index)
    except RunError as error:
        raise RunError(str(error).replace(f"{path}/", "").replace(str(path), "the run")) from error
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise RunError(
            f"This run is damaged or was made by something else: {type(error).__name__}: {error}"
        ) from error


def _plain_json(file: Path) -> None:
    def no_number(word: str) -> None:
        raise RunError(
            f"{file.name} holds {word}, which is not a number; export the run again where it was made"
        )

    try:
        json.loads(file.read_text(encoding="utf-8"), parse_constant=no_number)
    except ValueError as error:
        raise RunError(f"{file.name} is damaged ({error}); export the run again where it was made") from error


def _check_settings(run: Run) -> None:
    if run.kind not in ("model", "layer"):
        raise RunError(
            f"config.json speaks of a run of kind {run.kind!r}; only models and layers are known here"
        )
    if not run.request.corpus.isprintable():
        raise RunError("config.json asks for what this version does not know")


def _check_small_files(run: Run) -> None:
    budgets = run.budgets.get("layers", {})
    if not all(_LAYER.fullmatch(name) and _is_share(value) for name, value in budgets.items()):
        raise RunError("budgets.json holds a layer or a sparsity that cannot be")
    for key in ("sparsity", "layer_sparsity"):
        if key in run.metrics and not all(
            _is_share(run.metrics[key][of]) for of in ("requested", "realised")
        ):
            raise RunError("metrics.json holds a sparsity outside 0 to 1")
    for key in ("perplexities", "dense_perplexities", "uniform_perplexities"):
        for entry in run.metrics.get(key, []):
            words, sizes = (entry["corpus"], entry["tokens_sha256"]), (entry["windows"], entry["length"])
            whole = all(isinstance(each, str) for each in words) and all(
                isinstance(each, int) for each in sizes
            )
            if not whole or float(entry["perplexity"]) < 0:
                raise RunError("metrics.json holds a perplexity that cannot be")
    for entry in run.metrics.get("continuations", []):
        if not all(isinstance(text, str) for text in (entry["prompt"], *entry["texts"].values())):
            raise RunError("metrics.json holds a continued prompt that is not text")


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1


def _check_block(run: Run, index: int) -> None:
    entry = run.manifest["blocks"][str(index)]
    file = run.path / entry["file"]
    content = file.read_bytes() if file.is_file() else b""
    if not content or len(content) != entry["bytes"]:
        raise RunError(f"{entry['file']} is missing or cut short; export the run again where it was made")
    if hashlib.sha256(content).hexdigest() != entry.get("sha256"):
        raise RunError(
            f"{entry['file']} is not what the run recorded; export the run again where it was made"
        )
    names = entry["layers"]
    if len(set(names)) < len(names) or not all(_LAYER.fullmatch(name) for name in names):
        raise RunError(f"block {index} holds a layer of a name that cannot be")
    try:
        with safe_open(file, "np") as arrays:
            strangers = {key.rpartition("/")[0] for key in arrays.keys()} - set(names)  # noqa: SIM118
    except SafetensorError as error:
        raise RunError(f"{entry['file']} is damaged: {error}") from error
    if strangers:
        raise RunError(f"{entry['file']} holds arrays of layers that the run does not name")
    for name in names:
        _check_layer(run, run.layer(name))


def _check_layer(run: Run, layer: LayerRecord) -> None:
    """Check what `layer_record` does not look at: ranges, names, and whether the parts agree with each other."""
    name = layer.name
    if not (isinstance(layer.columns, int) and layer.columns > 0 and layer.rows > 0):
        raise RunError(f"{name} is a layer without weights")
    if (
        layer.allocation not in ALLOCATIONS
        or layer.score not in SCORES
        or layer.quality_measure not in LAYER_QUALITIES
    ):
        raise RunError(f"{name} was made by a method that this version does not know")
    if not (math.isfinite(layer.budget) and 0 <= layer.budget <= 1 and isinstance(layer.vectors, int)):
        raise RunError(f"{name} has a budget or a number of vectors that cannot be")
    if any(map(math.isnan, (layer.uniform_quality, layer.realised_quality, layer.error_left or 0.0))):
        raise RunError(f"{name} has a quality that is not a number")
    for key in ("cosine_uniform", "cosine", "cosine_curve"):
        if np.abs(getattr(layer, key)).max() > 1 + _ROUNDING:
            raise RunError(f"{name}: {key} leaves the range of a cosine")
    gini = layer.gini[~np.isnan(layer.gini)]
    if gini.size and not (gini.min() >= 0 and gini.max() <= 1):
        raise RunError(f"{name}: gini leaves the range from 0 to 1")
    if layer.weight_norm.min() < 0 or (layer.sensitivity is not None and layer.sensitivity.min() < 0):
        raise RunError(f"{name}: a norm or a sensitivity is negative")
    if layer.packed_mask is not None:
        kept = np.unpackbits(layer.packed_mask, axis=1, count=layer.columns).sum(axis=1, dtype=np.int64)
        if (kept != layer.columns - layer.counts).any():
            raise RunError(f"{name}: the mask keeps other numbers of weights than the counts say")
    if layer.search is not None:
        if not 0 <= layer.search.best_iteration < layer.search.quality.shape[1]:
            raise RunError(f"{name}: the search kept an update that it did not make")
        LayerView.of(run, layer)
