"""The compiled loops of TRIM's search: look up what rows retain, update x, judge the layer."""

import numpy as np

from trim.compiled.compiler import compiled, inlined, prefetch
from trim.compiled.counts import nearest
from trim.compiled.reductions import range_of, sum_of, variance_of
from trim.measures import EPSILON, LAYER_MEASURES, NOISE_FLOOR, ROW_MEASURES

# Rows as these functions take them, (table, start, norm, peak, columns, vectors): dot, energy, error and cosine at all
# counts of all rows, (D · (N + 1), 4); where the entries of each row begin; ‖Y_i‖; the largest Y_i²; N; L.
_ROWS = "Tuple((float64[:, ::1], uint64[::1], float64[::1], float64[::1], int64, int64))"
_LAYER = "UniTuple(float64, 5)"
# The layer measures that are a mean over rows of a row measure's values, which have to be looked up for them.
_COSIM, _PSNR = ROW_MEASURES["cosim"], ROW_MEASURES["psnr"]
_COSIM_DIM, _PSNR_DIM = LAYER_MEASURES["cosim_dim"], LAYER_MEASURES["psnr_dim"]
_AHEAD = 32  # rows: while one is added, the entry of a later one is fetched


@inlined
def _measure(measure, norm, peak, vectors, values):
    """Turn errors into a row measure in place, and return its sum (psnr: over rows with output); cosines stay."""
    if measure == 1:
        for i in range(len(values)):
            values[i] = -values[i] / vectors
    if measure == 2:
        result = 0.0
        for i in range(len(values)):
            values[i] = 10 * np.log10(peak[i] / (values[i] / vectors + NOISE_FLOOR))
            if norm[i] > 0:
                result += values[i]
        return result
    return sum_of(values)


@compiled(f"void({_ROWS}, float64[::1], float64, int64, int64, float64[::1], float64[::1])")
def look_up(rows, wanted, scale, row_measure, layer_measure, quality, sums):
    """Look up curves at the publication's counts, clip(floor(scale · wanted), 0, N).

    Writes the rows' qualities, adds dot, energy and error to sums[0:3], and to sums[3 + m] the sum of a row measure m,
    both of the given one and of one that the layer measure needs.
    """
    table, start, norm, peak, columns, vectors = rows
    number = len(start)
    places = np.empty(number, np.uint64)
    for i in range(number):
        count = wanted[i] * scale
        count = 0.0 if count < 0.0 else count
        # By way of int32, for which processors convert several at once.
        places[i] = start[i] + np.uint64(np.int32(columns if count > columns else count))
    part = 3 if row_measure == 0 else 2
    dot = energy = error = 0.0
    for i in range(number):
        prefetch(table, places[min(i + _AHEAD, number - 1)])
        place = places[i]
        dot += table[place, 0]
        energy += table[place, 1]
        error += table[place, 2]
        quality[i] = table[place, part]
    sums[0] += dot
    sums[1] += energy
    sums[2] += error
    other = _COSIM if layer_measure == _COSIM_DIM else _PSNR if layer_measure == _PSNR_DIM else -1
    if other >= 0 and other != row_measure:
        values = np.empty(number)
        part = 3 if other == 0 else 2
        for i in range(number):
            values[i] = table[places[i], part]
        sums[3 + other] += _measure(other, norm, peak, vectors, values)
    if row_measure >= 0:
        sums[3 + row_measure] += _measure(row_measure, norm, peak, vectors, quality)


@compiled("void(float64[::1], float64[::1], float64, float64, float64, float64[::1])")
def _update(before, quality, rate, target, cap, after):
    """Write x after an update: rows of high quality lose more (of a positive rate), and the mean stays T.

    The quality is overwritten.
    """
    rows = len(before)
    least, most = range_of(quality)
    for i in range(rows):
        quality[i] -= least
    scale = 2 * rate / (most - least + 1e-6)
    mean = sum_of(quality) / rows * scale
    for i in range(rows):
        moved = before[i] + quality[i] * scale - mean
        moved = cap if moved > cap else moved
        after[i] = 0.0 if moved < 0.0 else moved
    excess = sum_of(after) / rows - target
    for i in range(rows):
        after[i] -= excess


@compiled(f"float64(int64, float64[::1], {_LAYER})")
def _layer_quality(measure, sums, whole):
    """Judge the layer by one of `LAYER_MEASURES`, from what `look_up` summed."""
    norm, peak, rows, alive, vectors = whole
    noise = sums[2] / (rows * vectors)
    if measure == 0:
        return min(max(sums[0] / ((norm + EPSILON) * (np.sqrt(sums[1]) + EPSILON)), -1.0), 1.0)
    if measure == 1:
        return sums[3] / rows
    if measure == 2:
        return -noise
    if measure == 3:
        signal = norm**2 / (rows * vectors)
        return np.inf if noise < NOISE_FLOOR else 10 * np.log10(signal / (noise + NOISE_FLOOR))
    if measure == 4:
        return 10 * np.log10(peak / (noise + NOISE_FLOOR))
    return sums[5] / max(alive, 1.0)


