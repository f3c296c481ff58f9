"""The search's second kernel: the quality of each update, its exact counts, and their quality."""

import triton
import triton.language as tl

from trim.kernels.counts import common_shift, largest_remainders

# Sums over the rows that a program stores: of dot, energy, error, cosine, peak signal-to-noise ratio, and of squared
# distances from the mean row quality.
SUMS = 6
WIDE_BLOCK = 2048  # rows at a time in a pass that keeps one number per row


@triton.jit
def _layer_quality(measure, dot, energy, error, cosine, ratio, whole, rows, vectors):
    """Judge the layer by one of the numbers of `LAYER_MEASURES`, from sums over its rows."""
    output_energy = tl.load(whole)
    values = rows.to(tl.float64) * vectors
    noise = error / values
    snr = tl.where(noise < 1e-10, float("inf"), decibel_of(output_energy / values, noise))
    quality = tl.where(measure == 0, cosine_of(dot, tl.sqrt(output_energy), energy), cosine / rows)
    quality = tl.where(measure == 2, -noise, quality)
    quality = tl.where(measure == 3, snr, quality)
    quality = tl.where(measure == 4, decibel_of(tl.load(whole + 1), noise), quality)
    return tl.where(measure == 5, ratio / tl.maximum(tl.load(whole + 2), 1.0), quality)


@triton.jit
def _sum_of(sums, number, PARTS: tl.constexpr, SUMS: tl.constexpr):
    """Add up one of the sums over the rows of all programs."""
    found = tl.load(sums + number)
    for part in range(1, PARTS):
        found += tl.load(sums + part * SUMS + number)
    return found


@triton.jit
def _quality_of(measure, sums, whole, rows, vectors, PARTS: tl.constexpr, SUMS: tl.constexpr):
    return _layer_quality(
        measure,
        _sum_of(sums, 0, PARTS, SUMS),
        _sum_of(sums, 1, PARTS, SUMS),
        _sum_of(sums, 2, PARTS, SUMS),
        _sum_of(sums, 3, PARTS, SUMS),
        _sum_of(sums, 4, PARTS, SUMS),
        whole, rows, vectors,
    )  # fmt: skip


@triton.jit
def offset_to_layer(energy, error, output_energy, output_norm, output_peak, whole, layer, rows, columns):
    """Return where the arrays of one of several layers begin."""
    row = layer.to(tl.int64) * rows
    place = row * (columns + 1)
    return (
        energy + place,
        error + place,
        output_energy + row,
        output_norm + row,
        output_peak + row,
        whole + 3 * layer,
    )


@triton.jit(do_not_specialize=["rows", "columns", "limit", "with_ratio"])
def judge_updates(
    energy, error, output_energy, output_norm, output_peak, whole, totals, x, sums, out, counts,
    rows, columns, limit, row_measure, layer_measure, with_ratio,
    PARTS: tl.constexpr, SUMS: tl.constexpr, BLOCK: tl.constexpr, WIDE_BLOCK: tl.constexpr,
):  # fmt: skip
    """Store an update's quality and variance at floor counts, its exact counts, and the quality of these.

    `totals`: the total of each layer, then the number of input vectors of each.
    """
    layer = tl.program_id(1)
    here = (layer * tl.num_programs(0) + tl.program_id(0)).to(tl.int64)
    all_updates = tl.num_programs(0) * tl.num_programs(1)
    total = tl.load(totals + layer).to(tl.int64)
    vectors = tl.load(totals + tl.num_programs(1) + layer)
    energy, error, output_energy, output_norm, output_peak, whole = offset_to_layer(
        energy, error, output_energy, output_norm, output_peak, whole, layer, rows, columns
    )
    x += here * rows
    counts += here * rows
    sums += here * PARTS * SUMS
    out += here
    tl.store(out, _quality_of(layer_measure, sums, whole, rows, vectors, PARTS, SUMS))
    moving = tl.where(row_measure != 2, rows.to(tl.float64), tl.load(whole + 2))
    tl.store(out + all_updates, _sum_of(sums, 5, PARTS, SUMS) / tl.maximum(moving, 1.0))
    # The exact counts, as `trim.methods.counts.project_counts` rounds them.
    shift = common_shift(x, rows, columns, total, limit, WIDE_BLOCK)
    largest_remainders(x, counts, rows, columns, shift, total, limit, WIDE_BLOCK)
    tl.debug_barrier()
    judge(
        energy, error, output_energy, output_norm, output_peak, counts, sums,
        rows, columns, vectors, with_ratio, BLOCK,
    )  # fmt: skip
    tl.debug_barrier()
    tl.store(out + 2 * all_updates, _quality_of(layer_measure, sums, whole, rows, vectors, 1, SUMS))


