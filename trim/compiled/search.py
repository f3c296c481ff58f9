"""One learning rate of TRIM's search, from a layer's curves: all its updates in one call, on one core."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from trim.compiled import EPSILON, NOISE_FLOOR
from trim.compiled.compiler import compiled, inlined, inlined_of_numbers

ROW_MEASURES = {"cosim": 0, "mse": 1, "psnr": 2}
# Each with the row measure whose sum it needs.
LAYER_MEASURES = {
    "cosim_flat": -1,
    "cosim_dim": 0,
    "mse": -1,
    "mse_dim": -1,
    "snr": -1,
    "psnr_flat": -1,
    "psnr_dim": 2,
}


@dataclass(frozen=True, eq=False)
class Tables:
    """What all searches of a layer look up.

    Attributes:
        curves: dot, energy, error and cosine, (D, N + 1, 4) float64.
        norm, peak: ‖Y_i‖ and the largest Y_i² of each row, (D,) float64.
        vectors: L.
    """

    curves: np.ndarray
    norm: np.ndarray
    peak: np.ndarray
    vectors: int

    @property
    def columns(self) -> int:
        """N, the weights in a row."""
        return len(self.curves[0]) - 1

    @cached_property
    def all_rows(self) -> "Rows":
        """Every row of the layer."""
        return self._rows(np.arange(len(self.norm)))

    @cached_property
    def alive(self) -> "Rows":
        """Rows with output."""
        return self._rows(np.flatnonzero(self.norm > 0))

    @cached_property
    def dead(self) -> "Rows":
        """Rows without output."""
        return self._rows(np.flatnonzero(self.norm == 0))

    def _rows(self, index: np.ndarray) -> "Rows":
        return Rows(index, index * 4 * (self.columns + 1), self.norm[index], self.peak[index])

    @cached_property
    def flat(self) -> np.ndarray:
        """The curves as one run of memory."""
        return self.curves.reshape(-1)

    def layer_quality(self, sums: np.ndarray, measure: str) -> np.ndarray:
        """Judge the layer by one of `LAYER_MEASURES`, (...), from what `_look_up` summed, (..., 6)."""
        rows = len(self.norm)
        noise: np.ndarray = sums[..., 2] / (rows * self.vectors)
        quality: np.ndarray = -noise
        if measure == "cosim_flat":
            norms = (self._total_norm + EPSILON) * (np.sqrt(sums[..., 1]) + EPSILON)
            quality = np.minimum(np.maximum(sums[..., 0] / norms, -1.0), 1.0)
        elif measure == "cosim_dim":
            quality = sums[..., 3] / rows
        elif measure == "psnr_dim":
            quality = sums[..., 5] / max(len(self.alive.index), 1)
        elif measure == "psnr_flat":
            quality = _decibel(self.peak.max(), noise)
        elif measure == "snr":
            decibel = _decibel(self._total_norm**2 / (rows * self.vectors), noise)
            quality = np.where(noise < NOISE_FLOOR, np.inf, decibel)
        return quality

    @cached_property
    def _total_norm(self) -> float:
        return float(np.sqrt(np.square(self.norm).sum()))


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of a layer: their indices, where the curves of each begin, and two numbers of each."""

    index: np.ndarray
    start: np.ndarray
    norm: np.ndarray
    peak: np.ndarray


@dataclass(frozen=True, eq=False)
class Path:
    """Where a learning rate leads; index 0 is uniform.

    Attributes:
        x: (K + 1, D) float64.
        quality: (K + 1,) float64 layer quality at floor counts; NaN where it cannot be looked up.
        row_variance: (K + 1,) float64.
    """

    x: np.ndarray
    quality: np.ndarray
    row_variance: np.ndarray


def follow(
    tables: Tables,
    rate: float,
    target: float,
    cap: float,
    iterations: int,
    row_measure: str,
    layer_measure: str,
) -> Path:
    """Update x at one learning rate, and judge every update.

    Args:
        row_measure: of `ROW_MEASURES`. Rows without output have no `psnr` and stay.
        layer_measure: of `LAYER_MEASURES`; by any other nothing is judged.
    """
    rows = tables.alive if row_measure == "psnr" else tables.all_rows
    number, steps = len(rows.index), iterations + 1
    moved, sums, row_variance = np.empty((steps, number)), np.zeros((steps, 6)), np.empty(steps)
    if number < len(tables.norm):  # rows that stay add the same to every sum
        sums[:] = _sums(
            tables, tables.dead, np.full(len(tables.dead.index), target), tables.columns, layer_measure
        )
    _follow(
        tables.flat, rows.start, rows.norm, rows.peak, tables.columns, tables.vectors, rate, target, cap,
        ROW_MEASURES[row_measure], LAYER_MEASURES.get(layer_measure, -1), moved, sums, row_variance,
    )  # fmt: skip
    if layer_measure in LAYER_MEASURES:
        quality = tables.layer_quality(sums, layer_measure)
    else:
        quality = np.full(steps, np.nan)
    if number == len(tables.norm):
        return Path(moved, quality, row_variance)
    x = np.full((steps, len(tables.norm)), target)
    x[:, rows.index] = moved
    return Path(x, quality, row_variance)


