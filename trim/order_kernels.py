"""The order in which the rows of a layer lose their weights, on a CUDA device, in Triton.

The order is a bitonic sort of one 32-bit key per column, which bounds it by integer arithmetic: the column's index
in the low bits, so that keys differ and ties keep column order, and the leading bits of its score above them. Each
thread holds neighbouring places, so that three of five comparisons stay in its registers. Columns whose scores share
those leading bits are put in order afterwards by comparing neighbours.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

# A thread holds 2^5 keys of a sort; a warp compares the lowest 5 + 5 bits of their places by itself.
ITEM_BITS = 5
LONGEST_ROW = 2**15  # that one program's shared memory can hold
SETTLE_COLUMNS = 1024
FINITE = 0x7F800000  # the bits of infinity: those of finite float32 are below


def sort_rows(weight: Tensor, score: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each row's columns by ascending score, ties in column order, and its weights in that order.

    Args:
        weight, score: (D, N); the score float32.

    Returns:
        order: (D, N') int16 or int32, with N' a multiple of 16 and zeros beyond N.
        sorted_weight: (D, N'), of the weight's type, likewise.
        sound: () bool, whether every score is finite and not negative.
    """
    rows, columns = score.shape
    padded = triton.cdiv(columns, 16) * 16
    order = torch.empty(
        rows, padded, dtype=torch.int16 if columns <= 2**15 else torch.int32, device=score.device
    )
    sorted_weight = torch.empty(rows, padded, dtype=weight.dtype, device=weight.device)
    if columns > LONGEST_ROW:
        return order, sorted_weight, _sort_long_rows(weight, score, order, sorted_weight)
    column_bits = max((columns - 1).bit_length(), 7)
    thread_bits = min(max(column_bits - ITEM_BITS, 5), 10)
    keys = torch.empty(rows, 2**column_bits, dtype=torch.int32, device=score.device)
    extreme = torch.empty(rows, 2, dtype=torch.int32, device=score.device)
    _sort[(rows,)](
        score, keys, extreme, columns, 0,
        ITEM_BITS=column_bits - thread_bits, COLUMN_BITS=column_bits, num_warps=2 ** (thread_bits - 5),
    )  # fmt: skip
    _settle[(rows, triton.cdiv(padded, SETTLE_COLUMNS))](
        keys, score, weight, order, sorted_weight, columns, padded,
        COLUMN_BITS=column_bits, BLOCK=SETTLE_COLUMNS, num_warps=4,
    )  # fmt: skip
    sound = (extreme[:, 0].amin() >= 0) & (extreme[:, 1].amax() < FINITE)
    return order, sorted_weight, sound


def _sort_long_rows(weight: Tensor, score: Tensor, order: Tensor, sorted_weight: Tensor) -> Tensor:
    """`sort_rows` for rows that no program can hold, 64 at a time."""
    columns = score.shape[1]
    for some in zip(*(values.split(64) for values in (weight, score, order, sorted_weight)), strict=True):
        sorted_columns = torch.argsort(some[1], dim=1, stable=True)
        some[2][:, :columns] = sorted_columns
        some[3][:, :columns] = some[0].gather(1, sorted_columns)
    order[:, columns:] = 0
    sorted_weight[:, columns:] = 0
    return ((score >= 0) & (score < torch.inf)).all()


