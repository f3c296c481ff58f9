"""Whether a run from elsewhere holds what a run of ours holds: every file, number and array of it."""

import hashlib
import json
import math
import re
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from app.services.runs.layer import StoredLayer
from trim.errors import RunError
from trim.methods.allocations import ALLOCATIONS
from trim.methods.quality import LAYER_QUALITIES, ROW_QUALITIES
from trim.methods.scores import SCORES
from trim.runs.folder import Run, open_run
from trim.runs.record import LayerRecord
from trim.runs.settings import PruneSettings

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
            f"{file.name} holds {word}, which is no number; export the run again where it was made"
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
    tables = [run.settings.get(key) for key in ("request", "model", "text", "compute", "versions")]
    if not all(isinstance(table, dict) for table in tables) or not isinstance(tables[1].get("title"), str):
        raise RunError("config.json lacks the settings of a run; export the run again where it was made")
    request = PruneSettings.from_json(tables[0])
    if request.row_quality not in ROW_QUALITIES or not request.corpus.isprintable():
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
            raise RunError("metrics.json holds a continued prompt that is no text")


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
    """What `layer_record` does not look at: ranges, names, and whether the parts agree with each other."""
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
        raise RunError(f"{name} has a quality that is no number")
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
        _ = StoredLayer.of(run, layer).trace
