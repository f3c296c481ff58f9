"""TRIM's search on a CUDA device, in Triton: all rates at once, nothing read back before the end.

Two kernels. In the first one program follows one rate through all its updates: D numbers, two passes over them per
update, float64. What bounds it is a single processor's arithmetic and look-ups: per row and update a square root and
a division in float64 and two look-ups that share no cache line with others. The second, a single program, does what
the publication does with the outcome: the rates in order, the best update, exact counts and their quality. All of it
is written into one array, which the caller reads.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from trim.count_kernels import common_shift, largest_remainders
from trim.retention import RetentionCurves

ROW_MEASURES = {"cosim": 0, "mse": 1, "psnr": 2}
LAYER_MEASURES = {
    "cosim_flat": 0,
    "cosim_dim": 1,
    "mse": 2,
    "mse_dim": 2,
    "snr": 3,
    "psnr_flat": 4,
    "psnr_dim": 5,
}
SUMS = 5  # over the rows, of dot, energy, error, cosine and peak signal-to-noise ratio
BLOCK = 2048
WIDE_BLOCK = 8192  # where a pass keeps one number per row
WARPS = 16


@dataclass(frozen=True)
class Found:
    """What the kernels found for R rates and K updates, in the words of `search.SearchTrace` and `SearchResult`.

    Attributes:
        quality, row_variance: (R, K + 1) float64 on the CPU.
        row_sparsity: (R, K + 1, D) float64.
        counts, uniform_counts: (D,) int64.
        uniform_realised_quality, realised_quality: at those counts.
    """

    quality: Tensor
    row_variance: Tensor
    row_sparsity: Tensor
    counts: Tensor
    uniform_counts: Tensor
    uniform_realised_quality: float
    realised_quality: float


def run(
    curves: RetentionCurves,
    rates: tuple[float, ...],
    positive: int,
    iterations: int,
    target: float,
    cap: float,
    total: int,
    limit: int,
    row_measure: str,
    layer_measure: str,
) -> Found:
    """Search a curves.

    Args:
        rates: R learning rates in published order; the first `positive` of them are positive.
        target, cap: T and the highest sparsity of a row.
        total, limit: how many weights the layer loses, and a row at most.
        row_measure, layer_measure: of `ROW_MEASURES`, `LAYER_MEASURES`.
    """
    rows, columns, steps = curves.rows, curves.columns, iterations + 1
    device = curves.dot.device
    with_ratio = int(row_measure == "psnr" or layer_measure == "psnr_dim")
    numbers = torch.tensor((target, cap, *rates), dtype=torch.float64).to(device, non_blocking=True)
    x, scratch, sums, out, counts = (
        torch.empty(shape, dtype=dtype, device=device)
        for shape, dtype in (
            ((len(rates), steps, rows), torch.float64),
            ((len(rates), rows), torch.float64),
            ((len(rates), steps, SUMS), torch.float64),
            ((2 * len(rates) * steps + 2,), torch.float64),
            ((2, rows), torch.int64),
        )
    )
    looked_up = (
        curves.energy, curves.error, curves.output_energy, curves.output_norm, curves.output_peak,
        curves.whole_layer,
    )  # fmt: skip
    _follow[(len(rates),)](
        *looked_up, numbers, x, scratch, sums, out[len(rates) * steps :],
        rows, columns, curves.vectors, iterations, ROW_MEASURES[row_measure], with_ratio,
        BLOCK=BLOCK, num_warps=WARPS,
    )  # fmt: skip
    _settle[(1,)](
        *looked_up, x, sums, out, counts,
        rows, columns, curves.vectors, len(rates), positive, steps, total, limit,
        LAYER_MEASURES[layer_measure], with_ratio,
        BLOCK=BLOCK, WIDE_BLOCK=WIDE_BLOCK,
        RATES=triton.next_power_of_2(len(rates)), STEPS=triton.next_power_of_2(steps), num_warps=WARPS,
    )  # fmt: skip
    read = out.cpu()
    table = read[:-2].view(2, len(rates), steps)
    return Found(table[0], table[1], x, counts[0], counts[1], float(read[-2]), float(read[-1]))


@triton.jit
def _decibel(peak, noise):
    return 4.342944819032518 * tl.log(peak / (noise + 1e-10))  # 10 / ln 10


@triton.jit
def _cosine(dot, output_norm, energy):
    cosine = dot / ((output_norm + 1e-8) * (tl.sqrt(energy) + 1e-8))
    return tl.minimum(tl.maximum(cosine, -1.0), 1.0)


@triton.jit
def _look_up(
    energy, error, output_energy, output_norm, output_peak, row, count, inside, columns, vectors, with_ratio
):
    """Dot, energy, error, cosine and, if asked for, peak signal-to-noise ratio (else, or without output, 0) of rows."""
    place = row.to(tl.int64) * (columns + 1) + count
    kept = tl.load(energy + place, mask=inside, other=0.0).to(tl.float64)
    lost = tl.load(error + place, mask=inside, other=0.0).to(tl.float64)
    norm = tl.load(output_norm + row, mask=inside, other=0.0)
    # ‖Y − Ŷ‖² = ‖Y‖² − 2⟨Y, Ŷ⟩ + ‖Ŷ‖²: one look-up less.
    dot = 0.5 * (tl.load(output_energy + row, mask=inside, other=0.0) + (kept - lost))
    ratio = lost * 0
    if with_ratio:
        peak = tl.load(output_peak + row, mask=inside & (norm > 0), other=1.0)
        ratio = tl.where(norm > 0, _decibel(peak, lost / vectors), 0.0)
    return dot, kept, lost, tl.where(inside, _cosine(dot, norm, kept), 0.0), ratio


# An argument that is 1 would be taken for a constant, which has no type.
@triton.jit(do_not_specialize=["rows", "columns", "vectors", "iterations", "row_measure", "with_ratio"])
def _follow(
    energy, error, output_energy, output_norm, output_peak, whole, numbers,
    x, scratch, sums, variance, rows, columns, vectors, iterations, row_measure, with_ratio, BLOCK: tl.constexpr,
):  # fmt: skip
    """One rate from uniform on: x, the sums at its floor counts and the variance of row quality, update by update."""
    rate = tl.program_id(0)
    target = tl.load(numbers)
    cap = tl.load(numbers + 1)
    step = 2 * tl.load(numbers + 2 + rate)
    x += rate.to(tl.int64) * (iterations + 1) * rows
    scratch += rate.to(tl.int64) * rows
    sums += rate * (iterations + 1) * 5
    variance += rate * (iterations + 1)
    moving = tl.where(row_measure == 0, rows.to(tl.float64), tl.load(whole + 2))  # rows that take part
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
        for start in range(0, rows, BLOCK):
            row = start + tl.arange(0, BLOCK)
            inside = row < rows
            here = tl.zeros((BLOCK,), tl.float64) + target
            if iteration > 0:
                here = tl.load(x + row, mask=inside, other=0.0)
            alive = inside & ((row_measure == 0) | (tl.load(output_norm + row, mask=inside, other=0.0) > 0))
            here = tl.where(alive, here - shift, here)
            tl.store(x + row, here, mask=inside)
            count = tl.minimum(tl.maximum(here * columns, 0.0), columns.to(tl.float64)).to(tl.int64)
            dot, kept, lost, cosine, ratio = _look_up(
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
        tl.store(sums + iteration * 5, tl.sum(dot_sum, axis=0))
        tl.store(sums + iteration * 5 + 1, tl.sum(energy_sum, axis=0))
        tl.store(sums + iteration * 5 + 2, tl.sum(error_sum, axis=0))
        tl.store(sums + iteration * 5 + 3, tl.sum(cosine_sum, axis=0))
        tl.store(sums + iteration * 5 + 4, tl.sum(ratio_sum, axis=0))
        mean = tl.sum(quality_sum, axis=0) / moving
        lowest = tl.min(low, axis=0)
        spread = tl.max(high, axis=0) - lowest
        scale = step / (spread + 1e-6)
        x_sum = tl.zeros((BLOCK,), tl.float64)
        square_sum = tl.zeros((BLOCK,), tl.float64)
        for start in range(0, rows, BLOCK):
            row = start + tl.arange(0, BLOCK)
            inside = row < rows
            alive = inside & ((row_measure == 0) | (tl.load(output_norm + row, mask=inside, other=0.0) > 0))
            here = tl.load(x + row, mask=inside, other=0.0)
            quality = tl.load(scratch + row, mask=alive, other=0.0)
            square_sum += tl.where(alive, (quality - mean) * (quality - mean), 0.0)
            moved = here + ((quality - lowest) * scale - (mean - lowest) * scale)
            moved = tl.minimum(tl.maximum(moved, 0.0), cap)
            moved = tl.where(spread > 0, moved, here)  # rows that are all alike stay
            moved = tl.where(alive, moved, here)
            x_sum += tl.where(alive, moved, 0.0)
            if iteration < iterations:
                tl.store(x + rows + row, moved, mask=inside)
        tl.store(variance + iteration, tl.sum(square_sum, axis=0) / moving)
        shift = tl.where(spread > 0, tl.sum(x_sum, axis=0) / moving - target, 0.0)
        x += rows


@triton.jit
def _layer_quality(measure, dot, energy, error, cosine, ratio, whole, rows, vectors):
    """The quality of the layer from sums over its rows."""
    output_energy = tl.load(whole)
    values = rows.to(tl.float64) * vectors
    noise = error / values
    snr = tl.where(noise < 1e-10, float("inf"), _decibel(output_energy / values, noise))
    quality = tl.where(measure == 0, _cosine(dot, tl.sqrt(output_energy), energy), cosine / rows)
    quality = tl.where(measure == 2, -noise, quality)
    quality = tl.where(measure == 3, snr, quality)
    quality = tl.where(measure == 4, _decibel(tl.load(whole + 1), noise), quality)
    return tl.where(measure == 5, ratio / tl.maximum(tl.load(whole + 2), 1.0), quality)


@triton.jit(do_not_specialize=["rows", "columns", "vectors", "rates", "positive", "steps", "total", "limit"])
def _settle(
    energy, error, output_energy, output_norm, output_peak, whole, x, sums, out, counts,
    rows, columns, vectors, rates, positive, steps, total, limit, layer_measure, with_ratio,
    BLOCK: tl.constexpr, WIDE_BLOCK: tl.constexpr, RATES: tl.constexpr, STEPS: tl.constexpr,
):  # fmt: skip
    """Qualities, the published choice, its exact counts and uniform ones, and the quality of both."""
    rate = tl.arange(0, RATES)[:, None]
    step = tl.arange(0, STEPS)[None, :]
    known = (rate < rates) & (step < steps)
    place = rate * steps + step
    quality = _layer_quality(
        layer_measure,
        tl.load(sums + place * 5, mask=known, other=0.0),
        tl.load(sums + place * 5 + 1, mask=known, other=0.0),
        tl.load(sums + place * 5 + 2, mask=known, other=0.0),
        tl.load(sums + place * 5 + 3, mask=known, other=0.0),
        tl.load(sums + place * 5 + 4, mask=known, other=0.0),
        whole, rows, vectors,
    )  # fmt: skip
    tl.store(out + place, quality, mask=known)
    quality = tl.where(known, quality, float("-inf"))
    chosen = _published_choice(quality, rate, step, rates, positive, steps, RATES)
    # The nearest exact counts, as masks.project_counts finds them.
    x += chosen.to(tl.int64) * rows
    shift = common_shift(x, rows, columns, total, limit, WIDE_BLOCK)
    largest_remainders(x, counts, rows, columns, shift, total, limit, WIDE_BLOCK)
    each = total // rows
    left_over = total - each * rows
    for start in range(0, rows, BLOCK):
        row = start + tl.arange(0, BLOCK)
        tl.store(counts + rows + row, each + (row < left_over).to(tl.int64), mask=row < rows)
    tl.debug_barrier()
    for reading in range(2):  # uniform first
        at = counts + (1 - reading) * rows
        dot_sum = tl.zeros((BLOCK,), tl.float64)
        energy_sum = tl.zeros((BLOCK,), tl.float64)
        error_sum = tl.zeros((BLOCK,), tl.float64)
        cosine_sum = tl.zeros((BLOCK,), tl.float64)
        ratio_sum = tl.zeros((BLOCK,), tl.float64)
        for start in range(0, rows, BLOCK):
            row = start + tl.arange(0, BLOCK)
            inside = row < rows
            count = tl.load(at + row, mask=inside, other=0)
            dot, kept, lost, cosine, ratio = _look_up(
                energy, error, output_energy, output_norm, output_peak,
                row, count, inside, columns, vectors, with_ratio,
            )  # fmt: skip
            dot_sum += tl.where(inside, dot, 0.0)
            energy_sum += kept
            error_sum += lost
            cosine_sum += cosine
            ratio_sum += ratio
        realised = _layer_quality(
            layer_measure, tl.sum(dot_sum, axis=0), tl.sum(energy_sum, axis=0), tl.sum(error_sum, axis=0),
            tl.sum(cosine_sum, axis=0), tl.sum(ratio_sum, axis=0), whole, rows, vectors,
        )  # fmt: skip
        tl.store(out + 2 * rates * steps + reading, realised)


@triton.jit
def _published_choice(quality, rate, step, rates, positive, steps, RATES: tl.constexpr):
    """Where the best update of all tried rates stands in the (rates, steps) table."""
    best_of_rate = tl.max(quality, axis=1)
    # The first of equal ones.
    step_of_rate = tl.min(tl.where(quality == best_of_rate[:, None], step, steps), axis=1)
    lane = tl.arange(0, RATES)
    uniform = tl.max(tl.where((rate == 0) & (step == 0), quality, float("-inf")))
    best = uniform * 0 + float("-inf")
    previous = best
    chosen = 0
    trying = True
    for place in range(rates):
        if place == positive:
            trying = best <= uniform
            previous = previous * 0 + float("-inf")
        if trying:
            here = tl.max(tl.where(lane == place, best_of_rate, float("-inf")), axis=0)
            if here > best:
                best = here
                chosen = place * steps + tl.max(tl.where(lane == place, step_of_rate, 0), axis=0)
            trying = here > previous
            previous = here
    return chosen
