"""Retention curves of layers on a CUDA device, in Triton.

Imported only where such a device is used. They are those of `trim.methods.sweep.retention_curves`, with running outputs
and curves in float32: the error from the pruned part, accumulated from the least important column up, and the energy
from its elementwise difference to the dense output.

A row's running output stays in registers, eight lanes to a row. Instructions limit the sweep: every weight gathers one
set of L values, and each costs a conversion and four float32 operations. docs/kernels.md lists slower variants.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from trim.kernels.padding import LANE_BYTES, ROW_LANES, SLICE_VECTORS, padded_vectors
from trim.kernels.sort import sort_rows
from trim.matmul import full_product

CHUNK_COLUMNS = 8  # columns between two stores of the curves
REGISTERS = 128  # of a thread, so that a processor holds 16 warps


def retention(
    weight: Tensor, inputs: Tensor, score: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Compute the order, curves and dense output of G layers of one shape.

    Args:
        weight: (G · D, N) float16, bfloat16 or float32, contiguous; one layer's rows after the other's.
        inputs: (G, N, L) of such a type, in any layout.
        score: (G · D, N) float32, contiguous.

    Returns:
        dot, energy, error: (G · D, N + 1) float32.
        order: (G · D, N) int16 or int32.
        output: (G · D, L) float32.
        invalid: (G,) int32; not 0: a score is not finite or is negative, or a curve is not finite.
    """
    layers, columns, vectors = inputs.shape
    rows = len(weight) // layers
    invalid = weight.new_zeros(layers, dtype=torch.int32)
    order, sorted_weight = sort_rows(weight, score, invalid)
    # A copy, padded with vectors of zeros.
    padded = inputs.new_zeros(layers, columns, padded_vectors(vectors, inputs.dtype))
    padded[..., :vectors] = inputs
    output = full_product(weight.view(layers, rows, columns), padded).flatten(0, 1)
    energy, error, dot = (weight.new_empty(len(weight), columns + 1, dtype=torch.float32) for _ in range(3))
    row_block, segments, width = _tile(padded)
    slices = range(0, padded.shape[2], segments * width)
    for left in slices:
        _sweep[(triton.cdiv(rows, row_block), layers)](
            padded[..., left:], order, sorted_weight, output[:, left:], energy, error, dot, invalid,
            rows, columns, padded.shape[2], order.stride(0),
            FIRST=left == 0, LAST=left == slices[-1],
            ROWS=row_block, SEGMENTS=segments, WIDTH=width, CHUNK=CHUNK_COLUMNS, num_warps=1, maxnreg=REGISTERS,
        )  # fmt: skip
    return dot, energy, error, order[:, :columns], output[:, :vectors], invalid


def _tile(inputs: Tensor) -> tuple[int, int, int]:
    """Return rows, segments and vectors per segment of a warp's tile: `ROW_LANES` lanes load a segment at once."""
    width = ROW_LANES * LANE_BYTES // inputs.element_size()
    return 32 // ROW_LANES, min(inputs.shape[2], SLICE_VECTORS) // width, width


@triton.jit
def _sweep(
    inputs, order, weight, output, energy, error, dot, invalid, rows, columns, vectors, stride,
    FIRST: tl.constexpr, LAST: tl.constexpr,
    ROWS: tl.constexpr, SEGMENTS: tl.constexpr, WIDTH: tl.constexpr, CHUNK: tl.constexpr,
):  # fmt: skip
    """Add the curves of `ROWS` rows of a layer over one slice of the vectors to those of the previous slices."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    layer = tl.program_id(1).to(tl.int64)
    real = row < rows
    row = layer * rows + tl.minimum(row, rows - 1)
    inputs += layer * columns * vectors
    vector = (tl.arange(0, SEGMENTS) * WIDTH)[None, :, None] + tl.arange(0, WIDTH)[None, None, :]
    dense = tl.load(output + (row * vectors)[:, None, None] + vector)
    start = row * (columns + 1)
    total = tl.sum(tl.reshape(dense * dense, (ROWS, SEGMENTS * WIDTH)), axis=1)
    if not FIRST:
        total += tl.load(energy + start)
    tl.store(energy + start, total, mask=real)
    pruned = tl.zeros((ROWS, SEGMENTS, WIDTH), tl.float32)
    curve_sums = tl.zeros((ROWS, CHUNK), tl.float32)
    step_of = tl.arange(0, CHUNK)[None, :]
    for left in range(0, columns, CHUNK):
        lost = tl.zeros((ROWS, CHUNK), tl.float32)
        kept = tl.zeros((ROWS, CHUNK), tl.float32)
        for step in tl.static_range(CHUNK):
            column = tl.load(order + row * stride + left + step).to(tl.int32)
            scale = tl.load(weight + row * stride + left + step).to(tl.float32)
            # As in `trim.kernels.sort`, an untrue hint: it spreads rows, rather than segments, over the lanes.
            source = inputs + (column * vectors)[:, None, None] + vector
            read = tl.load(tl.max_contiguous(source, [2, 1, WIDTH])).to(tl.float32)
            pruned += scale[:, None, None] * read
            rest = dense - pruned
            # Summed up along one axis: along two, a lane would add eight sums of four products instead of products.
            lost_here = tl.sum(tl.reshape(pruned * pruned, (ROWS, SEGMENTS * WIDTH)), axis=1)
            kept_here = tl.sum(tl.reshape(rest * rest, (ROWS, SEGMENTS * WIDTH)), axis=1)
            lost = tl.where(step_of == step, lost_here[:, None], lost)
            kept = tl.where(step_of == step, kept_here[:, None], kept)
        after = left + 1 + step_of
        place = start[:, None] + after
        inside = real[:, None] & (after < columns)
        if not FIRST:
            lost += tl.load(error + place, mask=inside, other=0.0)
            kept += tl.load(energy + place, mask=inside, other=0.0)
        tl.store(error + place, lost, mask=inside)
        tl.store(energy + place, kept, mask=inside)
        if LAST:
            # ‖Y − Ŷ‖² = ‖Y‖² − 2⟨Y, Ŷ⟩ + ‖Ŷ‖²
            tl.store(dot + place, 0.5 * (total[:, None] + (kept - lost)), mask=inside)
            curve_sums += lost + kept
    if LAST:
        nothing = tl.zeros((ROWS,), tl.float32)
        tl.store(error + start, nothing, mask=real)
        tl.store(dot + start, total, mask=real)
        tl.store(energy + start + columns, nothing, mask=real)
        tl.store(error + start + columns, total, mask=real)
        tl.store(dot + start + columns, nothing, mask=real)
        # The total contains the ends of earlier slices.
        finite = tl.sum(curve_sums, axis=1) + total < float("inf")
        tl.atomic_or(invalid + layer, 1, mask=tl.min((finite | ~real).to(tl.int32), axis=0) == 0)
