"""The shift that makes the rows' counts add up."""

import numpy as np

from trim.compiled.compiler import compiled


def common_shift(wanted: np.ndarray, total: int, limit: int) -> float:
    """Find the s with Σ clamp(wanted + s, 0, limit) = total, for (D,) float64 and a total from 0 to D · limit."""
    shift: float = _common_shift(wanted, total, limit)
    return shift


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
