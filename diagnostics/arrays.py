"""Checks of array arguments, so that each statistic fails early and says which argument was wrong."""

from collections.abc import Iterable

import numpy as np


def real_array(name: str, values: object, ndim: int, *, finite: bool = True) -> np.ndarray:
    """`values` as an array of real numbers with `ndim` axes; float64 unless already a float type.

    Raises ValueError, naming the argument, for another number of axes, an empty array, values that are not
    real numbers, and (if `finite`) NaN or infinity.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold real numbers, not {array.dtype}")
    if array.dtype.kind != "f":
        array = array.astype(np.float64)
    if array.ndim != ndim or array.size == 0:
        raise ValueError(f"{name} must have {ndim} non-empty axes, its shape is {array.shape}")
    if finite and not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinity")
    return array


def row_indices(rows: Iterable[int], count: int) -> np.ndarray:
    """`rows` as distinct int64 indices in the order given, shape (S,).

    Raises ValueError for an index outside 0..count-1.
    """
    indices = np.fromiter(dict.fromkeys(int(row) for row in rows), dtype=np.int64)
    outside = indices[(indices < 0) | (indices >= count)]
    if outside.size:
        raise ValueError(f"rows are numbered 0 to {count - 1}, got {outside.tolist()}")
    return indices


def check_shape(name: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    """Raise ValueError, naming the argument, unless `array` has this shape."""
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, its shape is {array.shape}")


def spread_indices(length: int, points: int) -> np.ndarray:
    """At most `points` (>= 2) indices into 0..length-1, evenly spread, the first and the last among them."""
    if length <= points:
        return np.arange(length)
    return np.unique(np.round(np.linspace(0, length - 1, points)).astype(np.int64))
