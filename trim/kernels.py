"""Retention curves of a layer on a CUDA device, in Triton.

Imported only where such a device is used. What `retention.retention_curves` says holds here too, with running
outputs and curves in float32. A row's pruned part p, the sum of w_j · x_j from the least important column up, stays in
registers, eight lanes to a row. Where a chunk of columns begins, its error ‖p‖² and energy ‖Y − p‖² are summed up
afresh, element by element; within it a column adds w · (2⟨p, x⟩ + w · ‖x‖²) to the error, and that less 2w · ⟨Y, x⟩
to the energy. ⟨Y, x⟩ of all columns of all rows is one matrix product beforehand.

What bounds the sweep: for every weight of the layer one input vector set (L values) is gathered, 2 L bytes where it
was captured in half precision, and every value costs a conversion and two float32 operations (multiply with the part,
add to it). For one column of four rows and 256 vectors a warp issues about 140 instructions: 96 of these, 12 for its
share of what a chunk begins with, 6 shuffles and additions of the sum over vectors, 8 selections that keep it until
eight columns are done, 6 loads, and what turns eight sums into curves. On an H200 (132 processors of four schedulers,
1.98 GHz) 13824 × 5120 with 256 inputs is bound by them to 2.4 ms; the 36 GB that are gathered from L2 would pass the
processors' ports (64 bytes a cycle) in 2.2 ms, and device memory (curves, order and products, 1.5 GB) takes 0.4 ms.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from trim.order_kernels import sort_rows
from trim.products import full_product, wide_product

LANE_BYTES = 16  # the widest load
ROW_LANES = 8  # lanes that share a row: with 8 a warp reads whole cache lines, and sums need three shuffles
CHUNK_COLUMNS = 8  # columns between two stores of the curves
SLICE_VECTORS = 256  # calibration vectors in one sweep; more are swept in turn and added
INSTRUCTIONS = 35  # that a warp issues for one weight and 256 half-precision vectors, a quarter of 140
INSTRUCTIONS_PER_SECOND = 4 * 1.98e9  # of a processor, at an H200's highest clock


def retention(
    weight: Tensor, inputs: Tensor, score: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Order, curves and dense output of a layer.

    Args:
        weight: (D, N) float16, bfloat16 or float32.
        inputs: (N, L') likewise, contiguous; L' = `padded_vectors(L, dtype)`, zero beyond L.
        score: (D, N) float32.

    Returns:
        dot, energy, error: (D, N + 1) float32.
        order: (D, N) int16 or int32.
        output: (D, L') float32.
        sound: () bool; False: a score is not finite or is negative, or a curve is not finite.
    """
    rows, columns = weight.shape
    order, sorted_weight, sound = sort_rows(weight, score)
    output = full_product(weight, inputs)
    energy, error, dot = (weight.new_empty(rows, columns + 1, dtype=torch.float32) for _ in range(3))
    total = output.square().sum(dim=1)
    curve_sum = torch.zeros_like(total)
    row_block, segments, width = _tile(inputs)
    slices = inputs.split(segments * width, dim=1)
    for number, part in enumerate(slices):
        left = number * segments * width
        output_part = output[:, left : left + segments * width]
        size = torch.linalg.vector_norm(part, dim=1, dtype=torch.float32).square_()
        _sweep[(triton.cdiv(rows, row_block),)](
            part, order, sorted_weight, output_part, wide_product(output_part, part.T), size,
            total, energy, error, dot, curve_sum,
            rows, columns, inputs.shape[1], order.stride(0),
            FIRST=number == 0, LAST=number == len(slices) - 1,
            ROWS=row_block, SEGMENTS=segments, WIDTH=width, CHUNK=CHUNK_COLUMNS, num_warps=1,
        )  # fmt: skip
    energy[:, 0], error[:, 0], dot[:, 0] = total, 0, total
    energy[:, -1], error[:, -1], dot[:, -1] = 0, total, 0
    return dot, energy, error, order[:, :columns], output, sound & torch.isfinite(curve_sum).all()