@triton.jit(do_not_specialize=["nothing"])
def _sort(score, keys, extreme, columns, nothing, ITEM_BITS: tl.constexpr, COLUMN_BITS: tl.constexpr):
    """One row's keys in ascending order: leading bits of the score, then the column.

    The bits of a float that is not negative sort like the number. Those of a row are counted from its largest
    score's 31 binary orders of magnitude down; smaller scores share a level, and 0 has its own.
    """
    row = tl.program_id(0).to(tl.int64)
    thread = tl.arange(0, 1 << (COLUMN_BITS - ITEM_BITS))[:, None, None]
    item = (tl.arange(0, 1 << (ITEM_BITS - 2)) * 4)[None, :, None] + tl.arange(0, 4)[None, None, :]
    # Places that run through the items of a thread and then through the threads, and the other way round.
    near = (thread << ITEM_BITS) + item
    far = (item << (COLUMN_BITS - ITEM_BITS)) + thread
    column = far
    inside = column < columns
    # An offset that the compiler does not know to be 0 keeps loads narrow: a thread then holds all its items.
    place = score + row * columns + nothing + column
    bits = (tl.load(place, mask=inside, other=0.0) + 0.0).to(tl.int32, bitcast=True)
    largest = tl.max(bits)
    tl.store(extreme + 2 * row, tl.min(bits))
    tl.store(extreme + 2 * row + 1, largest)
    above = tl.maximum(bits - tl.maximum(largest - (31 << 23), 0), 0)
    level = ((above >> (COLUMN_BITS - 4)) + (bits > 0).to(tl.int32)).to(tl.uint32)
    key = tl.where(inside, (level << COLUMN_BITS) | column.to(tl.uint32), 0xFFFFFFFF)
    cube = tl.reshape(key, [2] * COLUMN_BITS)
    keys += row << COLUMN_BITS
    # The hint is untrue along the first axis, and harmless there: the compiler vectorises along the last, and spreads
    # the axis with the next longest runs over the lanes. That must be the threads.
    near = tl.max_contiguous(keys + near, [2, 1, 4])
    far = keys + nothing + far
    for stage in tl.static_range(1, COLUMN_BITS + 1):
        cube = _turn(cube, stage, COLUMN_BITS)
        if stage <= ITEM_BITS + 5:
            cube = _merge(cube, stage, 0, COLUMN_BITS, COLUMN_BITS)
        else:
            # The highest bits would have to be compared between warps: they change places with the lowest.
            cube = _exchange(cube, near, far, COLUMN_BITS)
            cube = _merge(cube, stage, COLUMN_BITS - ITEM_BITS, COLUMN_BITS - ITEM_BITS, COLUMN_BITS)
            cube = _exchange(cube, far, near, COLUMN_BITS)
            cube = _merge(cube, COLUMN_BITS - ITEM_BITS, 0, COLUMN_BITS, COLUMN_BITS)
    tl.store(near, tl.reshape(cube, near.shape).to(tl.int32, bitcast=True))


@triton.jit
def _bit(AXIS: tl.constexpr, BITS: tl.constexpr):
    """0 and 1 along one axis of a hypercube."""
    return tl.reshape(tl.arange(0, 2), [1] * AXIS + [2] + [1] * (BITS - 1 - AXIS))


@triton.jit
def _turn(x, STAGE: tl.constexpr, BITS: tl.constexpr):
    """Before blocks of 2^STAGE places are merged: blocks whose direction changes become their complement.

    Blocks alternate in direction until the last. The complement of a descending block ascends, so that each
    comparison is a minimum or a maximum.
    """
    turned = tl.zeros([1] * BITS, tl.int32)
    if STAGE > 1:
        turned = turned ^ _bit(BITS - STAGE, BITS)
    if STAGE < BITS:
        turned = turned ^ _bit(BITS - 1 - STAGE, BITS)
    return x ^ (0 - turned).to(tl.uint32, bitcast=True)


@triton.jit
def _merge(x, FROM: tl.constexpr, TO: tl.constexpr, ORIGIN: tl.constexpr, BITS: tl.constexpr):
    """Bitonic merge by the bits from FROM − 1 down to TO of a place; bit b lies along axis ORIGIN − 1 − b, round."""
    for step in tl.static_range(1, FROM - TO + 1):
        x = _compare(x, (ORIGIN - 1 - (FROM - step)) % BITS, BITS)
    return x


@triton.jit
def _compare(x, AXIS: tl.constexpr, BITS: tl.constexpr):
    """Put the smaller of each two neighbours along an axis first."""
    other = x ^ tl.xor_sum(x, axis=AXIS, keep_dims=True)
    return tl.where(_bit(AXIS, BITS) > 0, tl.maximum(x, other), tl.minimum(x, other))


