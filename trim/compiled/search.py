"""TRIM's search over learning rates, from a layer's curves: all their updates in one call, on one core."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from trim.compiled import EPSILON, NOISE_FLOOR
from trim.compiled.compiler import compiled, inlined, inlined_of_numbers

ROW_MEASURES = {"cosim": 0, "mse": 1, "psnr": 2}
LAYER_MEASURES = {
    "cosim_flat": 0,
    "cosim_dim": 1,
    "mse": 2,
    "mse_dim": 2,
    "snr": 3,
    "psnr_flat": 4,
    "psnr_dim": 5,
}
_ROW_SUM = {"cosim_dim": 0, "psnr_dim": 2}  # the row measure whose sum a layer measure needs


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

    @cached_property
    def whole(self) -> tuple[float, ...]:
        """‖Y‖ of the layer, its largest Y², how many rows it has, how many of them have output, and L."""
        norm, peak = np.sqrt(np.square(self.norm).sum()), self.peak.max()
        return tuple(map(float, (norm, peak, len(self.norm), len(self.alive.index), self.vectors)))


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of a layer: their indices, where the curves of each begin, and two numbers of each."""

    index: np.ndarray
    start: np.ndarray
    norm: np.ndarray
    peak: np.ndarray


@dataclass(frozen=True, eq=False)
class Paths:
    """Where R learning rates lead; index 0 of the iterations is uniform.

    Attributes:
        x: (R, K + 1, D) float64.
        quality: (R, K + 1) float64 layer quality at floor counts; NaN where it cannot be looked up.
        row_variance: (R, K + 1) float64.
        followed: (R,) bool; what was not has only its beginning, and no x.
    """

    x: np.ndarray
    quality: np.ndarray
    row_variance: np.ndarray
    followed: np.ndarray


def follow(
    tables: Tables,
    rates: tuple[float, ...],
    positive: int,
    target: float,
    cap: float,
    iterations: int,
    row_measure: str,
    layer_measure: str,
    *,
    complete: bool = False,
) -> Paths:
    """Update x at the learning rates that the publication tries, and judge every update.

    Args:
        tables: of the layer.
        rates: R learning rates, in its order; the first `positive` of them are positive.
        positive: how many.
        target: T.
        cap: the highest sparsity of a row.
        iterations: K.
        row_measure: of `ROW_MEASURES`. Rows without output have no `psnr` and stay.
        layer_measure: of `LAYER_MEASURES`; by any other nothing is judged.
        complete: follow the rates that the publication leaves untried as well.
    """
    rows = tables.alive if row_measure == "psnr" else tables.all_rows
    number, shape = len(rows.index), (len(rates), iterations + 1)
    moved, sums = np.empty((*shape, number)), np.zeros((*shape, 6))
    if number < len(tables.norm):  # rows that stay add the same to every sum
        stay = tables.dead
        _look_up(
            tables.flat, stay.start, stay.norm, stay.peak, np.full(len(stay.index), target), tables.columns,
            tables.columns, tables.vectors, -1, _ROW_SUM.get(layer_measure, -1), np.empty(len(stay.index)), sums[0, 0],
        )  # fmt: skip
        sums[:] = sums[0, 0]
    (quality, row_variance), followed = np.full((2, *shape), np.nan), np.zeros(len(rates), np.bool_)
    _follow_rates(
        tables.flat, rows.start, rows.norm, rows.peak, tables.whole, tables.columns, tables.vectors, np.array(rates),
        positive, complete, target, cap, ROW_MEASURES[row_measure], _ROW_SUM.get(layer_measure, -1),
        LAYER_MEASURES.get(layer_measure, -1), moved, sums, quality, row_variance, followed,
    )  # fmt: skip
    quality[:, 0], row_variance[:, 0] = quality[0, 0], row_variance[0, 0]
    if number == len(tables.norm):
        return Paths(moved, quality, row_variance, followed)
    x = np.full((*shape, len(tables.norm)), target)
    x[..., rows.index] = moved
    return Paths(x, quality, row_variance, followed)


