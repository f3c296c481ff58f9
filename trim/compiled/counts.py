"""Exact counts that add up."""

import numpy as np

from trim.compiled.compiler import compiled, inlined, next_block
from trim.compiled.reductions import range_of, sum_of
from trim.compiled.workers import share_rows


def nearest_counts(wanted: np.ndarray, total: int, limit: int) -> np.ndarray:
    """Find the counts nearest in shape to what is wanted.

    One common shift of all rows, clamped to [0, limit], then the largest remainders, lower rows first among equals.

    Args:
        wanted: (..., D) float64; leading dimensions are candidates, each by itself.
        total: what the counts of each add up to, from 0 to D · limit.
        limit: the largest count.

    Returns:
        (..., D) int64.
    """
    candidates = np.ascontiguousarray(wanted).reshape(-1, wanted.shape[-1])
    counts = np.empty(candidates.shape, np.int64)
    share_rows(_nearest_counts, len(candidates), 1, candidates, total, limit, counts)
    return counts.reshape(wanted.shape)


@inlined
def _shifted(wanted, shift, limit):
    """Return the sum of shifted and clamped rows, and how many of them are not clamped."""
    found, free = 0.0, 0
    for i in range(len(wanted)):
        moved = wanted[i] + shift
        found += min(max(moved, 0.0), limit)
        free += 0.0 < moved < limit
    return found, free


@compiled("float64(float64[::1], float64, float64)")
def _common_shift(wanted, total, limit):
    # The sum is a rising line with a bend where a row meets a bound: Newton's steps, and where one would leave the
    # bracket half of it. They end on the right piece of the line, or where the bracket has no number left inside.
    least, most = range_of(wanted)
    low, high = -most, limit - least
    shift = (total - sum_of(wanted)) / len(wanted)
    while True:
        found, free = _shifted(wanted, shift, limit)
        if found < total:
            low = shift
        else:
            high = shift
        following = shift + (total - found) / free if free else low
        if not low < following < high:
            following = low + (high - low) / 2
        if following == shift or not low < following < high or abs(found - total) <= 1e-12 * total:
            return shift
        shift = following


@compiled("void(float64[::1], int64, int64, int64[::1])")
def nearest(wanted, total, limit, counts):
    """Write the counts nearest in shape to what is wanted of one candidate."""
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