@triton.jit
def decibel_of(peak, noise):
    """Compute the signal-to-noise ratio in decibel, of a peak or a power and a noise power."""
    return 4.342944819032518 * tl.log(peak / (noise + 1e-10))  # 10 / ln 10


@triton.jit
def cosine_of(dot, output_norm, energy):
    """Compute a cosine as `trim.methods.retention.row_cosine` does."""
    cosine = dot / ((output_norm + 1e-8) * (tl.sqrt(energy) + 1e-8))
    return tl.minimum(tl.maximum(cosine, -1.0), 1.0)


@triton.jit
def look_up(
    energy, error, output_energy, output_norm, output_peak, row, count, inside, columns, vectors, with_ratio
):
    """Look up dot, energy, error, cosine and peak signal-to-noise ratio, which is 0 unless `with_ratio`."""
    place = row.to(tl.int64) * (columns + 1) + count
    kept = tl.load(energy + place, mask=inside, other=0.0).to(tl.float64)
    lost = tl.load(error + place, mask=inside, other=0.0).to(tl.float64)
    norm = tl.load(output_norm + row, mask=inside, other=0.0)
    # ‖Y − Ŷ‖² = ‖Y‖² − 2⟨Y, Ŷ⟩ + ‖Ŷ‖²: one look-up less.
    dot = 0.5 * (tl.load(output_energy + row, mask=inside, other=0.0) + (kept - lost))
    ratio = lost * 0
    if with_ratio:
        peak = tl.load(output_peak + row, mask=inside & (norm > 0), other=1.0)
        ratio = tl.where(norm > 0, decibel_of(peak, lost / vectors), 0.0)
    return dot, kept, lost, tl.where(inside, cosine_of(dot, norm, kept), 0.0), ratio


@triton.jit
def _add(a, b, c, d, e, f, g, h, i, j):
    return a + f, b + g, c + h, d + i, e + j


@triton.jit
def store_sums(sums, dot, energy, error, cosine, ratio):
    """Store the sums of what `look_up` returned, over a block of rows."""
    dot_sum, energy_sum, error_sum, cosine_sum, ratio_sum = tl.reduce(
        (dot, energy, error, cosine, ratio), 0, _add
    )
    tl.store(sums, dot_sum)
    tl.store(sums + 1, energy_sum)
    tl.store(sums + 2, error_sum)
    tl.store(sums + 3, cosine_sum)
    tl.store(sums + 4, ratio_sum)


@triton.jit
def judge(
    energy, error, output_energy, output_norm, output_peak, counts, sums,
    rows, columns, vectors, with_ratio, BLOCK: tl.constexpr,
):  # fmt: skip
    """Store the sums over a layer's rows at their exact counts."""
    dot_sum = tl.zeros((BLOCK,), tl.float64)
    energy_sum = tl.zeros((BLOCK,), tl.float64)
    error_sum = tl.zeros((BLOCK,), tl.float64)
    cosine_sum = tl.zeros((BLOCK,), tl.float64)
    ratio_sum = tl.zeros((BLOCK,), tl.float64)
    for start in range(0, rows, BLOCK):
        row = start + tl.arange(0, BLOCK)
        inside = row < rows
        count = tl.load(counts + row, mask=inside, other=0)
        dot, kept, lost, cosine, ratio = look_up(
            energy, error, output_energy, output_norm, output_peak,
            row, count, inside, columns, vectors, with_ratio,
        )  # fmt: skip
        dot_sum += tl.where(inside, dot, 0.0)
        energy_sum += kept
        error_sum += lost
        cosine_sum += cosine
        ratio_sum += ratio
    store_sums(sums, dot_sum, energy_sum, error_sum, cosine_sum, ratio_sum)