def judge(tables: Tables, counts: np.ndarray, layer_measure: str) -> np.ndarray:
    """Look up the quality of the layer, (...), at the counts of candidates, (..., D), by one of `LAYER_MEASURES`."""
    candidates = counts.reshape(-1, counts.shape[-1]).astype(np.float64)
    rows, quality = tables.all_rows, np.empty(len(candidates))
    _judge(
        tables.flat, rows.start, rows.norm, rows.peak, tables.whole, candidates, tables.columns, tables.vectors,
        _ROW_SUM.get(layer_measure, -1), LAYER_MEASURES[layer_measure], quality,
    )  # fmt: skip
    return quality.reshape(counts.shape[:-1])


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
    # At the publication's counts, clip(floor(scale · wanted), 0, N). Writes the rows' qualities, adds dot, energy
    # and error to sums[0:3], and the layer's quality by measure m, the rows' and the other one, to sums[3 + m].
    rows = len(start)
    places = np.empty(rows, np.int64)
    for i in range(rows):
        count = wanted[i] * scale
        count = 0.0 if count < 0.0 else count
        # By way of int32, for which processors convert several at once.
        places[i] = start[i] + 4 * np.int64(np.int32(columns if count > columns else count))
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


@compiled("float64(int64, float64[::1], UniTuple(float64, 5))")
def _layer_quality(measure, sums, whole):
    """Judge the layer by one of `LAYER_MEASURES`, from what `_look_up` summed."""
    norm, peak, rows, alive, vectors = whole
    noise = sums[2] / (rows * vectors)
    if measure == 0:
        return min(max(sums[0] / ((norm + EPSILON) * (np.sqrt(sums[1]) + EPSILON)), -1.0), 1.0)
    if measure == 1:
        return sums[3] / rows
    if measure == 3:
        signal = norm**2 / (rows * vectors)
        return np.inf if noise < NOISE_FLOOR else 10 * np.log10(signal / (noise + NOISE_FLOOR))
    if measure == 4:
        return 10 * np.log10(peak / (noise + NOISE_FLOOR))
    if measure == 5:
        return sums[5] / max(alive, 1.0)
    return -noise


@compiled(
    "void(float64[::1], int64[::1], float64[::1], float64[::1], UniTuple(float64, 5), float64[:, ::1], int64, int64, "
    "int64, int64, float64[::1])"
)
def _judge(table, start, norm, peak, whole, counts, columns, vectors, row_sum, measure, quality):
    each = np.empty(len(start))
    for candidate in range(len(counts)):
        sums = np.zeros(6)
        _look_up(table, start, norm, peak, counts[candidate], 1.0, columns, vectors, -1, row_sum, each, sums)
        quality[candidate] = _layer_quality(measure, sums, whole)


@compiled(
    "void(float64[::1], int64[::1], float64[::1], float64[::1], UniTuple(float64, 5), int64, int64, float64[::1], "
    "int64, boolean, float64, float64, int64, int64, int64, float64[:, :, ::1], float64[:, :, ::1], float64[:, ::1], "
    "float64[:, ::1], boolean[::1])"
)
def _follow_rates(
    table, start, norm, peak, whole, columns, vectors, rates, positive, complete, target, cap, row_measure, row_sum,
    measure, x, sums, quality, row_variance, followed,
):  # fmt: skip
    # As the publication tries rates: up to and with the first that is not better than the one before it; negative
    # ones if no positive one beats uniform.
    trying, beaten, previous = True, False, np.nan
    for rate in range(len(rates)):
        if rate == positive:
            trying, previous = not beaten, np.nan
        if not (trying or complete):
            continue
        followed[rate] = True
        _follow(
            table, start, norm, peak, columns, vectors, rates[rate], target, cap, row_measure, row_sum, x[rate],
            sums[rate], row_variance[rate],
        )  # fmt: skip
        if measure < 0:
            continue
        for step in range(x.shape[1]):
            quality[rate, step] = _layer_quality(measure, sums[rate, step], whole)
        if trying:
            best = quality[rate].max()
            beaten |= best > quality[0, 0]
            trying = not best <= previous
            previous = best
