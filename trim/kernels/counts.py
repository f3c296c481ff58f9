"""Exact counts from real-valued row sparsities, as `trim.methods.counts.project_counts`, inside a kernel."""

import triton
import triton.language as tl


@triton.jit
def common_shift(x, rows, columns, total, limit, BLOCK: tl.constexpr):
    """Find the s with Σ clamp(N·x + s, 0, limit) = total; rounding leaves the sum below the total, never above."""
    sum_of = tl.zeros((BLOCK,), tl.float64)
    low = tl.full((BLOCK,), float("inf"), tl.float64)
    high = tl.full((BLOCK,), float("-inf"), tl.float64)
    for start in range(0, rows, BLOCK):
        row = start + tl.arange(0, BLOCK)
        wanted = tl.load(x + row, mask=row < rows, other=0.0) * columns
        sum_of += wanted
        low = tl.minimum(low, tl.where(row < rows, wanted, float("inf")))
        high = tl.maximum(high, tl.where(row < rows, wanted, float("-inf")))
    lowest = tl.min(low, axis=0)
    highest = tl.max(high, axis=0)
    shift = (total - tl.sum(sum_of, axis=0)) / rows
    if (lowest + shift < 0) | (highest + shift > limit):
        below = -highest
        above = limit - lowest
        for _halving in range(64):
            middle = 0.5 * (below + above)
            reached = tl.zeros((BLOCK,), tl.float64)
            for start in range(0, rows, BLOCK):
                row = start + tl.arange(0, BLOCK)
                wanted = tl.load(x + row, mask=row < rows, other=0.0) * columns
                moved = tl.minimum(tl.maximum(wanted + middle, 0.0), limit.to(tl.float64))
                reached += tl.where(row < rows, moved, 0.0)
            enough = tl.sum(reached, axis=0) > total
            above = tl.where(enough, middle, above)
            below = tl.where(enough, below, middle)
        shift = below
    return shift


@triton.jit
def _remainders(x, row, rows, columns, shift, limit):
    """Return the shifted counts, rounded down, and their remainders; −1 where a row has no room."""
    wanted = tl.load(x + row, mask=row < rows, other=0.0) * columns
    exact = tl.minimum(tl.maximum(wanted + shift, 0.0), limit.to(tl.float64))
    count = exact.to(tl.int64)
    room = (row < rows) & (count < limit)
    return count, tl.where(room, exact - count.to(tl.float64), -1.0)


@triton.jit
def largest_remainders(x, counts, rows, columns, shift, total, limit, BLOCK: tl.constexpr):
    """Store counts (D,) that add up: rounded down, and one more for the largest remainders, lower rows first."""
    rounded = tl.zeros((BLOCK,), tl.int64)
    for start in range(0, rows, BLOCK):
        row = start + tl.arange(0, BLOCK)
        count, remainder = _remainders(x, row, rows, columns, shift, limit)
        rounded += tl.where(row < rows, count, 0)
    left_over = total - tl.sum(rounded, axis=0)
    # At the end the remainders from `above` on are as many as are left over, or only equal ones lie between the bounds.
    below = shift * 0
    above = shift * 0 + 1
    at_below = rows.to(tl.float64)
    at_above = at_below * 0
    halvings = 0
    while halvings < 110:
        # Remainders are spread evenly, so every other step interpolates between the counts; the others take the middle.
        guess = below + (above - below) * tl.minimum(
            tl.maximum((at_below - left_over) / (at_below - at_above), 0.01), 0.99
        )
        middle = tl.where(halvings % 2 == 0, guess, 0.5 * (below + above))
        reached = tl.zeros((BLOCK,), tl.int32)
        for start in range(0, rows, BLOCK):
            row = start + tl.arange(0, BLOCK)
            count, remainder = _remainders(x, row, rows, columns, shift, limit)
            reached += (remainder >= middle).to(tl.int32)
        number = tl.sum(reached, axis=0)
        below = tl.where(number >= left_over, middle, below)
        at_below = tl.where(number >= left_over, number.to(tl.float64), at_below)
        above = tl.where(number > left_over, above, middle)
        at_above = tl.where(number > left_over, at_above, number.to(tl.float64))
        halvings = tl.where(number == left_over, 110, halvings + 1)
    certain = tl.zeros((BLOCK,), tl.int32)
    for start in range(0, rows, BLOCK):
        row = start + tl.arange(0, BLOCK)
        count, remainder = _remainders(x, row, rows, columns, shift, limit)
        certain += (remainder >= above).to(tl.int32)
    equal_left_over = left_over - tl.sum(certain, axis=0)
    equal_before = 0
    for start in range(0, rows, BLOCK):
        row = start + tl.arange(0, BLOCK)
        count, remainder = _remainders(x, row, rows, columns, shift, limit)
        equal = ((remainder >= below) & (remainder < above)).to(tl.int32)
        first = (equal > 0) & (equal_before + tl.cumsum(equal, axis=0) <= equal_left_over)
        tl.store(counts + row, count + ((remainder >= above) | first).to(tl.int64), mask=row < rows)
        equal_before += tl.sum(equal, axis=0)