@compiled(f"void({_ROWS}, {_LAYER}, float64[:, ::1], int64, float64[::1])")
def judge_candidates(rows, whole, counts, measure, quality):
    """Judge the layer at the counts of each candidate."""
    each = np.empty(counts.shape[1])
    for candidate in range(len(counts)):
        sums = np.zeros(6)
        look_up(rows, counts[candidate], 1.0, -1, measure, each, sums)
        quality[candidate] = _layer_quality(measure, sums, whole)


@inlined
def _round_and_judge(rows, whole, x, total, limit, measure, counts, quality):
    """Write the exact counts that x becomes, and uniform ones, and judge the layer at both."""
    number, columns = len(x), rows[4]
    nearest(x * columns, total, limit, counts[0])
    each, left_over = total // number, total % number
    for i in range(number):
        counts[1, i] = each + (1 if i < left_over else 0)
    judge_candidates(rows, whole, counts.astype(np.float64), measure, quality)


@inlined
def _some(rows, index):
    table, start, norm, peak, columns, vectors = rows
    return table, start[index], norm[index], peak[index], columns, vectors


@compiled(
    f"void({_ROWS}, {_LAYER}, float64[::1], float64, float64, float64, int64, int64, float64[::1], boolean, "
    "float64[::1], float64[:, ::1], float64[::1], float64[::1])"
)
def _follow(
    rows, whole, others, rate, target, cap, row_measure, measure, at_uniform, differing, retained, x, quality,
    row_variance,
):  # fmt: skip
    """Update x at one rate, from step 1 on."""
    sums = np.empty(6)
    x[0] = target
    retained[:] = at_uniform
    for step in range(1, len(x)):
        if differing:
            _update(x[step - 1], retained, rate, target, cap, x[step])
        else:
            x[step] = target
        sums[:] = others
        look_up(rows, x[step], rows[4], row_measure, measure, retained, sums)
        quality[step], row_variance[step] = _layer_quality(measure, sums, whole), variance_of(retained)


@compiled(
    f"UniTuple(int64, 2)({_ROWS}, {_LAYER}, boolean[::1], float64[::1], int64, boolean, float64, float64, int64, "
    "int64, int64, int64, float64[:, :, ::1], float64[:, ::1], float64[:, ::1], float64[::1], int64[:, ::1], "
    "float64[::1])"
)
def search_rates(
    rows, whole, dead, rates, positive, complete, target, cap, total, limit, row_measure, measure, x, quality,
    row_variance, best, counts, realised,
):  # fmt: skip
    """Run the search, as `search.Tables.search`; return the best rate and its best update, as indices."""
    everywhere, columns = np.full(len(dead), target), rows[4]
    moving, others = rows, np.zeros(6)
    partly = row_measure == 2 and dead.any()
    if partly:  # rows that stay add the same to every sum
        moving, stay = _some(rows, np.flatnonzero(~dead)), _some(rows, np.flatnonzero(dead))
        look_up(stay, everywhere[dead], columns, -1, measure, np.empty(len(stay[1])), others)
    number, sums = len(moving[1]), others.copy()
    at_uniform, retained = np.empty(number), np.empty(number)
    look_up(moving, everywhere[:number], columns, row_measure, measure, at_uniform, sums)
    quality[:], row_variance[:], best[:] = np.nan, np.nan, np.nan
    quality[:, 0], row_variance[:, 0] = _layer_quality(measure, sums, whole), variance_of(at_uniform)
    # Rows that are all alike stay: rounding in a mean must not carry N · T across a whole number.
    differing = (at_uniform[1:] != at_uniform[:-1]).any()
    # As the publication tries rates: up to and with the first that is not better than the one before it; negative
    # ones if no positive one beats uniform.
    trying, previous, chosen = True, np.nan, -1
    for rate in range(len(rates)):
        if rate == positive:
            trying, previous = chosen < 0 or not best[chosen] > quality[0, 0], np.nan
        if not (trying or complete):
            continue
        path = np.empty((x.shape[1], number)) if partly else x[rate]
        _follow(
            moving, whole, others, rates[rate], target, cap, row_measure, measure, at_uniform, differing, retained,
            path, quality[rate], row_variance[rate],
        )  # fmt: skip
        if partly:
            x[rate] = target
            for place, row in enumerate(np.flatnonzero(~dead)):
                x[rate, :, row] = path[:, place]
        if trying:
            best[rate] = quality[rate].max()
            if chosen < 0 or best[rate] > best[chosen]:
                chosen = rate
            trying = not best[rate] <= previous
            previous = best[rate]
    step = quality[chosen].argmax()
    _round_and_judge(rows, whole, x[chosen, step], total, limit, measure, counts, realised)
    return chosen, step
