"""A layer's mask, pooled to a picture that a browser can hold."""

from dataclasses import dataclass

import numpy as np

PICTURE_LIMIT = 512


@dataclass(frozen=True, eq=False)
class MaskDensity:
    """Share of kept weights per block of a (rows, columns) mask.

    kept_fraction: (h, w) float32, h and w at most PICTURE_LIMIT. Each entry covers `row_block` rows and
    `column_block` columns; the last ones cover what is left.
    """

    kept_fraction: np.ndarray
    rows: int
    columns: int
    row_block: int
    column_block: int
    layer_sparsity: float


def pool_mask(mask: np.ndarray) -> MaskDensity:
    """Pool a mask (D, N), True where a weight is kept. Raises ValueError unless it is bool with two axes."""
    mask = np.asarray(mask)
    if mask.dtype != bool or mask.ndim != 2 or mask.size == 0:
        raise ValueError(f"mask must be a bool matrix, got {mask.dtype} of shape {mask.shape}")
    rows, columns = mask.shape
    row_block, column_block = (-(-size // PICTURE_LIMIT) for size in mask.shape)
    row_starts = np.arange(0, rows, row_block)
    column_starts = np.arange(0, columns, column_block)
    # Row blocks one at a time: a reduceat over the whole mask would first widen every bit to an integer.
    by_rows = np.stack([mask[start : start + row_block].sum(axis=0) for start in row_starts])
    kept = np.add.reduceat(by_rows, column_starts, axis=1)
    height = np.minimum(row_starts + row_block, rows) - row_starts
    width = np.minimum(column_starts + column_block, columns) - column_starts
    return MaskDensity(
        (kept / np.outer(height, width)).astype(np.float32),
        rows,
        columns,
        row_block,
        column_block,
        1.0 - float(kept.sum()) / mask.size,
    )
