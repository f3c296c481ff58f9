"""Gini coefficients of the rows' scores."""

import numpy as np

from trim.compiled.compiler import compiled, next_block
from trim.compiled.workers import share_rows

_BLOCK_ROWS = 16


def gini_of_rows(score: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Compute the Gini coefficient of each row, (D,) float64; NaN of a row of zeros.

    Args:
        score: (D, N) float32 or float64.
        order: (D, N) int32, each row's columns by ascending score.
    """
    result = np.empty(len(score))
    share_rows(_gini, len(score), _BLOCK_ROWS, score, np.ascontiguousarray(order), result)
    return result


@compiled(
    "void(int64[::1], int64, float32[:, :], int32[:, ::1], float64[::1])",
    "void(int64[::1], int64, float64[:, :], int32[:, ::1], float64[::1])",
)
def _gini(counter, block_rows, score, order, result):
    """Write the Gini coefficients of blocks of rows."""
    rows, columns = score.shape
    while True:
        top = next_block(counter) * block_rows
        if top >= rows:
            return
        for row in range(top, min(top + block_rows, rows)):
            # Divided by the row's largest score: no sum overflows, and equal scores give exactly 0.
            largest = np.float64(score[row, order[row, columns - 1]])
            weighted, total = 0.0, 0.0
            for k in range(columns):
                share = np.float64(score[row, order[row, k]]) / largest
                weighted += (2 * k + 1 - columns) * share
                total += share
            result[row] = weighted / (columns * total)