@triton.jit
def _exchange(x, before, after, BITS: tl.constexpr):
    """A hypercube whose axes stand for other places than before, by way of memory."""
    tl.debug_barrier()
    tl.store(before, tl.reshape(x, before.shape).to(tl.int32, bitcast=True))
    tl.debug_barrier()
    return tl.reshape(tl.load(after).to(tl.uint32, bitcast=True), [2] * BITS)


@triton.jit
def _settle(
    keys, score, weight, order, sorted_weight, columns, padded, COLUMN_BITS: tl.constexpr, BLOCK: tl.constexpr
):
    """Put columns of one level in the order of their scores: each counts the neighbours that it must pass."""
    row = tl.program_id(0).to(tl.int64)
    keys += row << COLUMN_BITS
    score += row * columns
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = place < columns
    key = tl.load(keys + place, mask=inside, other=0).to(tl.uint32, bitcast=True)
    column = (key & ((1 << COLUMN_BITS) - 1)).to(tl.int32)
    level = key >> COLUMN_BITS
    here = tl.load(score + column, mask=inside, other=0.0)
    unsettled = inside & (level > 0)  # scores of 0 are all equal
    shift = tl.zeros((BLOCK,), tl.int32)
    distance = 1
    searching = True
    while searching:
        right, left = place + distance, place - distance
        right_key = tl.load(keys + right, mask=unsettled & (right < columns), other=0).to(
            tl.uint32, bitcast=True
        )
        left_key = tl.load(keys + left, mask=unsettled & (left >= 0), other=0).to(tl.uint32, bitcast=True)
        at_right = unsettled & ((right_key >> COLUMN_BITS) == level)
        at_left = unsettled & ((left_key >> COLUMN_BITS) == level)
        right_column = (right_key & ((1 << COLUMN_BITS) - 1)).to(tl.int32)
        left_column = (left_key & ((1 << COLUMN_BITS) - 1)).to(tl.int32)
        shift += (at_right & (tl.load(score + right_column, mask=at_right, other=0.0) < here)).to(tl.int32)
        shift -= (at_left & (tl.load(score + left_column, mask=at_left, other=0.0) > here)).to(tl.int32)
        searching = tl.max((at_right | at_left).to(tl.int32), axis=0) > 0
        # So long a run is most often one of equal scores, and in order already.
        if searching & (distance == 32):
            searching = _inverted(keys, score, columns, COLUMN_BITS, BLOCK)
        distance += 1
    value = tl.load(weight + row * columns + column, mask=inside, other=0.0)
    to = row * padded + place + shift
    tl.store(order + to, column.to(order.dtype.element_ty), mask=place < padded)
    tl.store(sorted_weight + to, value, mask=place < padded)


@triton.jit
def _inverted(keys, score, columns, COLUMN_BITS: tl.constexpr, BLOCK: tl.constexpr):
    """Whether a row has neighbours of one level in the wrong order."""
    wrong = tl.zeros((BLOCK,), tl.int32)
    for start in range(0, columns - 1, BLOCK):
        place = start + tl.arange(0, BLOCK)
        inside = place < columns - 1
        key = tl.load(keys + place, mask=inside, other=0).to(tl.uint32, bitcast=True)
        after = tl.load(keys + place + 1, mask=inside, other=0).to(tl.uint32, bitcast=True)
        same = inside & ((key >> COLUMN_BITS) == (after >> COLUMN_BITS))
        here = tl.load(score + (key & ((1 << COLUMN_BITS) - 1)).to(tl.int32), mask=same, other=0.0)
        there = tl.load(score + (after & ((1 << COLUMN_BITS) - 1)).to(tl.int32), mask=same, other=0.0)
        wrong |= (same & (there < here)).to(tl.int32)
    return tl.max(wrong, axis=0) > 0