def judge(tables: Tables, counts: np.ndarray, layer_measure: str) -> np.ndarray:
    """Look up the quality of the layer, (...), at the counts of candidates, (..., D), by one of `LAYER_MEASURES`."""
    candidates = counts.reshape(-1, counts.shape[-1]).astype(np.float64)
    sums = np.array([_sums(tables, tables.all_rows, each, 1, layer_measure) for each in candidates])
    return tables.layer_quality(sums.reshape(*counts.shape[:-1], -1), layer_measure)


def _sums(tables: Tables, rows: Rows, wanted: np.ndarray, scale: float, layer_measure: str) -> np.ndarray:
    sums = np.zeros(6)
    _look_up(
        tables.flat, rows.start, rows.norm, rows.peak, wanted, scale, tables.columns, tables.vectors,
        -1, LAYER_MEASURES.get(layer_measure, -1), np.empty(len(wanted)), sums,
    )  # fmt: skip
    return sums


def _decibel(peak: float, noise: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):  # a layer without output: −∞
        decibel: np.ndarray = 10 * np.log10(peak / (noise + NOISE_FLOOR))
    return decibel


@inlined
def _total(values):
    total = 0.0
    for i in range(len(values)):
        total += values[i]
    return total


@inlined_of_numbers
def _least(values):
    least = values[0]
    for i in range(1, len(values)):
        least = min(least, values[i])
    return least


@inlined_of_numbers
def _most(values):
    most = values[0]
    for i in range(1, len(values)):
        most = max(most, values[i])
    return most


@inlined
def _mean_square(values, center):
    total = 0.0
    for i in range(len(values)):
        total += (values[i] - center) * (values[i] - center)
    return total / max(len(values), 1)


@inlined
def _measure(measure, norm, peak, vectors, values):
    """Turn errors into a row measure, and return its sum, of psnr over rows with output. Cosines are one already."""
    if measure == 1:
        for i in range(len(values)):
            values[i] = -values[i] / vectors
    if measure == 2:
        total = 0.0
        for i in range(len(values)):
            values[i] = 10 * np.log10(peak[i] / (values[i] / vectors + NOISE_FLOOR))
            if norm[i] > 0:
                total += values[i]
        return total
    return _total(values)


@compiled(
    "void(float64[::1], int64[::1], float64[::1], float64[::1], float64[::1], float64, int64, int64, int64, int64, "
    "float64[::1], float64[::1])"
)
def _look_up(
    table, start, norm, peak, wanted, scale, columns, vectors, row_measure, other_measure, quality, sums
):
    # At the publication's counts, clip(floor(scale · wanted), 0, N). Writes the row measure, and adds to the sums of
    # dot, energy and error, and to one for each row measure: that of the row measure and of the other.
    rows = len(start)
    places = np.empty(rows, np.int64)
    for i in range(rows):
        count = wanted[i] * scale
        count = 0.0 if count < 0.0 else count
        places[i] = start[i] + 4 * np.int64(columns if count > columns else count)
    part = 3 if row_measure == 0 else 2
    dot = energy = error = 0.0
    for i in range(rows):
        place = places[i]
        dot += table[place]
        energy += table[place + 1]
        error += table[place + 2]
        quality[i] = table[place + part]
    sums[0] += dot
    sums[1] += energy
    sums[2] += error
    if other_measure >= 0 and other_measure != row_measure:
        other = np.empty(rows)
        part = 3 if other_measure == 0 else 2
        for i in range(rows):
            other[i] = table[places[i] + part]
        sums[3 + other_measure] += _measure(other_measure, norm, peak, vectors, other)
    if row_measure >= 0:
        sums[3 + row_measure] += _measure(row_measure, norm, peak, vectors, quality)


@compiled(
    "void(float64[::1], int64[::1], float64[::1], float64[::1], int64, int64, float64, float64, float64, int64, int64, "
    "float64[:, ::1], float64[:, ::1], float64[::1])"
)
def _follow(
    table,
    start,
    norm,
    peak,
    columns,
    vectors,
    rate,
    target,
    cap,
    row_measure,
    other_measure,
    x,
    sums,
    row_variance,
):
    steps, rows = x.shape
    quality, change = np.empty(rows), np.empty(rows)
    differing = False
    for step in range(steps):
        here = x[step]
        if step == 0 or not differing:
            here[:] = target
        else:
            # Rows of high quality lose more (of a positive rate), and the mean stays T.
            before = x[step - 1]
            least, most = _least(quality), _most(quality)
            for i in range(rows):
                change[i] = quality[i] - least
            scale = 2 * rate / (most - least + 1e-6)
            mean = _total(change) / rows * scale
            for i in range(rows):
                moved = before[i] + change[i] * scale - mean
                moved = cap if moved > cap else moved
                here[i] = 0.0 if moved < 0.0 else moved
            excess = _total(here) / rows - target
            for i in range(rows):
                here[i] -= excess
        _look_up(
            table,
            start,
            norm,
            peak,
            here,
            columns,
            columns,
            vectors,
            row_measure,
            other_measure,
            quality,
            sums[step],
        )
        if step == 0:
            # Rows that are all alike stay: rounding in a mean must not carry N · T across a whole number.
            for i in range(1, rows):
                differing |= quality[i] != quality[0]
        row_variance[step] = _mean_square(quality, _total(quality) / max(rows, 1))
