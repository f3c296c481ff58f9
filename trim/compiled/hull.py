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
    # The operating system allocates only pages that are written, and a row's hull has few vertices.
    vertex, slope = np.empty((rows, limit), np.int32), np.empty((rows, limit))
    edges = np.empty(rows, np.int64)
    share_rows(_chains, rows, _BLOCK_ROWS, error, vertex, slope, edges)
    row = np.repeat(np.arange(rows), edges)
    edge = np.arange(len(row)) - np.repeat(np.cumsum(edges) - edges, edges)
    end = vertex[row, edge].astype(np.int64)
    return row, np.where(edge > 0, end - np.roll(end, 1), end), slope[row, edge]


def take_edges(order: np.ndarray, row: np.ndarray, length: np.ndarray, total: int, rows: int) -> np.ndarray:
    """Count the weights that each row loses, (D,) int64: edges are taken in order until they span `total` weights.

    Args:
        order: (E,) int64, the edges in the order in which they are taken.
        row: (E,) int64, the row of each edge.
        length: (E,) int64, how many weights each edge spans.
        total: how many weights the layer loses.
        rows: D.
    """
    counts = np.zeros(rows, np.int64)
    _take_edges(order, row, length, total, counts)
    return counts


@compiled("void(int64[::1], int64, float64[:, :], int32[:, ::1], float64[:, ::1], int64[::1])")
def _chains(counter, block_rows, error, vertices, slopes, edges):
    """Write each row's vertices after k = 0, the slope of the edge to each, and their number."""
    rows, limit = slopes.shape
    while True:
        top = next_block(counter) * block_rows
        if top >= rows:
            return
        for row in range(top, min(top + block_rows, rows)):
            curve, vertex, slope = error[row], vertices[row], slopes[row]
            size = 0
            for k in range(1, limit + 1):
                while True:
                    last = vertex[size - 1] if size else 0
                    new_slope = (curve[k] - curve[last]) / (k - last)
                    if size == 0 or slope[size - 1] < new_slope:
                        break
                    size -= 1
                vertex[size] = k
                slope[size] = new_slope
                size += 1
            edges[row] = size


@compiled("void(int64[::1], int64[::1], int64[::1], int64, int64[::1])")
def _take_edges(order, row, length, total, counts):
    left = total
    for edge in order:
        taken = min(length[edge], left)
        counts[row[edge]] += taken
        left -= taken
        if left == 0:
            return
