"""The compiled loops of TRIM's search: look up what rows retain, update x, judge the layer."""

import numpy as np

from trim.compiled.compiler import compiled, inlined, prefetch
from trim.compiled.counts import nearest
from trim.compiled.reductions import range_of, sum_of, variance_of
from trim.measures import EPSILON, LAYER_MEASURES, NOISE_FLOOR, ROW_MEASURES

# `tables`, (table, start, norm, peak, columns, vectors): dot, energy, error and cosine at all counts of all rows,
# (D · (N + 1), 4); where the entries of each row begin, (D,); ‖Y_i‖; the largest Y_i²; N; L.
_TABLES = "Tuple((float64[:, ::1], uint64[::1], float64[::1], float64[::1], int64, int64))"
# `layer`: ‖Y‖, the largest Y², D, the number of rows with output, and L.
_LAYER = "UniTuple(float64, 5)"
_COSIM, _MSE, _PSNR = (ROW_MEASURES[name] for name in ("cosim", "mse", "psnr"))
_COSIM_FLAT, _COSIM_DIM, _LAYER_MSE, _SNR, _PSNR_FLAT, _PSNR_DIM = (
    LAYER_MEASURES[name] for name in ("cosim_flat", "cosim_dim", "mse", "snr", "psnr_flat", "psnr_dim")
)
_AHEAD = 32  # rows: while one is added, the entry of a later one is fetched


@inlined
def _measure(measure, norm, peak, vectors, values):
    """Turn errors into a row measure in place, not cosines; return its sum (psnr: over the rows with output)."""
    if measure == _MSE:
        for i in range(len(values)):
            values[i] = -values[i] / vectors
    if measure == _PSNR:
        result = 0.0
        for i in range(len(values)):
            values[i] = 10 * np.log10(peak[i] / (values[i] / vectors + NOISE_FLOOR))
            if norm[i] > 0:
                result += values[i]
        return result
    return sum_of(values)


@compiled(f"void({_TABLES}, float64[::1], float64, int64, int64, float64[::1], float64[::1])")
def look_up(tables, wanted, scale, row_measure, layer_measure, quality, sums):
    """Look up curves at the publication's counts, clip(floor(scale · wanted), 0, N).

    Writes the rows' qualities, adds dot, energy and error to sums[0:3], and to sums[3 + m] the sum of a row measure m,
    both of the given one and of one that the layer measure needs.
    """
    table, start, norm, peak, columns, vectors = tables
    rows = len(start)
    entries = np.empty(rows, np.uint64)
    for i in range(rows):
        count = wanted[i] * scale
        count = 0.0 if count < 0.0 else count
        # By way of int32, for which processors convert several at once.
        entries[i] = start[i] + np.uint64(np.int32(columns if count > columns else count))
    part = 3 if row_measure == _COSIM else 2
    dot = energy = error = 0.0
    for i in range(rows):
        prefetch(table, entries[min(i + _AHEAD, rows - 1)])
        entry = entries[i]
        dot += table[entry, 0]
        energy += table[entry, 1]
        error += table[entry, 2]
        quality[i] = table[entry, part]
    sums[0] += dot
    sums[1] += energy
    sums[2] += error
    needed = _COSIM if layer_measure == _COSIM_DIM else _PSNR if layer_measure == _PSNR_DIM else -1
    if needed >= 0 and needed != row_measure:
        values = np.empty(rows)
        part = 3 if needed == _COSIM else 2
        for i in range(rows):
            values[i] = table[entries[i], part]
        sums[3 + needed] += _measure(needed, norm, peak, vectors, values)
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
        x = before[i] + quality[i] * scale - mean
        x = cap if x > cap else x
        after[i] = 0.0 if x < 0.0 else x
    excess = sum_of(after) / rows - target
    for i in range(rows):
        after[i] -= excess


@compiled(f"float64(int64, float64[::1], {_LAYER})")
def _layer_quality(measure, sums, layer):
    """Judge the layer by one of `LAYER_MEASURES`, from what `look_up` summed."""
    norm, peak, rows, alive, vectors = layer
    noise = sums[2] / (rows * vectors)
    if measure == _COSIM_FLAT:
        return min(max(sums[0] / ((norm + EPSILON) * (np.sqrt(sums[1]) + EPSILON)), -1.0), 1.0)
    if measure == _COSIM_DIM:
        return sums[3] / rows
    if measure == _LAYER_MSE:
        return -noise
    if measure == _SNR:
        signal = norm**2 / (rows * vectors)
        return np.inf if noise < NOISE_FLOOR else 10 * np.log10(signal / (noise + NOISE_FLOOR))
    if measure == _PSNR_FLAT:
        return 10 * np.log10(peak / (noise + NOISE_FLOOR))
    return sums[5] / max(alive, 1.0)


