"""The record of one layer of a run: plain NumPy, one flat set of arrays and a few numbers."""

import functools
import math
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field
from typing import Any, cast

import numpy as np

from trim.errors import RunError
from trim.runs.fields import number_to_json
from trim.runs.shapes import LayerRecordJson

CURVE_POINTS = 33


def curve_counts(columns: int) -> np.ndarray:
    """Return the numbers of pruned weights at which a row's cosine is recorded, (P,) int64, from 0 to N.

    P is 33, or N + 1 in rows of fewer than 33 weights. The points are k / N = 1 − (1 − u)² at evenly spaced u: a row's
    cosine falls steeply only towards sparsity 1, where the points are closest.
    """
    return np.array(_curve_counts(columns))


@functools.lru_cache(maxsize=64)
def _curve_counts(columns: int) -> tuple[int, ...]:
    if columns < CURVE_POINTS:
        return tuple(range(columns + 1))
    even = np.linspace(0.0, 1.0, CURVE_POINTS)
    return tuple(np.unique(np.round((1.0 - (1.0 - even) ** 2) * columns).astype(np.int64)).tolist())


@dataclass(frozen=True, eq=False)
class SearchRecord:
    """TRIM's search of one layer, with its qualities at counts rounded down, as published, and at exact counts.

    Attributes:
        learning_rate: the chosen rate; None: nothing beat uniform.
        best_iteration: the update of the chosen rate that was kept; 0 is uniform.
        tried: (rate, quality) in the order in which the published search tried them.
        layer_quality, uniform_quality: the layer's quality at the kept x, and at uniform.
        rates: (R,) float64, all rates of the settings, tried or not.
        quality, row_variance: (R, K + 1) float64, column 0 uniform, NaN where a rate was not evaluated.
        exact_quality: the same as quality, at the exact counts of each update; None: an older run.
        row_sparsity: (K + 1, D) float32, x through the iterations of the chosen rate; (1, D) if none was chosen.
    """

    learning_rate: float | None
    best_iteration: int
    tried: tuple[tuple[float, float], ...]
    layer_quality: float
    uniform_quality: float
    rates: np.ndarray = field(repr=False)
    quality: np.ndarray = field(repr=False)
    row_variance: np.ndarray = field(repr=False)
    row_sparsity: np.ndarray = field(repr=False)
    exact_quality: np.ndarray | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class LayerRecord:
    """One pruned layer of D rows and N columns.

    Attributes:
        name: such as "15.mlp.gate_proj".
        columns: N.
        budget: the sparsity that the budget requested for the layer.
        allocation: the method that set the counts: "uniform", "trim", …
        score: "wanda" or "magnitude".
        vectors: L, the number of calibration vectors from which every cosine is computed.
        quality_measure: the layer quality that is measured in the next two.
        uniform_quality, realised_quality: at the exact uniform counts, and at `counts` (the mask that was applied).
        counts: (D,) int32, pruned weights of each row.
        gini: (D,) float32 of the row's scores; NaN for a row of zeros.
        weight_norm: (D,) float32, ‖W_i‖.
        cosine_uniform, cosine: (D,) float32, the row's cosine at the uniform counts, and after pruning.
        cosine_curve: (D, P) float16, the row's cosine at `curve_counts(N)` pruned weights, lowest scores first.
        dead_rows: (D,) bool, rows without output on the calibration text.
        sensitivity: (D,) float32, the cost of an error in the row's output for the model's loss (`trim.sensitivity`);
            None unless the optimal method needed it.
        search: None unless TRIM searched.
        packed_mask: (D, ceil(N / 8)) uint8, a set bit where a weight is kept, `numpy.packbits` order; None: not stored.
        error_left: the share of the mask's output error on the calibration vectors that is left after the kept weights
            were changed (`trim.methods.refit`, `trim.methods.solve`); None: they were not changed.
        row_error_masked, row_error: (D,) float32, each row's squared output error on these vectors over its squared
            target, for the mask alone and with the changed weights; NaN for a row without output; None: not changed.
            The target is the dense output, plus the residual stream's earlier error if a solved layer writes to it.
        row_moved: (D,) float32, the relative change of the row's kept weights, ‖ŵ − w‖ / ‖w‖; NaN where they were all
            0; None: not changed.
        kept_weights: (K,) float16, the changed weights, row by row; None: not changed, or not stored.
        tokens: how many calibration tokens an expert received; None: the layer is not an expert's, and received all.

    Where a solver chose the mask too, `cosine` and `realised_quality` are those of the changed weights; after a refit
    they are those of the mask alone.

    Raises:
        RunError: arrays do not fit each other, or hold invalid numbers.
    """

    name: str
    columns: int
    budget: float
    allocation: str
    score: str
    vectors: int
    quality_measure: str
    uniform_quality: float
    realised_quality: float
    counts: np.ndarray = field(repr=False)
    gini: np.ndarray = field(repr=False)
    weight_norm: np.ndarray = field(repr=False)
    cosine_uniform: np.ndarray = field(repr=False)
    cosine: np.ndarray = field(repr=False)
    cosine_curve: np.ndarray = field(repr=False)
    dead_rows: np.ndarray = field(repr=False)
    sensitivity: np.ndarray | None = field(default=None, repr=False)
    search: SearchRecord | None = field(default=None, repr=False)
    packed_mask: np.ndarray | None = field(default=None, repr=False)
    error_left: float | None = None
    row_error_masked: np.ndarray | None = field(default=None, repr=False)
    row_error: np.ndarray | None = field(default=None, repr=False)
    row_moved: np.ndarray | None = field(default=None, repr=False)
    kept_weights: np.ndarray | None = field(default=None, repr=False)
    tokens: int | None = None
    checked: InitVar[bool] = False

    def __post_init__(self, checked: bool) -> None:
        """Check all arrays, unless they were `checked` before, together with those of other layers."""
        if not checked:
            arrays, numbers = to_parts(self)
            check_arrays(self.name, arrays, numbers)
        if self.search is not None and not self.search.best_iteration < len(self.search.row_sparsity):
            raise RunError(f"{self.name}: the best iteration of the search does not exist")

    @property
    def rows(self) -> int:
        """Return the number of rows, D."""
        return len(self.counts)

    @property
    def pruned(self) -> int:
        """Return the number of pruned weights of the layer."""
        return int(self.counts.sum(dtype=np.int64))

    @property
    def sparsity(self) -> float:
        """Return the share of the layer's weights that is pruned."""
        return self.pruned / (self.rows * self.columns)

    @property
    def row_sparsity(self) -> np.ndarray:
        """Return the share of each row's weights that is pruned, (D,) float64."""
        return self.counts / self.columns

    @property
    def uniform_counts(self) -> np.ndarray:
        """Return the counts of the uniform allocation at the same number of pruned weights, (D,) int32."""
        each, left_over = divmod(self.pruned, self.rows)
        counts = np.full(self.rows, each, dtype=np.int32)
        counts[:left_over] += 1
        return counts

    def keep(self) -> np.ndarray:
        """Unpack the mask, (D, N) bool, True where a weight is kept.

        Raises:
            RunError: the run was kept without masks.
        """
        if self.packed_mask is None:
            raise RunError(f"{self.name}: this run was kept without masks; prune again to make them")
        return np.unpackbits(self.packed_mask, axis=1, count=self.columns).view(bool)


