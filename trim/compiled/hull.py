"""Lower convex hulls of the rows' error curves, by the monotone chain (Andrew, Inf. Process. Lett. 9, 1979)."""

import numpy as np

from trim.compiled.compiler import compiled, inlined, next_block
from trim.compiled.workers import share_rows

_BLOCK_ROWS = 16


def hull_edges(error: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the edges of the hull of each row over 0 ≤ k ≤ limit.

    Args:
        error: (D, N + 1) float64.

    Returns:
        Row and length, (E,) int64 each, and slope, (E,) float64, of all edges, row after row.
    """
    rows = len(error)
    number = np.empty(rows, np.int64)
    share_rows(_count_edges, rows, _BLOCK_ROWS, error, limit, number)
    end = np.cumsum(number)
    length, slope = np.empty(end[-1], np.int64), np.empty(end[-1])
    share_rows(_write_edges, rows, _BLOCK_ROWS, error, limit, end - number, length, slope)
    return np.repeat(np.arange(rows), number), length, slope


def take_edges(order: np.ndarray, row: np.ndarray, length: np.ndarray, total: int, rows: int) -> np.ndarray:
    """Count the weights that each row loses, (D,) int64, when edges are taken in order until `total` weights are."""
    counts = np.zeros(rows, np.int64)
    _take_edges(order, row, length, total, counts)
    return counts


@inlined
def _chain(curve, limit, vertex, slope):
    """Write the vertices of one curve after k = 0, and the slope of the edge to each; return how many."""
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
    return edges


@compiled("void(int64[::1], int64, float64[:, :], int64, int64[::1])")
def _count_edges(counter, block_rows, error, limit, number):
    vertex, slope = np.empty(limit, np.int64), np.empty(limit)
    while True:
        top = next_block(counter) * block_rows
        if top >= len(error):
            return
        for row in range(top, min(top + block_rows, len(error))):
            number[row] = _chain(error[row], limit, vertex, slope)


@compiled("void(int64[::1], int64, float64[:, :], int64, int64[::1], int64[::1], float64[::1])")
def _write_edges(counter, block_rows, error, limit, begin, lengths, slopes):
    vertex, slope = np.empty(limit, np.int64), np.empty(limit)
    while True:
        top = next_block(counter) * block_rows
        if top >= len(error):
            return
        for row in range(top, min(top + block_rows, len(error))):
            edges = _chain(error[row], limit, vertex, slope)
            before = 0
            for edge in range(edges):
                lengths[begin[row] + edge] = vertex[edge] - before
                slopes[begin[row] + edge] = slope[edge]
                before = vertex[edge]


@compiled("void(int64[::1], int64[::1], int64[::1], int64, int64[::1])")
def _take_edges(order, row, length, total, counts):
    left = total
    for edge in order:
        taken = min(length[edge], left)
        counts[row[edge]] += taken
        left -= taken
        if left == 0:
            return
