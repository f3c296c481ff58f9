"""Lower convex hulls of error curves on a CUDA device, in Triton.

Imported only where such a device is used. Andrew's monotone chain ("Another efficient algorithm for convex hulls in
two dimensions", Information Processing Letters 9, 1979), one lane to a chain: a row is cut into pieces, each lane
finds the hull of one, and a second pass finds each row's hull among the vertices of its pieces' hulls. In a step a
lane either drops its last vertex or adds the next point, so lanes that drop different numbers of vertices never wait
for each other, and a piece of M points takes no more than 2 M steps. The last two vertices are in registers, those
below on a stack in memory.

Latency limits it: a step waits for one load, and among 32 lanes nearly always one misses the cache. docs/kernels.md
explains the number of pieces.
"""

from math import isqrt

import torch
import triton
import triton.language as tl
from torch import Tensor

LANES = 32  # one warp to a program: a lane then holds one chain
WARPS_PER_PROCESSOR = 16
MIN_PIECE = 4  # in √points: with shorter ones the second pass takes longer than the first
# Below the first vertex of a chain: the point (−1, ∞), from which every slope is −∞, so the first is never dropped.
BELOW_ALL = tl.constexpr((-1 << 32) | 0x7F800000)


def hull_edges(error: Tensor, top: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the edges of the lower convex hulls of some rows.

    Args:
        error: (D', P) float32, at least two points each, contiguous along the row.
        top: the number of the first of these rows.

    Returns:
        row, length: (E,) int64.
        slope: (E,) float64.
    """
    with torch.cuda.device(error.device):
        processors = torch.cuda.get_device_properties(error.device).multi_processor_count
        return _hull_edges(error, top, processors * WARPS_PER_PROCESSOR * LANES)


def _hull_edges(error: Tensor, top: int, lanes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Find the edges with about this many chains at once."""
    rows, points = error.shape
    length = max(triton.cdiv(points, triton.cdiv(lanes, rows)), min(MIN_PIECE * isqrt(points), points))
    pieces = triton.cdiv(points, length)
    stack = torch.empty(rows, points, dtype=torch.int64, device=error.device)
    size = torch.empty(pieces, rows, dtype=torch.int32, device=error.device)
    _hulls_of_pieces[(triton.cdiv(rows * pieces, LANES),)](
        error, stack, size, rows, points, error.stride(0), pieces, length, LANES=LANES, num_warps=1
    )
    if pieces > 1:
        _hulls_of_rows[(triton.cdiv(rows, LANES),)](
            stack, size, rows, points, pieces, length, LANES=LANES, num_warps=1
        )
    ends = torch.cumsum(size[0] - 1, dim=0)
    edges = int(ends[-1])
    row, spanned = (torch.empty(edges, dtype=torch.int64, device=error.device) for _ in range(2))
    slope = torch.empty(edges, dtype=torch.float64, device=error.device)
    _edges[(rows,)](stack, size, ends, row, spanned, slope, points, top, BLOCK=128, num_warps=1)
    return row, spanned, slope


@triton.jit
def _vertex(count, value):
    """Pack a point of a curve into one number: the count in the high bits, the bits of the error in the low ones."""
    bits = value.to(tl.int32, bitcast=True).to(tl.int64) & 0xFFFFFFFF
    return (count.to(tl.int64) << 32) | bits


@triton.jit
def _count(vertex):
    return (vertex >> 32).to(tl.int32)


@triton.jit
def _value(vertex):
    return vertex.to(tl.int32).to(tl.float32, bitcast=True).to(tl.float64)


@triton.jit
def _step(stack, size, below, last, point, live):
    """Advance chains that have `point` next by one step: drop the last vertex, or append the point.

    A vertex on or above the line between its neighbours is dropped. Slopes are compared by products in float64,
    which are exact for float32 errors within a factor 2^13 of each other in rows of up to 2^15 weights.

    Returns:
        size, below, last: the stack's size, and its last two vertices.
        added: whether the point was appended.
    """
    slope_before = (_value(last) - _value(below)) * (_count(point) - _count(last)).to(tl.float64)
    slope_after = (_value(point) - _value(last)) * (_count(last) - _count(below)).to(tl.float64)
    dropped = live & (slope_before >= slope_after)
    added = live & (slope_before < slope_after)
    tl.store(stack + size - 2, below, mask=added & (size > 1))
    deeper = tl.load(stack + size - 3, mask=dropped & (size > 2), other=BELOW_ALL)
    new_last = tl.where(dropped, below, tl.where(added, point, last))
    new_below = tl.where(dropped, deeper, tl.where(added, last, below))
    return size + added.to(tl.int32) - dropped.to(tl.int32), new_below, new_last, added


@triton.jit
def _finish(stack, size, below, last, real):
    """Store the two vertices that were in registers on the stack."""
    tl.store(stack + size - 1, last, mask=real)
    tl.store(stack + size - 2, below, mask=real & (size > 1))


@triton.jit
def _hulls_of_pieces(error, stack, size, rows, points, stride, pieces, length, LANES: tl.constexpr):
    """Store the vertices of each piece, beginning at the place of the piece in its row, and their number."""
    chain = tl.program_id(0) * LANES + tl.arange(0, LANES)
    real = chain < rows * pieces
    chain = tl.minimum(chain, rows * pieces - 1)
    row = (chain % rows).to(tl.int64)
    count = (chain // rows) * length
    end = tl.minimum(count + length, points)
    error += row * stride
    stack += row * points + count
    last = _vertex(count, tl.load(error + count))
    below = tl.full((LANES,), BELOW_ALL, tl.int64)
    height = tl.full((LANES,), 1, tl.int32)
    count += 1
    value = tl.load(error + count, mask=count < end, other=0.0)
    for _step_number in range(2 * length):
        live = real & (count < end)
        height, below, last, added = _step(stack, height, below, last, _vertex(count, value), live)
        count += added.to(tl.int32)
        value = tl.where(added, tl.load(error + count, mask=added & (count < end), other=0.0), value)
    _finish(stack, height, below, last, real)
    tl.store(size + chain, height, mask=real)


@triton.jit
def _hulls_of_rows(stack, size, rows, points, pieces, length, LANES: tl.constexpr):
    """Gather each row's vertices from its pieces at the row's beginning, over values that were read already."""
    row = tl.program_id(0) * LANES + tl.arange(0, LANES)
    real = row < rows
    row = tl.minimum(row, rows - 1)
    vertices = tl.zeros((LANES,), tl.int32)
    for piece in range(pieces):
        vertices += tl.load(size + piece * rows + row)
    stack += row.to(tl.int64) * points
    piece = tl.zeros((LANES,), tl.int32)
    place = tl.zeros((LANES,), tl.int32)
    end = tl.load(size + row)
    last = tl.load(stack)
    below = tl.full((LANES,), BELOW_ALL, tl.int64)
    height = tl.full((LANES,), 1, tl.int32)
    point = last
    added = real
    for _step_number in range(2 * tl.max(vertices, axis=0)):
        place += added.to(tl.int32)
        through = added & (place == end)
        piece += through.to(tl.int32)
        live = real & (piece < pieces)
        place = tl.where(through, piece * length, place)
        further = tl.load(size + piece * rows + row, mask=through & live, other=0)
        end = tl.where(through, place + further, end)
        point = tl.where(added, tl.load(stack + place, mask=added & live, other=0), point)
        height, below, last, added = _step(stack, height, below, last, point, live)
    _finish(stack, height, below, last, real)
    tl.store(size + row, height, mask=real)


@triton.jit
def _edges(stack, size, ends, row, length, slope, points, top, BLOCK: tl.constexpr):
    """Store the edges between a row's vertices; `ends`: the index of the next row's first edge."""
    here = tl.program_id(0)
    edges = tl.load(size + here) - 1
    begin = tl.load(ends + here) - edges
    stack += here.to(tl.int64) * points
    for start in range(0, edges, BLOCK):
        edge = start + tl.arange(0, BLOCK)
        inside = edge < edges
        left = tl.load(stack + edge, mask=inside, other=0)
        right = tl.load(stack + edge + 1, mask=inside, other=1 << 32)
        spanned = _count(right) - _count(left)
        tl.store(row + begin + edge, tl.zeros((BLOCK,), tl.int64) + (here + top), mask=inside)
        tl.store(length + begin + edge, spanned.to(tl.int64), mask=inside)
        tl.store(slope + begin + edge, (_value(right) - _value(left)) / spanned.to(tl.float64), mask=inside)