# Name of each array: dtype, shape in terms of the layer's numbers, and whether it may hold NaN.
# D rows, B bytes of a packed row, P curve points, R rates, K1 iterations and uniform, X stored updates, K kept weights.
ARRAYS: dict[str, tuple[str, tuple[str, ...], bool]] = {
    "counts": ("int32", ("D",), False),
    "gini": ("float32", ("D",), True),
    "weight_norm": ("float32", ("D",), False),
    "cosine_uniform": ("float32", ("D",), False),
    "cosine": ("float32", ("D",), False),
    "cosine_curve": ("float16", ("D", "P"), False),
    "dead_rows": ("bool", ("D",), False),
    "sensitivity": ("float32", ("D",), False),
    "packed_mask": ("uint8", ("D", "B"), False),
    "kept_weights": ("float16", ("K",), False),
    "row_error_masked": ("float32", ("D",), True),
    "row_error": ("float32", ("D",), True),
    "row_moved": ("float32", ("D",), True),
    "search_rates": ("float64", ("R",), False),
    "search_quality": ("float64", ("R", "K1"), True),
    "search_row_variance": ("float64", ("R", "K1"), True),
    "search_row_sparsity": ("float32", ("X", "D"), False),
    "search_exact_quality": ("float64", ("R", "K1"), True),
}
# The ranges of their numbers, with a margin for rounding.
_ROUNDING = 1e-3
_RANGES = {
    "gini": (-_ROUNDING, 1 + _ROUNDING),
    "weight_norm": (0.0, math.inf),
    "sensitivity": (0.0, math.inf),
    "row_error_masked": (0.0, math.inf),
    "row_error": (0.0, math.inf),
    "row_moved": (0.0, math.inf),
} | dict.fromkeys(("cosine_uniform", "cosine", "cosine_curve"), (-1 - _ROUNDING, 1 + _ROUNDING))
_SEARCH = tuple(key for key in ARRAYS if key.startswith("search_"))
# The large arrays, which are applied to the model.
MASK_ARRAYS = ("packed_mask", "kept_weights")
# The arrays of layers whose kept weights were changed.
CHANGE_ARRAYS = ("row_error_masked", "row_error", "row_moved")
_OPTIONAL = ("sensitivity", *CHANGE_ARRAYS, *MASK_ARRAYS)
_ALWAYS = tuple(key for key in ARRAYS if key not in (*_SEARCH, *_OPTIONAL))
_NUMBERS = ("columns", "budget", "allocation", "score", "vectors", "quality_measure")
_QUALITIES = ("uniform_quality", "realised_quality")


