"""Sort each row's columns by ascending score, and mark which of them are kept.

The sort is by radix, a byte at a time, so that equal scores keep column order.
"""

import numpy as np

from trim.compiled.compiler import compiled, next_block
from trim.compiled.workers import share_rows

_BLOCK_ROWS = 16


def order_rows(score: np.ndarray) -> tuple[np.ndarray, bool]:
    """Sort each row.

    Args:
        score: (D, N) float32 or float64, not negative.

    Returns:
        (D, N) int32, the columns of each row; whether all scores are finite and not negative.
    """
    if score.dtype == np.float64:
        valid = bool(np.isfinite(score).all() and (score >= 0).all())
        return np.argsort(score, axis=1, kind="stable").astype(np.int32), valid
    order, valid_rows = np.empty(score.shape, np.int32), np.empty(len(score), np.bool_)
    bits = np.ascontiguousarray(score).view(np.uint32)
    share_rows(_order_rows, len(score), _BLOCK_ROWS, bits, order, valid_rows)
    return order, bool(valid_rows.all())


def kept_in_order(order: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Mark what each row keeps when it loses the first `counts[i]` columns of its order, (D, N) bool.

    Args:
        order: (D, N) int32.
        counts: (D,) int64.
    """
    keep = np.empty(order.shape, np.bool_)
    share_rows(
        _kept_in_order,
        len(order),
        _BLOCK_ROWS,
        np.ascontiguousarray(order),
        np.ascontiguousarray(counts),
        keep,
    )
    return keep


@compiled("void(int64[::1], int64, int32[:, ::1], int64[::1], boolean[:, ::1])")
def _kept_in_order(counter, block_rows, order, counts, keep):
    """Write the mask of blocks of rows."""
    rows, columns = order.shape
    while True:
        top = next_block(counter) * block_rows
        if top >= rows:
            return
        for row in range(top, min(top + block_rows, rows)):
            for k in range(columns):
                keep[row, order[row, k]] = k >= counts[row]


@compiled("void(int64[::1], int64, uint32[:, ::1], int32[:, ::1], boolean[::1])")
def _order_rows(counter, block_rows, bits, order, valid_rows):
    """Sort the columns of blocks of rows by the bits of their scores, which sort like the scores if none is negative.

    A pair of 64 bits has the score's bits in its upper half, and the column in its lower.
    """
    rows, columns = bits.shape
    pairs = np.empty((2, columns), np.uint64)
    offsets = np.empty(
        (4, 256), np.int32
    )  # of each byte's values: first their counts, then where the next one goes
    while True:
        top = next_block(counter) * block_rows
        if top >= rows:
            return
        for row in range(top, min(top + block_rows, rows)):
            offsets[:] = 0
            valid = True
            for j in range(columns):
                key = bits[row, j] & np.uint32(0x7FFF_FFFF)  # −0 is 0
                valid &= key < np.uint32(0x7F80_0000) and (key == bits[row, j] or key == 0)
                pairs[0, j] = np.uint64(key) << np.uint64(32) | np.uint64(j)
                offsets[0, key & np.uint32(255)] += 1
                offsets[1, key >> np.uint32(8) & np.uint32(255)] += 1
                offsets[2, key >> np.uint32(16) & np.uint32(255)] += 1
                offsets[3, key >> np.uint32(24)] += 1
            valid_rows[row] = valid
            source, target = pairs[0], pairs[1]
            for digit in range(4):
                shift = np.uint64(32 + 8 * digit)
                offset = offsets[digit]
                if offset[source[0] >> shift & np.uint64(255)] == columns:
                    continue  # the byte is the same everywhere
                before = 0
                for value in range(256):
                    number = offset[value]
                    offset[value] = before
                    before += number
                for j in range(columns):
                    pair = source[j]
                    value = pair >> shift & np.uint64(255)
                    target[offset[value]] = pair
                    offset[value] += 1
                source, target = target, source
            for j in range(columns):
                order[row, j] = source[j] & np.uint64(0xFFFF_FFFF)
