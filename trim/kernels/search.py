"""TRIM's search on a CUDA device, in Triton: all rates of some layers at once; nothing is read back before the end.

There are two kernels. In the first, several programs share the rows of a layer at one rate through all updates, in
float64; two grid barriers per update give them the mean and the range of all rows' qualities, and how far x has moved.
All of them must run at once, which a cooperative launch guarantees. Latency limits it: each of the K + 1 updates takes
two look-ups in device memory one after the other, sums over a program, and two barriers. In the second kernel a program
judges one update: its quality as in the publication, its exact counts, and their quality. All qualities are in one
array, which the caller reads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from trim.kernels.search_outcome import SUMS, WIDE_BLOCK, judge_updates, look_up, offset_to_layer, store_sums
from trim.measures import LAYER_MEASURES, ROW_MEASURES

if TYPE_CHECKING:
    from trim.methods.retention import RetentionCurves

BLOCK = 1024  # rows that a program looks up at a time
WARPS = 16


@dataclass(frozen=True)
class SearchOutcome:
    """The outcome of the kernels for one layer, R rates and K updates, as in `search_types.SearchTrace`.

    Attributes:
        quality, row_variance, exact_quality: (R, K + 1) float64 on the CPU.
        updates: (R, K + 1, D) float64.
        counts: (R, K + 1, D) int64, the exact counts of each update.
    """

    quality: Tensor
    row_variance: Tensor
    exact_quality: Tensor
    updates: Tensor
    counts: Tensor


def run(
    curves: "RetentionCurves",
    rates: tuple[float, ...],
    iterations: int,
    targets: Sequence[float],
    cap: float,
    totals: Sequence[int],
    limit: int,
    row_measure: str,
    layer_measure: str,
) -> list[SearchOutcome]:
    """Search layers of one shape.

    Args:
        curves: the layers' curves.
        rates: R learning rates in published order.
        iterations: K.
        targets: T of each layer.
        cap: the highest sparsity of a row.
        totals: how many weights each layer loses.
        limit: how many a row loses at most.
        row_measure: one of `ROW_MEASURES`.
        layer_measure: one of `LAYER_MEASURES`.
    """
    layers, columns, steps = curves.layers, curves.columns, iterations + 1
    rows = curves.rows // layers
    device = curves.dot.device
    with_ratio = int(row_measure == "psnr" or layer_measure == "psnr_dim")
    parts = _parts(rows, len(rates) * layers, device)
    # The zeros at the end count the arrivals at the barriers of each rate of each layer.
    parameters = torch.tensor(
        (cap, *rates, *targets, *totals, *curves.vectors_of_layers, *(0 for _ in range(layers * len(rates)))),
        dtype=torch.float64,
    ).to(device, non_blocking=True)
    updates = (layers, len(rates), steps)
    x, scratch, partials, sums, out, counts = (
        torch.empty(shape, dtype=dtype, device=device)
        for shape, dtype in (
            ((*updates, rows), torch.float64),
            ((layers, len(rates), rows), torch.float64),
            ((*updates, 4, parts), torch.float64),
            ((*updates, parts, SUMS), torch.float64),
            ((3, *updates), torch.float64),
            ((*updates, rows), torch.int64),
        )
    )
    looked_up = (
        curves.energy, curves.error, curves.output_energy, curves.output_norm, curves.output_peak,
        curves.layer_summary,
    )  # fmt: skip
    _follow[(parts, len(rates), layers)](
        *looked_up, parameters, x, scratch, partials, sums,
        rows, columns, iterations, ROW_MEASURES[row_measure], with_ratio,
        PARTS=parts, PARTS_2=triton.next_power_of_2(parts), SUMS=SUMS, BLOCK=BLOCK,
        num_warps=WARPS, launch_cooperative_grid=parts > 1,
    )  # fmt: skip
    judge_updates[(len(rates) * steps, layers)](
        *looked_up, parameters[1 + len(rates) + layers :], x, sums, out, counts,
        rows, columns, limit, ROW_MEASURES[row_measure], LAYER_MEASURES[layer_measure], with_ratio,
        PARTS=parts, SUMS=SUMS, BLOCK=BLOCK, WIDE_BLOCK=WIDE_BLOCK, num_warps=WARPS,
    )  # fmt: skip
    return [SearchOutcome(*each) for each in zip(*out.cpu(), x, counts, strict=True)]


def _parts(rows: int, paths: int, device: torch.device) -> int:
    """Count the programs that share the rows of a path: as many as have work, and all fit onto the device at once."""
    processors = torch.cuda.get_device_properties(device).multi_processor_count
    return max(1, min(processors // paths, int(triton.cdiv(rows, BLOCK))))


@triton.jit
def _add_and_range(sum_a, low_a, high_a, sum_b, low_b, high_b):
    return sum_a + sum_b, tl.minimum(low_a, low_b), tl.maximum(high_a, high_b)


@triton.jit
def _arrive(counter):
    """Count this program as arrived, and make its stores visible to the others."""
    tl.debug_barrier()
    tl.atomic_add(counter, 1, sem="release")


@triton.jit
def _await(counter, arrivals):
    """Wait until this many programs have arrived."""
    while tl.atomic_add(counter, 0, sem="acquire") < arrivals:
        pass
    tl.debug_barrier()


# Triton makes an argument of 1 a constant, which has no type.
@triton.jit(do_not_specialize=["rows", "columns", "iterations", "row_measure", "with_ratio"])
def _follow(
    energy, error, output_energy, output_norm, output_peak, whole, parameters, x, scratch, partials, sums,
    rows, columns, iterations, row_measure, with_ratio,
    PARTS: tl.constexpr, PARTS_2: tl.constexpr, SUMS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Update a share of a layer's rows at one rate: x after each update, and the sums at floor counts.

    `row_measure`: 0 cosim, 1 mse, 2 psnr; rows without output have no psnr and are not updated.
    """
    part = tl.program_id(0)
    rate = tl.program_id(1)
    rates = tl.num_programs(1)
    layer = tl.program_id(2)
    layers = tl.num_programs(2)
    path = (layer * rates + rate).to(tl.int64)
    share = tl.cdiv(rows, PARTS)
    first = part * share
    last = tl.minimum(first + share, rows)
    cap = tl.load(parameters)
    step = 2 * tl.load(parameters + 1 + rate)
    target = tl.load(parameters + 1 + rates + layer)
    vectors = tl.load(parameters + 1 + rates + 2 * layers + layer)
    counter = (parameters + 1 + rates + 3 * layers + path).to(tl.pointer_type(tl.int32))
    energy, error, output_energy, output_norm, output_peak, whole = offset_to_layer(
        energy, error, output_energy, output_norm, output_peak, whole, layer, rows, columns
    )
    x += path * (iterations + 1) * rows
    scratch += path * rows
    partials += path * (iterations + 1) * 4 * PARTS
    sums += (path * (iterations + 1) * PARTS + part) * SUMS
    other = tl.arange(0, PARTS_2)
    present = other < PARTS
    moving = tl.where(row_measure != 2, rows.to(tl.float64), tl.load(whole + 2))  # rows that take part
    moving = tl.maximum(moving, 1.0)
    shift = target * 0
    for iteration in range(iterations + 1):
        dot_sum = tl.zeros((BLOCK,), tl.float64)
        energy_sum = tl.zeros((BLOCK,), tl.float64)
        error_sum = tl.zeros((BLOCK,), tl.float64)
        cosine_sum = tl.zeros((BLOCK,), tl.float64)
        ratio_sum = tl.zeros((BLOCK,), tl.float64)
        quality_sum = tl.zeros((BLOCK,), tl.float64)
        low = tl.full((BLOCK,), float("inf"), tl.float64)
        high = tl.full((BLOCK,), float("-inf"), tl.float64)
        for start in range(first, last, BLOCK):
            row = start + tl.arange(0, BLOCK)
            inside = row < last
            here = tl.zeros((BLOCK,), tl.float64) + target
            if iteration > 0:
                here = tl.load(x + row, mask=inside, other=0.0)
            alive = inside & ((row_measure != 2) | (tl.load(output_norm + row, mask=inside, other=0.0) > 0))
            here = tl.where(alive, here - shift, here)
            tl.store(x + row, here, mask=inside)
            count = tl.minimum(tl.maximum(here * columns, 0.0), columns.to(tl.float64)).to(tl.int64)
            dot, kept, lost, cosine, ratio = look_up(
                energy, error, output_energy, output_norm, output_peak,
                row, count, inside, columns, vectors, with_ratio,
            )  # fmt: skip
            dot_sum += tl.where(inside, dot, 0.0)
            energy_sum += kept
            error_sum += lost
            cosine_sum += cosine
            ratio_sum += ratio
            quality = tl.where(row_measure == 0, cosine, tl.where(row_measure == 1, -lost / vectors, ratio))
            tl.store(scratch + row, quality, mask=inside)
            quality_sum += tl.where(alive, quality, 0.0)
            low = tl.minimum(low, tl.where(alive, quality, float("inf")))
            high = tl.maximum(high, tl.where(alive, quality, float("-inf")))
        quality_here, lowest, highest = tl.reduce((quality_sum, low, high), 0, _add_and_range)
        tl.store(partials + part, quality_here)
        tl.store(partials + PARTS + part, lowest)
        tl.store(partials + 2 * PARTS + part, highest)
        _arrive(counter)
        store_sums(sums, dot_sum, energy_sum, error_sum, cosine_sum, ratio_sum)
        _await(counter, (2 * iteration + 1) * PARTS)
        all_quality = tl.load(partials + other, mask=present, other=0.0, cache_modifier=".cg")
        all_low = tl.load(partials + PARTS + other, mask=present, other=float("inf"), cache_modifier=".cg")
        all_high = tl.load(
            partials + 2 * PARTS + other, mask=present, other=float("-inf"), cache_modifier=".cg"
        )
        quality_here, lowest, highest = tl.reduce((all_quality, all_low, all_high), 0, _add_and_range)
        mean = quality_here / moving
        spread = highest - lowest
        scale = step / (spread + 1e-6)
        x_sum = tl.zeros((BLOCK,), tl.float64)
        square_sum = tl.zeros((BLOCK,), tl.float64)
        for start in range(first, last, BLOCK):
            row = start + tl.arange(0, BLOCK)
            inside = row < last
            alive = inside & ((row_measure != 2) | (tl.load(output_norm + row, mask=inside, other=0.0) > 0))
            here = tl.load(x + row, mask=inside, other=0.0)
            quality = tl.load(scratch + row, mask=alive, other=0.0)
            square_sum += tl.where(alive, (quality - mean) * (quality - mean), 0.0)
            moved = here + ((quality - lowest) * scale - (mean - lowest) * scale)
            moved = tl.minimum(tl.maximum(moved, 0.0), cap)
            moved = tl.where(spread > 0, moved, here)  # rows of equal quality are not updated
            moved = tl.where(alive, moved, here)
            x_sum += tl.where(alive, moved, 0.0)
            if iteration < iterations:
                tl.store(x + rows + row, moved, mask=inside)
        tl.store(partials + 3 * PARTS + part, tl.sum(x_sum, axis=0))
        _arrive(counter)
        tl.store(sums + 5, tl.sum(square_sum, axis=0))
        _await(counter, (2 * iteration + 2) * PARTS)
        all_moved = tl.load(partials + 3 * PARTS + other, mask=present, other=0.0, cache_modifier=".cg")
        shift = tl.where(spread > 0, tl.sum(all_moved, axis=0) / moving - target, 0.0)
        x += rows
        partials += 4 * PARTS
        sums += PARTS * SUMS
