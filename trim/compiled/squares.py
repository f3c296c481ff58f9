"""Sums of squares over the vectors that a layer receives."""

import numpy as np

from trim.compiled.compiler import compiled

_AT_ONCE = 4  # vectors, so that sums are read and written a quarter as often


def squares_of_columns(vectors: np.ndarray) -> np.ndarray:
    """Compute Σ x_j² over vectors (L, N) float32, (N,) float64; squares are rounded to float32.

    One thread does it, about as fast as memory is read.
    """
    sums = np.zeros(vectors.shape[1])
    _add_squares(np.ascontiguousarray(vectors), sums)
    return sums


@compiled("void(float32[:, ::1], float64[::1])")
def _add_squares(vectors, sums):
    number, columns = vectors.shape
    first = 0
    while first + _AT_ONCE <= number:
        a, b, c, d = vectors[first], vectors[first + 1], vectors[first + 2], vectors[first + 3]
        for j in range(columns):
            two = np.float64(a[j] * a[j]) + np.float64(b[j] * b[j])
            sums[j] += two + (np.float64(c[j] * c[j]) + np.float64(d[j] * d[j]))
        first += _AT_ONCE
    for i in range(first, number):
        for j in range(columns):
            sums[j] += np.float64(vectors[i, j] * vectors[i, j])