@compiled(f"void({_TABLES}, {_LAYER}, float64[:, ::1], int64, float64[::1])")
def judge_candidates(tables, layer, counts, measure, quality):
    """Judge the layer at the counts of each candidate."""
    unused = np.empty(counts.shape[1])
    for candidate in range(len(counts)):
        sums = np.zeros(6)
        look_up(tables, counts[candidate], 1.0, -1, measure, unused, sums)
        quality[candidate] = _layer_quality(measure, sums, layer)


@inlined
def _round_and_judge(tables, layer, x, total, limit, measure, counts, quality):
    """Write the exact counts that x becomes, and uniform ones, and judge the layer at both."""
    rows, columns = len(x), tables[4]
    nearest(x * columns, total, limit, counts[0])
    base, left_over = total // rows, total % rows
    for i in range(rows):
        counts[1, i] = base + (1 if i < left_over else 0)
    judge_candidates(tables, layer, counts.astype(np.float64), measure, quality)


@inlined
def _select_rows(tables, index):
    table, start, norm, peak, columns, vectors = tables
    return table, start[index], norm[index], peak[index], columns, vectors


@compiled(
    f"void({_TABLES}, {_LAYER}, float64[::1], float64, float64, float64, int64, int64, float64[::1], boolean, "
    "float64[::1], float64[:, ::1], float64[::1], float64[::1])"
)
def _follow(
    tables, layer, fixed_sums, rate, target, cap, row_measure, measure, at_uniform, rows_differ, retained, x, quality,
    row_variance,
):  # fmt: skip
    """Update x at one rate, from step 1 on."""
    sums = np.empty(6)
    x[0] = target
    retained[:] = at_uniform
    for step in range(1, len(x)):
        if rows_differ:
            _update(x[step - 1], retained, rate, target, cap, x[step])
        else:
            x[step] = target
        sums[:] = fixed_sums
        look_up(tables, x[step], tables[4], row_measure, measure, retained, sums)
        quality[step], row_variance[step] = _layer_quality(measure, sums, layer), variance_of(retained)


@compiled(
    f"UniTuple(int64, 2)({_TABLES}, {_LAYER}, boolean[::1], float64[::1], int64, boolean, float64, float64, int64, "
    "int64, int64, int64, float64[:, :, ::1], float64[:, ::1], float64[:, ::1], float64[::1], int64[:, ::1], "
    "float64[::1])"
)
def search_rates(
    tables, layer, dead, rates, positive, complete, target, cap, total, limit, row_measure, measure, x, quality,
    row_variance, best, counts, realised,
):  # fmt: skip
    """Run the search, as `search.Tables.search`; return the best rate and its best update, as indices."""
    everywhere, columns = np.full(len(dead), target), tables[4]
    updated, fixed_sums = tables, np.zeros(6)
    partly = row_measure == _PSNR and dead.any()
    if partly:  # rows without output are not updated: they add the same to every sum
        updated, fixed = (
            _select_rows(tables, np.flatnonzero(~dead)),
            _select_rows(tables, np.flatnonzero(dead)),
        )
        look_up(fixed, everywhere[dead], columns, -1, measure, np.empty(len(fixed[1])), fixed_sums)
    rows, sums = len(updated[1]), fixed_sums.copy()
    at_uniform, retained = np.empty(rows), np.empty(rows)
    look_up(updated, everywhere[:rows], columns, row_measure, measure, at_uniform, sums)
    quality[:], row_variance[:], best[:] = np.nan, np.nan, np.nan
    quality[:, 0], row_variance[:, 0] = _layer_quality(measure, sums, layer), variance_of(at_uniform)
    # Rows of equal quality are not updated: rounding in a mean must not carry N · T across a whole number.
    rows_differ = (at_uniform[1:] != at_uniform[:-1]).any()
    # The publication tries rates up to the first that is not better than the previous one, and negative ones if no
    # positive one beats uniform.
    trying, previous, chosen = True, np.nan, -1
    for rate in range(len(rates)):
        if rate == positive:
            trying, previous = chosen < 0 or not best[chosen] > quality[0, 0], np.nan
        if not (trying or complete):
            continue
        path = np.empty((x.shape[1], rows)) if partly else x[rate]
        _follow(
            updated, layer, fixed_sums, rates[rate], target, cap, row_measure, measure, at_uniform, rows_differ,
            retained, path, quality[rate], row_variance[rate],
        )  # fmt: skip
        if partly:
            x[rate] = target
            for index, row in enumerate(np.flatnonzero(~dead)):
                x[rate, :, row] = path[:, index]
        if trying:
            best[rate] = quality[rate].max()
            if chosen < 0 or best[rate] > best[chosen]:
                chosen = rate
            trying = not best[rate] <= previous
            previous = best[rate]
    step = quality[chosen].argmax()
    _round_and_judge(tables, layer, x[chosen, step], total, limit, measure, counts, realised)
    return chosen, step
