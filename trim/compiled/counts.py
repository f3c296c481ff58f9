"""Round wanted counts of pruned weights to whole ones that add up to a total."""

import numpy as np

from trim.compiled.compiler import compiled, inlined, next_block
from trim.compiled.reductions import range_of, sum_of
from trim.compiled.workers import share_rows


def nearest_counts(wanted: np.ndarray, total: int, limit: int) -> np.ndarray:
    """Round wanted counts to whole ones that add up to a total.

    All rows are shifted by the same number, clamped to [0, limit] and rounded by largest remainder, lower rows first
    among equals.

    Args:
        wanted: (..., D) float64; leading dimensions are candidates, each rounded by itself.
        total: the sum of a candidate's counts, from 0 to D · limit.
        limit: the largest count.

    Returns:
        (..., D) int64.
    """
    candidates = np.ascontiguousarray(wanted).reshape(-1, wanted.shape[-1])
    counts = np.empty(candidates.shape, np.int64)
    share_rows(_nearest_counts, len(candidates), 1, candidates, total, limit, counts)
    return counts.reshape(wanted.shape)


@inlined
def _shifted_sum(wanted, shift, limit):
    """Return the sum of shifted and clamped rows, and how many of them are not clamped."""
    total, free = 0.0, 0
    for i in range(len(wanted)):
        shifted = wanted[i] + shift
        total += min(max(shifted, 0.0), limit)
        free += 0.0 < shifted < limit
    return total, free


@compiled("float64(float64[::1], float64, float64)")
def _common_shift(wanted, total, limit):
    """Find the shift with which the clamped rows add up to the total.

    Their sum is a piecewise linear, rising function of the shift. Newton's steps, or bisection where one would leave
    the bracket, end on the piece that reaches the total, or where the bracket has no number left inside.
    """
    least, most = range_of(wanted)
    low, high = -most, limit - least
    shift = (total - sum_of(wanted)) / len(wanted)
    while True:
        reached, free = _shifted_sum(wanted, shift, limit)
        if reached < total:
            low = shift
        else:
            high = shift
        next_shift = shift + (total - reached) / free if free else low
        if not low < next_shift < high:
            next_shift = low + (high - low) / 2
        if next_shift == shift or not low < next_shift < high or abs(reached - total) <= 1e-12 * total:
            return shift
        shift = next_shift


@compiled("void(float64[::1], int64, int64, int64[::1])")
def nearest(wanted, total, limit, counts):
    """Write the counts of one candidate, as `nearest_counts` rounds them."""
    rows, missing = len(wanted), total
    remainders = np.empty(rows)
    shift = _common_shift(wanted, total, limit)
    for i in range(rows):
        exact = min(max(wanted[i] + shift, 0.0), float(limit))
        counts[i] = np.int64(exact)
        remainders[i] = exact - counts[i] if counts[i] < limit else -1.0
        missing -= counts[i]
    if missing == 0:
        return
    least = np.partition(remainders, rows - missing)[rows - missing]
    for i in range(rows):
        counts[i] += remainders[i] > least
        missing -= remainders[i] > least
    for i in range(rows):
        if missing > 0 and remainders[i] == least:
            counts[i] += 1
            missing -= 1


@compiled("void(int64[::1], int64, float64[:, ::1], int64, int64, int64[:, ::1])")
def _nearest_counts(counter, block_rows, wanted, total, limit, counts):
    while True:
        candidate = next_block(counter)
        if candidate >= len(wanted):
            return
        nearest(wanted[candidate], total, limit, counts[candidate])