def to_parts(record: LayerRecord) -> tuple[dict[str, np.ndarray], LayerRecordJson]:
    """Split a record into arrays by the names of `ARRAYS` and numbers that JSON can hold."""
    arrays = {key: getattr(record, key) for key in _ALWAYS}
    numbers: dict = {key: getattr(record, key) for key in _NUMBERS}
    numbers |= {key: number_to_json(getattr(record, key)) for key in _QUALITIES}
    numbers["rows"] = len(record.counts)
    if record.tokens is not None:
        numbers["tokens"] = record.tokens
    if record.error_left is not None:
        numbers["error_left"] = number_to_json(record.error_left)
        numbers["kept"] = len(record.counts) * record.columns - record.pruned
    arrays |= {key: value for key in _OPTIONAL if (value := getattr(record, key)) is not None}
    if (search := record.search) is not None:
        traces = {key: getattr(search, key.removeprefix("search_")) for key in _SEARCH}
        arrays |= {key: value for key, value in traces.items() if value is not None}
        numbers["search"] = {
            "learning_rate": search.learning_rate,
            "best_iteration": search.best_iteration,
            "tried": [(rate, number_to_json(quality)) for rate, quality in search.tried],
            "layer_quality": number_to_json(search.layer_quality),
            "uniform_quality": number_to_json(search.uniform_quality),
            "rates": len(search.rates),
            "steps": search.quality.shape[-1],
            "kept_steps": len(search.row_sparsity),
        }
    return arrays, cast(LayerRecordJson, numbers)


