"""The sweep over a layer's sorted columns, and products of masked weights."""

import numpy as np

from trim.compiled.compiler import compiled, inlined, next_block
from trim.compiled.workers import share_rows
from trim.measures import EPSILON

_BLOCK_ROWS = 4  # of a dense product; `_multiply` and `_terms` are written for four
# Input vectors at a time: a row's running output and the input columns added to it fit into the first cache, and no
# float32 sum has more terms than this.
_TILE = 128
_LANES = 8


def sweep(weight: np.ndarray, inputs: np.ndarray, order: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """Compute a layer's retention curves.

    Products are float32, sums over columns and over tiles of input vectors float64, but for the running outputs.

    Args:
        weight: (D, N) float32.
        inputs: (N, L) float32.
        order: (D, N) int32, each row's columns by ascending score.

    Returns:
        dot, energy, error and cosine, (D, N + 1, 4) float64, interleaved as a search looks them up; the output, (D, L)
        float32; whether all of them are finite.
    """
    rows, columns = weight.shape
    # Aligned, so that the four values that a search looks up at one count lie in one cache line.
    buffer = np.empty(rows * (columns + 1) * 4 + 7)
    first = -buffer.ctypes.data // buffer.itemsize % 8
    curves = buffer[first : first + rows * (columns + 1) * 4].reshape(rows, columns + 1, 4)
    output, finite = np.empty((rows, inputs.shape[1]), np.float32), np.empty(rows, np.bool_)
    share_rows(
        _sweep, rows, _BLOCK_ROWS, np.ascontiguousarray(weight), _tiles(inputs), np.ascontiguousarray(order),
        curves, output, finite,
    )  # fmt: skip
    return curves, output, bool(finite.all())


def kept_output(weight: np.ndarray, inputs: np.ndarray, ranks: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Compute the output of a layer of which row i has lost its `counts[i]` lowest-score weights.

    Args:
        weight: (D, N) float32.
        inputs: (N, L) float32.
        ranks: (D, N) int32, how many columns a row loses before each.
        counts: (D,) int64.

    Returns:
        (D, L) float32.
    """
    output = np.empty((len(weight), inputs.shape[1]), np.float32)
    share_rows(
        _kept_output, len(weight), _BLOCK_ROWS, np.ascontiguousarray(weight), _tiles(inputs),
        np.ascontiguousarray(ranks), np.ascontiguousarray(counts), output,
    )  # fmt: skip
    return output


def _tiles(inputs: np.ndarray) -> np.ndarray:
    """Lay out (N, L) as (tiles, N, width), each input vector's part of a tile contiguous; zeros fill the last tile."""
    columns, vectors = inputs.shape
    tiles = -(-vectors // _TILE)
    width = -(-vectors // (tiles * _LANES)) * _LANES
    packed = np.zeros((tiles, columns, width), np.float32)
    for tile in range(tiles):
        part = inputs[:, tile * width : (tile + 1) * width]
        packed[tile, :, : part.shape[1]] = part
    return packed


@inlined
def _multiply(weight, inputs, output):
    """Write four rows of weight (4, N) times inputs, (4, tiles, width)."""
    columns = weight.shape[1]
    tiles, _, width = inputs.shape
    output[:] = 0
    for tile in range(tiles):
        x = inputs[tile]
        y0, y1, y2, y3 = output[0, tile], output[1, tile], output[2, tile], output[3, tile]
        for pair in range(columns // 2):
            j = 2 * pair
            a0, a1, a2, a3 = weight[0, j], weight[1, j], weight[2, j], weight[3, j]
            b0, b1, b2, b3 = weight[0, j + 1], weight[1, j + 1], weight[2, j + 1], weight[3, j + 1]
            for v in range(width):
                a, b = x[j, v], x[j + 1, v]
                y0[v] += a0 * a + b0 * b
                y1[v] += a1 * a + b1 * b
                y2[v] += a2 * a + b2 * b
                y3[v] += a3 * a + b3 * b
        if columns % 2:
            j = columns - 1
            a0, a1, a2, a3 = weight[0, j], weight[1, j], weight[2, j], weight[3, j]
            for v in range(width):
                a = x[j, v]
                y0[v] += a0 * a
                y1[v] += a1 * a
                y2[v] += a2 * a
                y3[v] += a3 * a


@inlined
def _terms(inputs, output, terms):
    """Write ⟨x_j, Y_i⟩ for all columns of four rows, (4, N) float64."""
    tiles, columns, width = inputs.shape
    terms[:] = 0
    for tile in range(tiles):
        x = inputs[tile]
        y0, y1, y2, y3 = output[0, tile], output[1, tile], output[2, tile], output[3, tile]
        for j in range(columns):
            s0 = s1 = s2 = s3 = np.float32(0)
            for v in range(width):
                a = x[j, v]
                s0 += a * y0[v]
                s1 += a * y1[v]
                s2 += a * y2[v]
                s3 += a * y3[v]
            terms[0, j] += s0
            terms[1, j] += s1
            terms[2, j] += s2
            terms[3, j] += s3


def _adding_columns(subtract):
    """Make the function that adds columns; numba drops what is under `if subtract` where that is False."""

    @inlined
    def add(x, order, weight, dense, pruned, first, last, error, energy):
        """Add columns first to last − 1 to the pruned part P of one row's tile Y; after each, add ‖P‖² to the error.

        With `subtract`, also add ‖Y − P‖² to the energy.
        """
        width = len(pruned)
        k = first
        while k + 3 < last:
            x0, x1, x2, x3 = x[order[k]], x[order[k + 1]], x[order[k + 2]], x[order[k + 3]]
            w0, w1, w2, w3 = weight[k], weight[k + 1], weight[k + 2], weight[k + 3]
            e0 = e1 = e2 = e3 = f0 = f1 = f2 = f3 = np.float32(0)
            for v in range(width):
                a = pruned[v] + w0 * x0[v]
                b = a + w1 * x1[v]
                c = b + w2 * x2[v]
                d = c + w3 * x3[v]
                e0 += a * a
                e1 += b * b
                e2 += c * c
                e3 += d * d
                pruned[v] = d
                if subtract:
                    y = dense[v]
                    f0 += (y - a) * (y - a)
                    f1 += (y - b) * (y - b)
                    f2 += (y - c) * (y - c)
                    f3 += (y - d) * (y - d)
            error[k + 1] += e0
            error[k + 2] += e1
            error[k + 3] += e2
            error[k + 4] += e3
            if subtract:
                energy[k + 1] += f0
                energy[k + 2] += f1
                energy[k + 3] += f2
                energy[k + 4] += f3
            k += 4
        while k < last:
            x0, w0 = x[order[k]], weight[k]
            e0 = f0 = np.float32(0)
            for v in range(width):
                a = pruned[v] + w0 * x0[v]
                e0 += a * a
                pruned[v] = a
                if subtract:
                    f0 += (dense[v] - a) * (dense[v] - a)
            error[k + 1] += e0
            if subtract:
                energy[k + 1] += f0
            k += 1

    return add


_add_columns, _add_columns_and_subtract = _adding_columns(False), _adding_columns(True)


@compiled(
    "void(int64[::1], int64, float32[:, ::1], float32[:, :, ::1], int32[:, ::1], float64[:, :, ::1], "
    "float32[:, ::1], boolean[::1])"
)
def _sweep(counter, block_rows, weight, inputs, order, curves, output, finite):
    """Write the curves and dense outputs of blocks of rows, and whether they are finite.

    The kept part Y − P(k) is computed only where it is needed. While dot ≥ ‖Y‖² / 2 the energy is error − ‖Y‖² + 2·dot:
    there energy ≥ dot² / ‖Y‖², so that rounding is magnified nine times at most.
    """
    rows, columns = weight.shape
    tiles, _, width = inputs.shape
    vectors = output.shape[1]
    block = np.zeros((4, columns), np.float32)
    dense = np.empty((4, tiles, width), np.float32)
    terms = np.empty((4, columns), np.float64)
    ascending = np.empty(columns, np.float32)
    pruned = np.empty(width, np.float32)
    dot, energy, error = np.empty(columns + 1), np.empty(columns + 1), np.empty(columns + 1)
    while True:
        top = next_block(counter) * block_rows
        if top >= rows:
            return
        size = min(block_rows, rows - top)
        block[:size] = weight[top : top + size]
        _multiply(block, inputs, dense)
        _terms(inputs, dense, terms)
        for i in range(size):
            row = top + i
            row_order = order[row]
            norm = 0.0
            for v in range(vectors):
                value = dense[i, v // width, v % width]
                output[row, v] = value
                norm += np.float64(value) * np.float64(value)
            # ⟨Y, Ŷ(k)⟩ is a running sum of w_j ⟨x_j, Y⟩ from the last column down to k: at N it is exactly 0.
            for k in range(columns):
                ascending[k] = block[i, row_order[k]]
            below = 0.0
            for k in range(columns):
                below += terms[i, row_order[k]] * ascending[k]
                dot[k + 1] = below
            for k in range(1, columns + 1):
                dot[k] = below - dot[k]
            dot[0] = norm
            from_sums = 0
            while from_sums < columns and dot[from_sums + 1] >= 0.5 * norm:
                from_sums += 1
            energy[:] = 0
            error[:] = 0
            for tile in range(tiles):
                pruned[:] = 0
                x = inputs[tile]
                dense_tile = dense[i, tile]
                _add_columns(x, row_order, ascending, dense_tile, pruned, 0, from_sums, error, energy)
                _add_columns_and_subtract(
                    x, row_order, ascending, dense_tile, pruned, from_sums, columns, error, energy
                )
            for k in range(1, from_sums + 1):
                energy[k] = error[k] - norm + 2 * dot[k]
            energy[0] = error[columns] = norm
            energy[columns] = error[0] = 0.0
            total = 0.0
            for k in range(columns + 1):
                total += dot[k] + energy[k] + error[k]
                curves[row, k, 0] = dot[k]
                curves[row, k, 1] = energy[k]
                curves[row, k, 2] = error[k]
                cosine = dot[k] / ((np.sqrt(norm) + EPSILON) * (np.sqrt(energy[k]) + EPSILON))
                curves[row, k, 3] = min(max(cosine, -1.0), 1.0)
            finite[row] = np.isfinite(total)


@compiled(
    "void(int64[::1], int64, float32[:, ::1], float32[:, :, ::1], int32[:, ::1], int64[::1], float32[:, ::1])"
)
def _kept_output(counter, block_rows, weight, inputs, ranks, counts, output):
    """Write the output of blocks of rows, times their masks."""
    rows, columns = weight.shape
    tiles, _, width = inputs.shape
    vectors = output.shape[1]
    block = np.zeros((4, columns), np.float32)
    kept = np.empty((4, tiles, width), np.float32)
    while True:
        top = next_block(counter) * block_rows
        if top >= rows:
            return
        size = min(block_rows, rows - top)
        for i in range(size):
            row = top + i
            for j in range(columns):
                block[i, j] = weight[row, j] if ranks[row, j] >= counts[row] else np.float32(0)
        _multiply(block, inputs, kept)
        for i in range(size):
            for v in range(vectors):
                output[top + i, v] = kept[i, v // width, v % width]
