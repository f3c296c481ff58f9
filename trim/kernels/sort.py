"""The order in which the rows of a layer lose their weights, on a CUDA device, in Triton.

The order comes from a bitonic sort of one 32-bit key per column: the column's index in the low bits, so that keys
differ and ties keep column order, and the leading bits of its score above them. Integer arithmetic limits it. Each
thread holds neighbouring places, so that three of five comparisons stay in its registers. A row is sorted in two parts
where that saves places: 5120 as 4096 and 1024. Columns whose scores share those leading bits are put in order
afterwards by comparing neighbours. docs/kernels.md has the times.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

# A thread holds 2^5 keys of a sort; a warp compares the lowest 5 + 5 bits of their places by itself.
ITEM_BITS = 5
MAX_ROW_LENGTH = 2**15  # that one program's shared memory can hold
TIE_COLUMNS = 512
LAST_KEY = tl.constexpr(0xFFFFFFFF)  # after those of all columns
FINITE = tl.constexpr(0x7F800000)  # the bits of infinity; those of finite float32 numbers are smaller


def sort_rows(weight: Tensor, score: Tensor, invalid: Tensor) -> tuple[Tensor, Tensor]:
    """Sort each row's columns by ascending score, ties in column order, and its weights in that order.

    Args:
        weight: (D, N), contiguous.
        score: (D, N), contiguous, float32.
        invalid: (G,) int32, one for each D / G rows, set to 1 if one of their scores is not finite or is negative.

    Returns:
        order: (D, N') int16 or int32, with N' a multiple of 16 and zeros beyond N.
        sorted_weight: (D, N'), of the weight's type, with zeros beyond N.
    """
    rows, columns = score.shape
    padded = triton.cdiv(columns, 16) * 16
    order = torch.empty(
        rows, padded, dtype=torch.int16 if columns <= 2**15 else torch.int32, device=score.device
    )
    sorted_weight = torch.empty(rows, padded, dtype=weight.dtype, device=weight.device)
    if columns > MAX_ROW_LENGTH:
        _sort_long_rows(weight, score, order, sorted_weight)
        invalid |= ~((score >= 0) & (score < torch.inf)).view(len(invalid), -1).all(dim=1)
        return order, sorted_weight
    column_bits, head_bits, tail_bits = _split(columns)
    thread_bits = _thread_bits(head_bits)
    places = 2**head_bits + 2**tail_bits * (tail_bits > 0)
    keys = torch.empty(rows, places, dtype=torch.int32, device=score.device)
    _sort[(rows,)](
        score, keys, invalid, rows // len(invalid), columns, 0,
        COLUMN_BITS=column_bits, THREAD_BITS=thread_bits, HEAD_BITS=head_bits, TAIL_BITS=tail_bits,
        num_warps=2 ** (thread_bits - 5),
    )  # fmt: skip
    _sort_ties[(rows, triton.cdiv(padded, TIE_COLUMNS))](
        keys, score, weight, order, sorted_weight, columns, padded, places,
        COLUMN_BITS=column_bits, BLOCK=TIE_COLUMNS, num_warps=4,
    )  # fmt: skip
    return order, sorted_weight


def _split(columns: int) -> tuple[int, int, int]:
    """Return the bits of a column's index, and of the places in a row's head and tail; 0 bits where there is no tail.

    Heads and tails have a power of two places. Where a row is not much longer than one, a short tail costs less
    than a head of twice the length.
    """
    column_bits = max((columns - 1).bit_length(), 7)
    head_bits = column_bits - 1
    threads = _thread_bits(head_bits)
    # A thread stores four places at once. An exchange gives it as many bits of a place as its items have, and a place
    # must not have more bits for the warps than that.
    tail_bits = max((columns - 2**head_bits - 1).bit_length(), threads + 2, 2 * threads - 5)
    if columns > 2**head_bits and tail_bits < head_bits:
        return column_bits, head_bits, tail_bits
    return column_bits, column_bits, 0


def _thread_bits(place_bits: int) -> int:
    """Return log₂ of the number of threads that sort 2^place_bits keys."""
    return min(max(place_bits - ITEM_BITS, 5), 10)


def _sort_long_rows(weight: Tensor, score: Tensor, order: Tensor, sorted_weight: Tensor) -> None:
    """Sort rows that are too long for one program's shared memory, as `sort_rows` does, 64 at a time."""
    columns = score.shape[1]
    blocks = zip(*(values.split(64) for values in (weight, score, order, sorted_weight)), strict=True)
    for weight_block, score_block, order_block, sorted_block in blocks:
        sorted_columns = torch.argsort(score_block, dim=1, stable=True)
        order_block[:, :columns] = sorted_columns
        sorted_block[:, :columns] = weight_block.gather(1, sorted_columns)
    order[:, columns:] = 0
    sorted_weight[:, columns:] = 0


@triton.jit(do_not_specialize=["opaque_zero"])
def _sort(
    score, keys, invalid, layer_rows, columns, opaque_zero,
    COLUMN_BITS: tl.constexpr, THREAD_BITS: tl.constexpr, HEAD_BITS: tl.constexpr, TAIL_BITS: tl.constexpr,
):  # fmt: skip
    """Sort one row's keys in ascending order: leading bits of the score, then the column.

    The bits of a float that is not negative sort like the number. A row's keys distinguish the 31 binary orders of
    magnitude below its largest score; smaller scores share a level, and 0 has its own.

    Head and tail are sorted separately, the tail in descending order. Joined, with largest keys between them, they
    ascend and then descend; a bitonic merge over twice the head's places moves the smallest keys into the head and
    leaves the rest in the tail's place.
    """
    row = tl.program_id(0).to(tl.int64)
    score += row * columns
    keys += row * ((1 << HEAD_BITS) + ((1 << TAIL_BITS) if TAIL_BITS > 0 else 0))
    blocked, striped = _places(HEAD_BITS, THREAD_BITS)
    head = _load_bits(score, striped, columns, opaque_zero)
    smallest, largest = tl.min(head), tl.max(head)
    if TAIL_BITS > 0:
        tail_blocked, tail_striped = _places(TAIL_BITS, THREAD_BITS)
        tail = _load_bits(score + (1 << HEAD_BITS), tail_striped, columns - (1 << HEAD_BITS), opaque_zero)
        smallest, largest = tl.minimum(smallest, tl.min(tail)), tl.maximum(largest, tl.max(tail))
        tail_keys = keys + (1 << HEAD_BITS)
        ascending = _key(tail, largest, tail_striped, 1 << HEAD_BITS, columns, COLUMN_BITS)
        # Sorting the complements sorts in descending order.
        cube = _sort_keys(
            ascending ^ LAST_KEY, tail_keys, tail_blocked, tail_striped, opaque_zero, TAIL_BITS, THREAD_BITS
        )
        _store(tail_keys, tail_blocked, cube ^ LAST_KEY)
    tl.atomic_or(invalid + row // layer_rows, 1, mask=(smallest < 0) | (largest >= FINITE))
    cube = _sort_keys(
        _key(head, largest, striped, 0, columns, COLUMN_BITS),
        keys,
        blocked,
        striped,
        opaque_zero,
        HEAD_BITS,
        THREAD_BITS,
    )
    if TAIL_BITS > 0:
        # As far from the end as the tail is long.
        last = (1 << HEAD_BITS) - (1 << TAIL_BITS)
        tl.debug_barrier()
        source = tl.max_contiguous(tail_keys + (blocked - last), [2, 1, 4])
        other = tl.load(source, mask=blocked >= last, other=-1).to(tl.uint32, bitcast=True)
        other = tl.reshape(other, cube.shape)
        rest = tl.maximum(cube, other)
        cube = tl.minimum(cube, other)
        rest = _merge_blocks(rest, keys, blocked, striped, opaque_zero, TAIL_BITS, HEAD_BITS, THREAD_BITS)
        tl.debug_barrier()
        rest = tl.reshape(rest, blocked.shape).to(tl.int32, bitcast=True)
        tl.store(source, rest, mask=blocked >= last)
        cube = _merge_blocks(cube, keys, blocked, striped, opaque_zero, HEAD_BITS, HEAD_BITS, THREAD_BITS)
    _store(keys, blocked, cube)


@triton.jit
def _places(BITS: tl.constexpr, THREAD_BITS: tl.constexpr):
    """Return the places of each thread's items: blocked, neighbours in one thread, and striped over the threads."""
    thread = tl.arange(0, 1 << THREAD_BITS)[:, None, None]
    item = (tl.arange(0, 1 << (BITS - THREAD_BITS - 2)) * 4)[None, :, None] + tl.arange(0, 4)[None, None, :]
    return (thread << (BITS - THREAD_BITS)) + item, (item << THREAD_BITS) + thread


@triton.jit
def _load_bits(score, striped, columns, opaque_zero):
    """Load scores as their bit patterns, int32; 0 past the last column."""
    # An offset that the compiler does not know to be 0 keeps loads narrow: a thread then holds all its items.
    return (tl.load(score + opaque_zero + striped, mask=striped < columns, other=0.0) + 0.0).to(
        tl.int32, bitcast=True
    )


@triton.jit
def _key(bits, largest, place, FIRST: tl.constexpr, columns, COLUMN_BITS: tl.constexpr):
    """Return the keys of the columns from FIRST on; past the last column the largest of all keys."""
    column = FIRST + place
    above = tl.maximum(bits - tl.maximum(largest - (31 << 23), 0), 0)
    level = ((above >> (COLUMN_BITS - 4)) + (bits > 0).to(tl.int32)).to(tl.uint32)
    return tl.where(column < columns, (level << COLUMN_BITS) | column.to(tl.uint32), LAST_KEY)


@triton.jit
def _sort_keys(key, keys, blocked, striped, opaque_zero, BITS: tl.constexpr, THREAD_BITS: tl.constexpr):
    """Sort keys into a hypercube, ascending; the place of one is read like a binary number along the axes."""
    cube = tl.reshape(key, [2] * BITS)
    for stage in tl.static_range(1, BITS + 1):
        cube = _merge_blocks(
            _complement_descending(cube, stage, BITS),
            keys,
            blocked,
            striped,
            opaque_zero,
            stage,
            BITS,
            THREAD_BITS,
        )
    return cube


@triton.jit
def _merge_blocks(
    cube,
    keys,
    blocked,
    striped,
    opaque_zero,
    STAGE: tl.constexpr,
    BITS: tl.constexpr,
    THREAD_BITS: tl.constexpr,
):
    """Merge blocks of 2^STAGE places, each ascending and then descending, into ascending order."""
    # The hint is untrue along the first axis, and harmless there: the compiler vectorises along the last, and spreads
    # the axis with the next longest runs over the lanes. That must be the threads.
    if STAGE <= BITS - THREAD_BITS + 5:
        cube = _merge(cube, STAGE, 0, BITS, BITS)
    else:
        # The highest bits would have to be compared between warps: they change places with the lowest.
        blocked_keys = tl.max_contiguous(keys + blocked, [2, 1, 4])
        striped_keys = keys + opaque_zero + striped
        cube = _exchange(cube, blocked_keys, striped_keys, BITS)
        cube = _merge(cube, STAGE, THREAD_BITS, THREAD_BITS, BITS)
        cube = _exchange(cube, striped_keys, blocked_keys, BITS)
        cube = _merge(cube, THREAD_BITS, 0, BITS, BITS)
    return cube


@triton.jit
def _store(keys, blocked, cube):
    tl.store(
        tl.max_contiguous(keys + blocked, [2, 1, 4]),
        tl.reshape(cube, blocked.shape).to(tl.int32, bitcast=True),
    )


@triton.jit
def _bit(AXIS: tl.constexpr, BITS: tl.constexpr):
    """Return 0 and 1 along one axis of a hypercube."""
    return tl.reshape(tl.arange(0, 2), [1] * AXIS + [2] + [1] * (BITS - 1 - AXIS))


@triton.jit
def _complement_descending(x, STAGE: tl.constexpr, BITS: tl.constexpr):
    """Complement the blocks whose direction changes, before blocks of 2^STAGE places are merged.

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
    """Merge bitonically by the bits FROM − 1 down to TO of a place; bit b is axis ORIGIN − 1 − b, cyclically.

    Eight places by bits 2, 1, 0, comparing at distances 4, 2 and 1:
    1 4 6 7 5 3 2 0 → 1 3 2 0 5 4 6 7 → 1 0 2 3 5 4 6 7 → 0 1 2 3 4 5 6 7.
    """
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
    """Rearrange a hypercube through memory, so that its axes belong to other bits of a place."""
    tl.debug_barrier()
    tl.store(before, tl.reshape(x, before.shape).to(tl.int32, bitcast=True))
    tl.debug_barrier()
    return tl.reshape(tl.load(after).to(tl.uint32, bitcast=True), [2] * BITS)


@triton.jit
def _sort_ties(
    keys, score, weight, order, sorted_weight, columns, padded, places,
    COLUMN_BITS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Put columns of one level in the order of their scores: each counts the neighbours that it must pass."""
    row = tl.program_id(0).to(tl.int64)
    keys += row * places
    score += row * columns
    place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = place < columns
    key = tl.load(keys + place, mask=inside, other=0).to(tl.uint32, bitcast=True)
    column = (key & ((1 << COLUMN_BITS) - 1)).to(tl.int32)
    level = key >> COLUMN_BITS
    tied = inside & (level > 0)  # scores of 0 are all equal
    right_column, at_right = _neighbour(keys, place + 1, level, tied, columns, COLUMN_BITS)
    left_column, at_left = _neighbour(keys, place - 1, level, tied, columns, COLUMN_BITS)
    tied = at_right | at_left
    here = tl.load(score + column, mask=tied, other=0.0)
    shift = tl.zeros((BLOCK,), tl.int32)
    distance = 1
    searching = tl.max(tied.to(tl.int32), axis=0) > 0
    while searching:
        shift += (at_right & (tl.load(score + right_column, mask=at_right, other=0.0) < here)).to(tl.int32)
        shift -= (at_left & (tl.load(score + left_column, mask=at_left, other=0.0) > here)).to(tl.int32)
        distance += 1
        right_column, at_right = _neighbour(keys, place + distance, level, at_right, columns, COLUMN_BITS)
        left_column, at_left = _neighbour(keys, place - distance, level, at_left, columns, COLUMN_BITS)
        searching = tl.max((at_right | at_left).to(tl.int32), axis=0) > 0
        # A run this long most often has equal scores, and is in order already.
        if searching & (distance == 32):
            searching = _has_inversion(keys, score, columns, COLUMN_BITS, BLOCK)
    value = tl.load(weight + row * columns + column, mask=inside, other=0.0)
    to = row * padded + place + shift
    tl.store(order + to, column.to(order.dtype.element_ty), mask=place < padded)
    tl.store(sorted_weight + to, value, mask=place < padded)


@triton.jit
def _neighbour(keys, place, level, tied, columns, COLUMN_BITS: tl.constexpr):
    """Load the columns at some places, and which of them share the level."""
    inside = tied & (place >= 0) & (place < columns)
    key = tl.load(keys + place, mask=inside, other=0).to(tl.uint32, bitcast=True)
    return (key & ((1 << COLUMN_BITS) - 1)).to(tl.int32), inside & ((key >> COLUMN_BITS) == level)


@triton.jit
def _has_inversion(keys, score, columns, COLUMN_BITS: tl.constexpr, BLOCK: tl.constexpr):
    """Return whether a row has neighbours of one level in the wrong order."""
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
