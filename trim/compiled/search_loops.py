"""The compiled loops of TRIM's search: look up what rows retain, update x, judge the layer."""

import numpy as np

from trim.compiled.compiler import compiled, inlined, inlined_of_numbers
from trim.compiled.counts import nearest
from trim.measures import EPSILON, NOISE_FLOOR


@inlined
def _total(values):
    total = 0.0
    for i in range(len(values)):
        total += values[i]
    return total


@inlined_of_numbers
def _range(values):
    least = most = values[0]
    for i in range(1, len(values)):
        least, most = min(least, values[i]), max(most, values[i])
    return least, most


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
def look_up(
    table, start, norm, peak, wanted, scale, columns, vectors, row_measure, other_measure, quality, sums
):
    """Look up curves at the publication's counts, clip(floor(scale · wanted), 0, N).

    Writes the rows' qualities, adds dot, energy and error to sums[0:3], and the sum of row measure m, the rows' and the
    other one, to sums[3 + m].
    """
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
            least, most = _range(quality)
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
        look_up(
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
    """Judge the layer by one of `LAYER_MEASURES`, from what `look_up` summed."""
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
def judge_candidates(table, start, norm, peak, whole, counts, columns, vectors, row_sum, measure, quality):
    """Judge the layer at the counts of each candidate."""
    each = np.empty(len(start))
    for candidate in range(len(counts)):
        sums = np.zeros(6)
        look_up(table, start, norm, peak, counts[candidate], 1.0, columns, vectors, -1, row_sum, each, sums)
        quality[candidate] = _layer_quality(measure, sums, whole)


@compiled(
    "void(float64[::1], int64[::1], float64[::1], float64[::1], UniTuple(float64, 5), float64[::1], int64, int64, "
    "int64, int64, int64, int64, int64[:, ::1], float64[::1])"
)
def round_and_judge(
    table, start, norm, peak, whole, x, total, limit, columns, vectors, row_sum, measure, counts, quality
):
    """Write the exact counts that x becomes, and uniform ones, and judge the layer at both."""
    rows = len(x)
    candidates = np.empty((2, rows))
    for i in range(rows):
        candidates[0, i] = x[i] * columns
    nearest(candidates[0], total, limit, counts[0])
    each, left_over = total // rows, total % rows
    for i in range(rows):
        counts[1, i] = each + (1 if i < left_over else 0)
        candidates[0, i], candidates[1, i] = counts[0, i], counts[1, i]
    judge_candidates(table, start, norm, peak, whole, candidates, columns, vectors, row_sum, measure, quality)


@compiled(
    "void(float64[::1], int64[::1], float64[::1], float64[::1], UniTuple(float64, 5), int64, int64, float64[::1], "
    "int64, boolean, float64, float64, int64, int64, int64, float64[:, :, ::1], float64[:, :, ::1], float64[:, ::1], "
    "float64[:, ::1], boolean[::1])"
)
def follow_rates(
    table, start, norm, peak, whole, columns, vectors, rates, positive, complete, target, cap, row_measure, row_sum,
    measure, x, sums, quality, row_variance, followed,
):  # fmt: skip
    """Update at all rates, and judge every update."""
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
