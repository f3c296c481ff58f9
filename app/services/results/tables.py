"""Read the numbers for heat maps of runs. Blocks are cached once read."""

import math
from dataclasses import replace
from functools import lru_cache

import numpy as np

from app.services.server.lru import SharedCache
from diagnostics.model_map import LayerFacts, ModelMap, layer_facts, row_agreement
from diagnostics.sensitivity import LayerRows
from trim.errors import RunError
from trim.methods.agreement import iou
from trim.runs.folder import Run

BLOCK_CACHE_SIZE, RUN_CACHE_SIZE = 1024, 64
_MAP_ARRAYS = ("counts", "gini", "cosine_uniform", "cosine", "dead_rows")
_facts: SharedCache[tuple, tuple[LayerFacts, ...]] = SharedCache(BLOCK_CACHE_SIZE)
_maps: SharedCache[tuple[Run, str], ModelMap] = SharedCache(RUN_CACHE_SIZE)


def model_map(run: Run, label: str = "") -> ModelMap:
    """Return the map of a run as it was when it was opened, complete or not; `label` replaces its name.

    Raises:
        RunError: a file of it is damaged.
    """

    def make() -> ModelMap:
        layers = [facts for block in run.blocks for facts in _block_facts(run, block)]
        budgets = run.budgets.get("layers") or {}
        planned = tuple(budgets) or tuple(run.layers)
        return ModelMap(label or run.name, planned, tuple(layers), run.request.layer_quality)

    return _maps.get((run, label), make)


def _block_facts(run: Run, block: int) -> tuple[LayerFacts, ...]:
    entry = run.manifest["blocks"][str(block)]
    key = (run.path, run.created, block, entry.get("sha256"), entry["bytes"])
    return _facts.get(key, lambda: tuple(_layer_facts(run, name) for name in entry["layers"]))


def _layer_facts(run: Run, name: str) -> LayerFacts:
    numbers = run.numbers(name)
    search, changed = numbers.get("search"), "error_left" in numbers
    arrays = run.arrays(name, *_MAP_ARRAYS, *(["row_moved"] if changed else []))
    pruned = int(arrays["counts"].sum(dtype=np.int64))
    return layer_facts(
        name,
        gini=arrays["gini"],
        layer_sparsity=pruned / (numbers["rows"] * numbers["columns"]),
        qualities=(float(numbers["uniform_quality"]), float(numbers["realised_quality"])),
        cosines=(arrays["cosine_uniform"], arrays["cosine"]),
        dead_rows=arrays["dead_rows"],
        learning_rate=None if search is None else search["learning_rate"],
        searched=search is not None,
        error_left=float(numbers["error_left"]) if changed else None,
        row_moved=arrays.get("row_moved"),
        tokens=numbers.get("tokens"),
    )


def agreement_map(run: Run, other: Run) -> ModelMap:
    """Return the map of a run, with the agreement of its row sparsities with those of another run of the model.

    Raises:
        RunError: a file of either is damaged.
    """
    shown = model_map(run, other.name)
    layers = []
    for facts in shown.layers:
        if facts.name in other:
            both = [each.array(facts.name, "counts") for each in (run, other)]
            if both[0].shape == both[1].shape:
                facts = replace(facts, row_agreement=row_agreement(*both))
        layers.append(facts)
    return replace(shown, layers=tuple(layers))


_ROW_ARRAYS = (*_MAP_ARRAYS, "weight_norm")


def row_columns(run: Run) -> dict[str, np.ndarray]:
    """Return a line for each row of every finished layer, in the model's order.

    Raises:
        RunError: a file of the run is damaged or gone.
    """
    columns: dict[str, list[np.ndarray]] = {}
    for name in run.layers:
        numbers = run.numbers(name)
        arrays = run.arrays(name, *_ROW_ARRAYS)  # first: it checks what the numbers say
        rows = numbers["rows"]
        part = {
            "layer": np.full(rows, name),
            "row": np.arange(rows),
            "weights": np.full(rows, numbers["columns"]),
            **arrays,
        }
        part["row_sparsity"] = part["counts"] / numbers["columns"]
        for key, values in part.items():
            columns.setdefault(key, []).append(values)
    return {key: np.concatenate(parts) for key, parts in columns.items()}


@lru_cache(RUN_CACHE_SIZE)
def layer_that_gains_most(run: Run) -> str:
    """Return the layer whose quality rose most above that of uniform.

    Raises:
        RunError: a file of the run is damaged or gone.
    """

    def gain(name: str) -> float:
        numbers = run.numbers(name)
        gained = float(numbers["realised_quality"]) - float(numbers["uniform_quality"])
        return -math.inf if math.isnan(gained) else gained

    return max(run.layers, key=gain)


@lru_cache(RUN_CACHE_SIZE)
def has_sensitivities(run: Run) -> bool:
    """Return whether the run stored the sensitivities of its rows."""
    try:
        return bool(run.layers) and run.array(run.layers[0], "sensitivity").size > 0
    except RunError:
        return False


def sensitivity_rows(run: Run, measured: Run) -> list[LayerRows]:
    """Return the rows of the layers of a run, with the sensitivities that a run of the same model measured.

    Raises:
        RunError: a file of either is damaged or gone.
    """
    return [
        LayerRows(
            name,
            run.array(name, "gini"),
            measured.array(name, "sensitivity"),
            run.array(name, "counts") / run.numbers(name)["columns"],
        )
        for name in run.layers
        if name in measured
    ]


def masks_by_layer(run: Run, other: Run) -> dict[str, float]:
    """Return by layer the share of weights that both runs keep among those that either keeps.

    Raises:
        RunError: one of them was kept without masks, or a file of it is damaged.
    """
    shares = {}
    for name in run.layers:
        if name in other:
            one, another = (each.array(name, "packed_mask") for each in (run, other))
            if one.shape != another.shape:
                raise RunError(f"{name} has another shape in the other run")
            both, either = (
                np.bitwise_count(bits).sum(dtype=np.int64) for bits in (one & another, one | another)
            )
            shares[name] = float(iou(both, either))
    return shares
