"""Exact counts that add up."""

import numpy as np

from trim.compiled.compiler import compiled


def nearest_counts(wanted: np.ndarray, total: int, limit: int) -> np.ndarray:
    """Find the counts nearest in shape to what is wanted.

    One common shift of all rows, clamped to [0, limit], then the largest remainders, lower rows first among equals.

    Args:
        wanted: (D,) float64.
        total: what the counts add up to, from 0 to D · limit.
        limit: of each count.

    Returns:
        (D,) int64.
    """
    counts, remainders = np.empty(len(wanted), np.int64), np.empty(len(wanted))
    missing = _round_down(wanted, _common_shift(wanted, total, limit), total, limit, counts, remainders)
    if missing:
        least = np.partition(remainders, len(wanted) - missing)[len(wanted) - missing]
        _add_one(remainders, least, missing, counts)
    return counts


def common_shift(wanted: np.ndarray, total: int, limit: int) -> float:
    """Find the s with Σ clamp(wanted + s, 0, limit) = total."""
    shift: float = _common_shift(wanted, total, limit)
    return shift


@compiled("int64(float64[::1], float64, int64, int64, int64[::1], float64[::1])")
def _round_down(wanted, shift, total, limit, counts, remainders):
    missing = total
    for i in range(len(wanted)):
        exact = min(max(wanted[i] + shift, 0.0), float(limit))
        counts[i] = np.int64(exact)
        remainders[i] = exact - counts[i] if counts[i] < limit else -1.0
        missing -= counts[i]
    return missing


@compiled("void(float64[::1], float64, int64, int64[::1])")
def _add_one(remainders, least, missing, counts):
    for i in range(len(counts)):
        if remainders[i] > least:
            counts[i] += 1
            missing -= 1
    for i in range(len(counts)):
        if missing > 0 and remainders[i] == least:
            counts[i] += 1
            missing -= 1


@compiled("float64(float64[::1], float64, float64)")
def _common_shift(wanted, total, limit):
    # The sum is a rising line with a bend where a row meets a bound: Newton's steps, and where one would leave the
    # bracket half of it. They end on the right piece of the line, or where the bracket has no number left inside.
    low, high = -wanted.max(), limit - wanted.min()
    shift = (total - wanted.sum()) / len(wanted)
    while True:
        found, free = 0.0, 0
        for each in wanted:
            moved = each + shift
            if moved <= 0.0:
                continue
            if moved >= limit:
                found += limit
            else:
                found += moved
                free += 1
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