def padded_vectors(vectors: int, dtype: torch.dtype) -> int:
    """L', the calibration vectors with those of value 0 that fill up the sweep's tiles."""
    width = ROW_LANES * LANE_BYTES // dtype.itemsize
    if vectors >= SLICE_VECTORS:
        return triton.cdiv(vectors, SLICE_VECTORS) * SLICE_VECTORS
    return max(triton.next_power_of_2(vectors), width)


def _tile(inputs: Tensor) -> tuple[int, int, int]:
    """Rows, segments and vectors in a segment of one warp's tile: `ROW_LANES` lanes load a segment of a row at once."""
    width = ROW_LANES * LANE_BYTES // inputs.element_size()
    return 32 // ROW_LANES, min(inputs.shape[1], SLICE_VECTORS) // width, width


@triton.jit
def _sweep(
    inputs, order, weight, output, product, size, total, energy, error, dot, curve_sum,
    rows, columns, vectors, stride,
    FIRST: tl.constexpr, LAST: tl.constexpr,
    ROWS: tl.constexpr, SEGMENTS: tl.constexpr, WIDTH: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Curves of `ROWS` rows over one slice of the vectors, added to those of the slices before it."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    real = row < rows
    row = tl.minimum(row, rows - 1).to(tl.int64)
    vector = (tl.arange(0, SEGMENTS) * WIDTH)[None, :, None] + tl.arange(0, WIDTH)[None, None, :]
    dense = tl.load(output + (row * vectors)[:, None, None] + vector)
    total_energy = tl.load(total + row)[:, None]
    pruned = tl.zeros((ROWS, SEGMENTS, WIDTH), tl.float32)
    curve_sums = tl.zeros((ROWS, CHUNK), tl.float32)
    step_of = tl.arange(0, CHUNK)[None, :]
    for left in range(0, columns, CHUNK):
        rest = dense - pruned
        lost = tl.sum(tl.sum(pruned * pruned, axis=1), axis=1)[:, None]
        kept = tl.sum(tl.sum(rest * rest, axis=1), axis=1)[:, None]
        met = tl.zeros((ROWS, CHUNK), tl.float32)
        for step in tl.static_range(CHUNK):
            column = tl.load(order + row * stride + left + step).to(tl.int32)
            scale = tl.load(weight + row * stride + left + step).to(tl.float32)
            # As in _sort, an untrue hint: it spreads rows, rather than segments, over the lanes.
            source = inputs + (column * vectors)[:, None, None] + vector
            read = tl.load(tl.max_contiguous(source, [2, 1, WIDTH])).to(tl.float32)
            met_here = tl.sum(tl.sum(pruned * read, axis=1), axis=1)
            met = tl.where(step_of == step, met_here[:, None], met)
            pruned += scale[:, None, None] * read
        # Behind the last column stand weights of 0.
        place = row[:, None] * stride + left + step_of
        column = tl.load(order + place).to(tl.int32)
        scale = tl.load(weight + place).to(tl.float32)
        grown = scale * (2 * met + scale * tl.load(size + column))
        shrunk = 2 * scale * tl.load(product + row[:, None] * columns + column) - grown
        lost += tl.cumsum(grown, axis=1)
        kept -= tl.cumsum(shrunk, axis=1)
        after = left + 1 + step_of
        place = row[:, None] * (columns + 1) + after
        inside = real[:, None] & (after <= columns)
        if not FIRST:
            lost += tl.load(error + place, mask=inside, other=0.0)
            kept += tl.load(energy + place, mask=inside, other=0.0)
        if LAST:
            curve_sums += lost + kept
            # Rounding may leave a little less than nothing.
            lost = tl.maximum(lost, 0.0)
            kept = tl.maximum(kept, 0.0)
            # ‖Y − Ŷ‖² = ‖Y‖² − 2⟨Y, Ŷ⟩ + ‖Ŷ‖²
            tl.store(dot + place, 0.5 * (total_energy + (kept - lost)), mask=inside)
        tl.store(error + place, lost, mask=inside)
        tl.store(energy + place, kept, mask=inside)
    if LAST:
        tl.store(curve_sum + row, tl.sum(curve_sums, axis=1), mask=real)