def from_parts(name: str, arrays: Mapping[str, np.ndarray], numbers: LayerRecordJson) -> LayerRecord:
    """Join what `to_parts` split.

    Raises:
        RunError: something is missing or does not fit.
    """
    try:
        search = None
        if (kept := numbers.get("search")) is not None:
            search = SearchRecord(
                learning_rate=kept["learning_rate"],
                best_iteration=kept["best_iteration"],
                tried=tuple((rate, float(quality)) for rate, quality in kept["tried"]),
                layer_quality=float(kept["layer_quality"]),
                uniform_quality=float(kept["uniform_quality"]),
                **{key.removeprefix("search_"): arrays[key] for key in _SEARCH if key in arrays},
            )
        values: dict[str, Any] = {key: cast(dict, numbers)[key] for key in _NUMBERS}
        values |= {key: float(cast(dict, numbers)[key]) for key in _QUALITIES}
        values |= {key: arrays[key] for key in (*_ALWAYS, *(key for key in _OPTIONAL if key in arrays))}
        if "error_left" in numbers:
            values["error_left"] = float(numbers["error_left"])
        return LayerRecord(name, search=search, tokens=numbers.get("tokens"), **values)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{name}: the record lacks a value or has a wrong one: {error}") from error


def check_arrays(name: str, arrays: Mapping[str, np.ndarray], numbers: LayerRecordJson) -> None:
    """Check the arrays of a layer, or of several layers of equal width, row after row.

    Raises:
        RunError: as for `check_array`, or the mask contradicts the counts.
    """
    for key, value in arrays.items():
        check_array(name, key, value, numbers)
    if (mask := arrays.get("packed_mask")) is not None:
        words = mask if mask.shape[1] % 8 else mask.view(np.uint64)
        kept = np.bitwise_count(words).sum(axis=1, dtype=np.int64)
        if (kept != numbers["columns"] - arrays["counts"]).any():
            raise RunError(f"{name}: the mask contradicts the counts of pruned weights")


def check_array(name: str, key: str, value: np.ndarray, numbers: LayerRecordJson) -> None:
    """Check the type, shape and range of one array.

    Raises:
        RunError: unknown name, another dtype or shape, NaN or infinity, or numbers out of range.
    """
    if key not in ARRAYS:
        raise RunError(f"{name}: unknown array {key!r}")
    dtype, letters, may_hold_nan = ARRAYS[key]
    columns = numbers["columns"]
    sizes = {
        "D": numbers["rows"],
        "B": -(-columns // 8),
        "P": len(_curve_counts(columns)),
        "K": numbers.get("kept"),
    }
    if (search := numbers.get("search")) is not None:
        sizes |= {"R": search["rates"], "K1": search["steps"], "X": search["kept_steps"]}
    expected = tuple(sizes.get(letter) for letter in letters)
    if value.dtype != np.dtype(dtype) or value.shape != expected:
        raise RunError(f"{name}: {key} is {value.dtype} {value.shape}, not {dtype} {expected}")
    least, most = (0, columns) if key == "counts" else _RANGES.get(key, (-math.inf, math.inf))
    if not value.size or (value.dtype.kind != "f" and key != "counts"):
        return
    if value.dtype.kind == "f":
        lowest, highest = _extremes(value, may_hold_nan)
        # The qualities of a noiseless layer, in decibel, are infinite by definition.
        if not key.endswith("_quality") and not (math.isfinite(lowest) and math.isfinite(highest)):
            raise RunError(f"{name}: {key} holds NaN or infinity")
    else:
        lowest, highest = value.min(), value.max()
    if math.isfinite(least) and not least <= lowest <= highest <= most:
        raise RunError(f"{name}: {key} outside {least:g} to {most:g}")


def _extremes(value: np.ndarray, may_hold_nan: bool) -> tuple[float, float]:
    """Return the smallest and the largest number of an array: NaN if it holds one, unless NaN is allowed."""
    if value.dtype == np.float16:
        # NumPy is slow with halves; without their signs, their bits sort like them.
        largest = float((value.view(np.uint16) & 0x7FFF).max().view(np.float16))
        return -largest, largest
    lowest, highest = float(value.min()), float(value.max())
    if may_hold_nan and math.isnan(lowest):
        value = value[~np.isnan(value)]
        return (float(value.min()), float(value.max())) if value.size else (0.0, 0.0)
    return lowest, highest
