"""The four linked charts of a layer as numbers, which a browser only scales to its pixels.

A panel holds its axes with their ticks and its marks in the units of the axes; on a logarithmic axis both are decadic
logarithms. `row_arrays` holds the place of each row in each panel, so that a row lights up in all of them.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from diagnostics.format import count_rows, number, percent
from diagnostics.numeric import Histogram, histogram, round_edges, row_sparsity_edges, spread_indices
from diagnostics.panel_parts import (
    LAST_STEP,
    Axis,
    LayerNumbers,
    Mark,
    Panel,
    number_axis,
    rows_axis,
    share_axis,
)
from diagnostics.rate_panel import rate_panel

CosineAxis = Literal["logarithmic", "linear"]
Kind = Literal["uint8", "uint16"]
LEAST_LOSS = 1e-6  # the lower end of a logarithmic axis: float32 cosines near 1 differ by no less
_LOG_FROM = 0.2  # the row sparsity above which a logarithmic axis must show every loss
MAX_CURVE_BYTES = 120_000
MAX_CURVE_POINTS = 49
# With fewer points, each is sent as one byte instead of two, in steps that are still as fine as pixels.
LEAST_CURVE_POINTS = 8
GINI_STEPS = (
    10_000  # a Gini is sent as a number of these steps; the largest of the type stands for a row of zeros
)
MAX_PANEL_BINS = 40
_NO_BIN = 255


@dataclass(frozen=True, eq=False)
class Panels:
    """The four charts, and the place of each of the shown layer's D rows in them.

    Attributes:
        panels: the panels in their order on the page.
        rows: D.
        arrays: (D,) or (D, …): bins, counts, float32 cosines, Ginis in `GINI_STEPS`, and steps along an axis, up to
            the last number of the type; in `rates` that one means that there is none.
        units: of the arrays that hold whole numbers of something.
        samples: places along the horizontal axis of each column of `curves`.
        rate_order: the place along the horizontal axis of each rate of the shown layer's trace.
    """

    panels: tuple[Panel, ...]
    rows: int
    arrays: dict[str, np.ndarray] = field(repr=False)
    units: dict[str, float]
    samples: tuple[float, ...]
    rate_order: tuple[float, ...]


def linked_panels(
    shown: LayerNumbers, pinned: LayerNumbers | None = None, cosine_axis: CosineAxis = "logarithmic"
) -> Panels:
    """Return the panels of a layer, with a second one drawn into the same axes."""
    arrays: dict[str, np.ndarray] = {}
    gini = _gini_panel(shown, pinned, arrays)
    cosine, samples = _cosine_panel(shown, pinned, cosine_axis, arrays)
    sparsity = _sparsity_panel(shown, pinned, arrays)
    rate, order = rate_panel(shown, pinned, arrays)
    units = {f"count_{each.method}": 1 / each.columns for each in shown.allocations} | {
        "gini": 1 / GINI_STEPS
    }
    return Panels((gini, cosine, sparsity, rate), len(shown.gini), arrays, units, samples, order)


def _sides(shown: LayerNumbers, pinned: LayerNumbers | None) -> tuple[bool, list[tuple[LayerNumbers, bool]]]:
    """Return whether histograms are in shares of the rows, and the drawn layers, each with whether it is pinned."""
    sides = [(shown, False)] + ([(pinned, True)] if pinned is not None else [])
    return len({len(side.gini) for side, _ in sides}) > 1, sides


def _bins_of(bins: Histogram, values: np.ndarray) -> np.ndarray:
    found = np.full(len(values), _NO_BIN, dtype=np.uint8)
    finite = np.isfinite(values)
    found[finite] = bins.bin_of(values[finite])
    return found


def _histogram_mark(
    mark: Mark,
    bins: Histogram,
    line: int,
    quantity: str,
    names: tuple[str, str],
    unit: Literal["f", "%"],
    *,
    pinned: bool,
) -> Mark:
    """Return the outline of a histogram; for the shown layer with its labels and the places of its rows."""
    if pinned:
        return replace(mark, pinned=True)
    # As many digits as neighbours need to differ.
    width = float(bins.edges[1] - bins.edges[0]) * (100 if unit == "%" else 1)
    places = min(6, max(0, 1 - int(np.floor(np.log10(width)))))
    limits = [f"{edge:.{places}{unit}}" for edge in bins.edges.tolist()]
    labels = tuple(
        f"{count_rows(int(count))} with {quantity} {low} to {high}"
        for count, low, high in zip(bins.counts[line], limits[:-1], limits[1:], strict=True)
    )
    return replace(mark, labels=labels, bins=names[0], values=names[1])


def _gini_panel(shown: LayerNumbers, pinned: LayerNumbers | None, arrays: dict[str, np.ndarray]) -> Panel:
    in_shares, sides = _sides(shown, pinned)
    bins = histogram(
        [side.gini for side, _ in sides], round_edges([side.gini for side, _ in sides], MAX_PANEL_BINS)
    )
    marks = []
    for line, (side, is_pinned) in enumerate(sides):
        rows = len(side.gini) if in_shares else 1
        mark = Mark("steps", "score", bins.edges.tolist(), (bins.counts[line] / rows).tolist())
        marks.append(_histogram_mark(mark, bins, line, "Gini", ("gini_bin", "gini"), "f", pinned=is_pinned))
        if np.isfinite(side.gini).any():
            median = float(np.nanmedian(side.gini))
            text = "" if is_pinned else f"median {number(median, 3)}"
            marks.append(Mark("rule", "ink", x=[median], pinned=is_pinned, text=text))
    finite = np.isfinite(shown.gini)
    arrays["gini"] = np.where(finite, np.rint(GINI_STEPS * shown.gini), LAST_STEP["uint16"]).astype(np.uint16)
    arrays["gini_bin"] = _bins_of(bins, shown.gini)
    top = max(max(mark.y, default=0) for mark in marks if mark.kind == "steps") or 1
    margin = 0.03 * float(bins.edges[-1] - bins.edges[0])
    return Panel(
        "gini",
        "How concentrated is each row's score?",
        number_axis("Gini", float(bins.edges[0]) - margin, float(bins.edges[-1]) + margin),
        rows_axis(top, in_shares),
        tuple(marks),
        "" if np.isfinite(shown.gini).any() else "All scores are zero: no row has a Gini.",
        in_shares,
    )


def _cosine_panel(
    shown: LayerNumbers, pinned: LayerNumbers | None, scale: CosineAxis, arrays: dict[str, np.ndarray]
) -> tuple[Panel, tuple[float, ...]]:
    _, sides = _sides(shown, pinned)
    if scale == "logarithmic":
        seen = [1.0 - side.bands[:, side.sparsity >= _LOG_FROM] for side, _ in sides]
        # A cosine that was rounded to 1 says no more than that the loss is below the smallest one here.
        least = min((float(each[each > 0].min()) for each in seen if (each > 0).any()), default=LEAST_LOSS)
        low = float(np.floor(np.log10(max(least, LEAST_LOSS))))
        largest = max(
            (float(np.nanmax(1.0 - side.bands)) for side, _ in sides if np.isfinite(side.bands).any()),
            default=1,
        )
        high = max(0.0, float(np.log10(max(largest, 1.0)))) + 0.04
        ticks = tuple((float(power), _power(power)) for power in range(int(low), 1))
        y = Axis("1 − cosine", low, high, ticks)
    else:
        least = min(
            (float(np.nanmin(side.bands)) for side, _ in sides if np.isfinite(side.bands).any()), default=0.0
        )
        y = number_axis("cosine", min(0.0, least), 1.02)

    def placed(cosine: np.ndarray) -> np.ndarray:
        values = cosine if scale == "linear" else np.log10(np.maximum(1.0 - cosine, 10.0**y.low))
        clipped: np.ndarray = np.clip(values, y.low, y.high)
        return clipped

    marks = []
    for side, is_pinned in sides:
        x = side.sparsity.tolist()
        if np.isfinite(side.bands).all():
            bands = placed(side.bands)
            if not is_pinned:
                marks.append(Mark("band", "muted", x, bands[0].tolist(), bands[4].tolist()))
                marks.append(Mark("band", "muted", x, bands[1].tolist(), bands[3].tolist()))
            marks.append(Mark("line", "muted", x, bands[2].tolist(), pinned=is_pinned))
        if not is_pinned or side.target != shown.target:
            text = f"target {percent(side.target, 0)}" if not is_pinned else ""
            marks.append(Mark("rule", "ink", x=[side.target], pinned=is_pinned, text=text))
    points = MAX_CURVE_BYTES // (2 * len(shown.cosine))
    kind: Kind = "uint16" if points >= LEAST_CURVE_POINTS else "uint8"
    points = max(2, min(MAX_CURVE_POINTS, points if kind == "uint16" else 2 * points))
    kept = spread_indices(len(shown.sparsity), points)
    arrays["curves"] = _axis_steps(placed(shown.cosine[:, kept]), y, kind)
    for allocation in shown.allocations:
        counts = np.asarray(allocation.counts)
        arrays[f"count_{allocation.method}"] = counts.astype(np.min_scalar_type(max(256, allocation.columns)))
    for each in shown.cosines:
        bits = each.cosine.astype(np.float32).view(np.uint32)
        bits &= 0xFFFFFFF0  # the last bits are noise, which compresses badly
        arrays[f"cosine_{each.method}"] = bits.view(np.float32)
    panel = Panel(
        "cosine",
        "How fast do rows lose their output?",
        share_axis("row sparsity: share of the row's weights pruned", 0.0, 1.0),
        y,
        tuple(marks),
        "" if np.isfinite(shown.bands).all() else "No row has any output on this text.",
    )
    return panel, tuple(shown.sparsity[kept].tolist())


def _power(power: int) -> str:
    return "1" if power == 0 else f"{10.0**power:.{-power}f}"


def _axis_steps(values: np.ndarray, axis: Axis, kind: Kind) -> np.ndarray:
    steps: np.ndarray = np.rint((values - axis.low) / (axis.high - axis.low) * LAST_STEP[kind]).astype(kind)
    return steps


def _sparsity_panel(shown: LayerNumbers, pinned: LayerNumbers | None, arrays: dict[str, np.ndarray]) -> Panel:
    in_shares, sides = _sides(shown, pinned)
    lines = [(each, side, is_pinned) for side, is_pinned in sides for each in side.drawn]
    sparsities = [each.row_sparsity for each, _, _ in lines]
    edges = row_sparsity_edges(sparsities, (each.columns for each, _, _ in lines), MAX_PANEL_BINS)
    bins = histogram(sparsities, edges)
    marks = []
    for line, (each, side, is_pinned) in enumerate(lines):
        if not is_pinned:
            arrays[f"bin_{each.method}"] = _bins_of(bins, sparsities[line])
        rows = len(side.gini) if in_shares else 1
        mark = Mark("steps", each.method, edges.tolist(), (bins.counts[line] / rows).tolist())
        label, names = f"{each.label} sparsity", (f"bin_{each.method}", f"count_{each.method}")
        marks.append(_histogram_mark(mark, bins, line, label, names, "%", pinned=is_pinned))
    targets = []
    for side, is_pinned in sides:
        if side.drawn == side.allocations or (is_pinned and side.target == shown.target):
            continue
        text = "" if is_pinned else f"uniform {percent(side.target)}"
        marks.append(Mark("rule", "uniform", x=[side.target], pinned=is_pinned, text=text))
        targets.append(side.target)
    top = max(max(mark.y) for mark in marks if mark.kind == "steps") or 1
    low, high = min(float(edges[0]), *targets, 1.0), max(float(edges[-1]), *targets, 0.0)
    margin = max(0.03 * (high - low), 0.002)
    heights: list[list[float]] = []
    if shown.rate_sparsity is not None:
        for x in shown.rate_sparsity:
            inside = x[(x >= edges[0]) & (x <= edges[-1])]
            counted = np.histogram(inside, edges)[0] / (len(shown.gini) if in_shares else 1)
            heights.append(counted.tolist())
    return Panel(
        "row_sparsity",
        "How much of each row is pruned?",
        share_axis("row sparsity", low - margin, high + margin),
        rows_axis(top, in_shares),
        tuple(marks),
        in_shares=in_shares,
        heights=heights,
    )
