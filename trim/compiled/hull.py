"""Lower convex hulls of the rows' error curves, by the monotone chain (Andrew, Inf. Process. Lett. 9, 1979)."""

import numpy as np

from trim.compiled.compiler import compiled, next_block
from trim.compiled.workers import share_rows

_BLOCK_ROWS = 16


def hull_edges(error: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the edges of the hull of each row over 0 ≤ k ≤ limit.

    Args:
        error: (D, N + 1) float64.
        limit: from 1 to N.

    Returns:
        Row and length, (E,) int64 each, and slope, (E,) float64, of all edges, row after row.
    """
    rows = len(error)
    # The system allocates only pages that are written, and a row's chain has few vertices.
    vertex, slope = np.empty((rows, limit), np.int32), np.empty((rows, limit))
    number = np.empty(rows, np.int64)
    share_rows(_chains, rows, _BLOCK_ROWS, error, vertex, slope, number)
    row = np.repeat(np.arange(rows), number)
    edge = np.arange(len(row)) - np.repeat(np.cumsum(number) - number, number)
    end = vertex[row, edge].astype(np.int64)
    return row, np.where(edge > 0, end - np.roll(end, 1), end), slope[row, edge]


def take_edges(order: np.ndarray, row: np.ndarray, length: np.ndarray, total: int, rows: int) -> np.ndarray:
    """Count the weights that each row loses, (D,) int64, when edges are taken in order until `total` weights are."""
    counts = np.zeros(rows, np.int64)
    _take_edges(order, row, length, total, counts)
    return counts


@compiled("void(int64[::1], int64, float64[:, :], int32[:, ::1], float64[:, ::1], int64[::1])")
def _chains(counter, block_rows, error, vertices, slopes, number):
    # Writes each row's vertices after k = 0, the slope of the edge to each, and their number.
    rows, limit = slopes.shape
    while True:
        top = next_block(counter) * block_rows
        if top >= rows:
            return
        for row in range(top, min(top + block_rows, rows)):
            curve, vertex, slope = error[row], vertices[row], slopes[row]
            edges = 0
            for k in range(1, limit + 1):
                while True:
                    here = vertex[edges - 1] if edges else 0
                    to = (curve[k] - curve[here]) / (k - here)
                    if edges == 0 or slope[edges - 1] < to:
                        break
                    edges -= 1
                vertex[edges] = k
                slope[edges] = to
                edges += 1
            number[row] = edges


@compiled("void(int64[::1], int64[::1], int64[::1], int64, int64[::1])")
def _take_edges(order, row, length, total, counts):
    left = total
    for edge in order:
        taken = min(length[edge], left)
        counts[row[edge]] += taken
        left -= taken
        if left == 0:
            return
