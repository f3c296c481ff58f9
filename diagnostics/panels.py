"""The four linked charts of a layer as numbers: a browser scales them to its pixels and computes nothing.

A panel holds its axes with their ticks and its marks in the units of the axes; on a logarithmic axis both are decadic
logarithms. `row_arrays` holds where each row of the layer is in each panel, so that a row lights up in all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from diagnostics.allocation import RowAllocation
from diagnostics.format import change, number, percent, rate_label, rows
from diagnostics.learning_rate import LearningRateTrace, rate_summaries
from diagnostics.numeric import Histogram, count_edges, histogram, round_edges, spread_indices
from diagnostics.similarity import AllocatedCosine

CosineAxis = Literal["logarithmic", "linear"]
LEAST_LOSS = 1e-6  # the lower end of a logarithmic axis: float32 cosines near 1 are not told apart below it
_LOG_FROM = 0.2  # the row sparsity from which on a logarithmic axis shows every loss
MAX_CURVE_BYTES = 240_000
MAX_CURVE_POINTS = 49
MAX_PANEL_BINS = 40
_NO_BIN = 255
_STEPS = 65_535


@dataclass(frozen=True)
class Axis:
    """A title, both ends, and ticks with their labels; `quantity` says how a value on it is written."""

    title: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Mark:
    """Something drawn.

    Attributes:
        kind: "steps" is the outline of a histogram (one more x than y), "band" has y and `low`, "line" and "points"
            have x and y, "rule" is a straight line across at x or y.
        style: a method, "score", "gain", "loss", "muted" or "ink".
        pinned: whether it is of the layer seen alongside.
        labels: what is read out of each bar or point.
        bins, values: names of the row arrays by which rows are found in a histogram.
        symbol: of points; none where there is only a text.
        text: written at a rule or above a point.
    """

    kind: Literal["steps", "band", "line", "points", "rule"]
    style: str
    x: Sequence[float] = ()
    y: Sequence[float] = ()
    low: Sequence[float] = ()
    pinned: bool = False
    labels: Sequence[str] = ()
    bins: str = ""
    values: str = ""
    symbol: str = ""
    text: str = ""


@dataclass(frozen=True)
class Panel:
    """One chart: a question, what it shows, axes and marks.

    Attributes:
        note: in place of marks, why there are none.
        in_shares: whether a histogram's heights are shares of the rows; otherwise they count them.
        heights: of each learning rate, the histogram of its row sparsities; drawn when a rate lights up.
    """

    name: str
    title: str
    x: Axis
    y: Axis
    marks: tuple[Mark, ...] = ()
    note: str = ""
    in_shares: bool = False
    heights: Sequence[Sequence[float]] = ()


@dataclass(frozen=True, eq=False)
class LayerNumbers:
    """The numbers of one layer of D rows that the panels draw.

    Attributes:
        target: the layer's sparsity.
        gini: (D,), NaN for a row of zeros.
        sparsity, cosine: (P,) row sparsities from 0 to 1, and (D, P) each row's cosine there.
        bands: (5, P), percentiles of the cosines over rows, as `similarity.cosine_bands` makes them.
        allocations, cosines: what is shown, uniform among them, in the same order.
        trace: of TRIM's search, if it searched.
        rate_sparsity: (R, D), each row's sparsity x under each rate of the trace; NaN where it is not known.
    """

    target: float
    gini: np.ndarray
    sparsity: np.ndarray
    cosine: np.ndarray
    bands: np.ndarray
    allocations: tuple[RowAllocation, ...]
    cosines: tuple[AllocatedCosine, ...]
    trace: LearningRateTrace | None = None
    rate_sparsity: np.ndarray | None = None

    @property
    def drawn(self) -> tuple[RowAllocation, ...]:
        """The allocations with a histogram: not uniform, which is a line, unless there is no other."""
        learned = tuple(each for each in self.allocations if each.method != "uniform")
        return learned or self.allocations


@dataclass(frozen=True, eq=False)
class Panels:
    """The four charts, and the place of each of the shown layer's D rows in them.

    Attributes:
        panels: in the order in which they are seen.
        rows: D.
        arrays: (D,) or (D, …): uint8 bins, float32 values, uint16 steps along an axis (65535 where there is none in
            `rates`).
        samples: places along the horizontal axis of each column of `curves`.
        rate_order: the place along the horizontal axis of each rate of the shown layer's trace.
    """

    panels: tuple[Panel, ...]
    rows: int
    arrays: dict[str, np.ndarray] = field(repr=False)
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
    rate, order = _rate_panel(shown, pinned, arrays)
    return Panels((gini, cosine, sparsity, rate), len(shown.gini), arrays, samples, order)


def round_ticks(low: float, high: float, most: int = 7) -> tuple[float, ...]:
    """At most `most` round numbers from `low` to `high`, 1, 2 or 5 times a power of ten apart."""
    span = high - low
    if not span > 0:
        return (low,)
    decade = 10.0 ** np.floor(np.log10(span / most))
    step = next(
        decade * factor for factor in (1, 2, 5, 10, 20) if span / (decade * factor) <= most - 1 + 1e-9
    )
    places = max(0, -int(np.floor(np.log10(step) + 1e-9)))
    first, last = int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9))
    return tuple(round(float(index * step), places) for index in range(first, last + 1))


def _number_axis(title: str, low: float, high: float, *, most: int = 7, signed: bool = False) -> Axis:
    ticks = round_ticks(low, high, most)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    places = max(0, -int(np.floor(np.log10(step) + 1e-9)))
    sign = "+" if signed else ""
    texts = [f"{tick:{sign},.{places}f}".replace("-", "−") if tick else "0" for tick in ticks]
    return Axis(title, low, high, tuple(zip(ticks, texts, strict=True)))


def _share_axis(title: str, low: float, high: float, most: int = 7) -> Axis:
    ticks = round_ticks(100 * low, 100 * high, most)
    places = (
        0
        if all(tick == int(tick) for tick in ticks)
        else 1
        if len(ticks) < 2 or ticks[1] - ticks[0] >= 0.1
        else 2
    )
    return Axis(title, low, high, tuple((tick / 100, f"{tick:.{places}f}%") for tick in ticks))


def _rows_axis(top: float, in_shares: bool) -> Axis:
    if in_shares:
        return _share_axis("share of rows", 0.0, 1.08 * top, 5)
    ticks = [tick for tick in round_ticks(0, 1.08 * top, 5) if tick == int(tick)]
    return Axis("rows", 0.0, 1.08 * top, tuple((tick, f"{int(tick):,}") for tick in ticks))


def _widths(shown: LayerNumbers, pinned: LayerNumbers | None) -> tuple[bool, list[tuple[LayerNumbers, bool]]]:
    """Return whether histograms are in shares of the rows, and the layers drawn, each with whether it is pinned."""
    sides = [(shown, False)] + ([(pinned, True)] if pinned is not None else [])
    return len({len(side.gini) for side, _ in sides}) > 1, sides


def _steps(bins: Histogram, line: int, rows_: int, in_shares: bool) -> np.ndarray:
    heights: np.ndarray = bins.counts[line] / (rows_ if in_shares else 1)
    return heights


def _bins_of(bins: Histogram, values: np.ndarray) -> np.ndarray:
    found = np.full(len(values), _NO_BIN, dtype=np.uint8)
    finite = np.isfinite(values)
    found[finite] = bins.bin_of(values[finite])
    return found


def _bar_texts(bins: Histogram, line: int, quantity: str, write: "_Write") -> tuple[str, ...]:
    limits = [write(edge) for edge in bins.edges.tolist()]
    return tuple(
        f"{rows(int(count))} with {quantity} {low} to {high}"
        for count, low, high in zip(bins.counts[line], limits[:-1], limits[1:], strict=True)
    )


class _Write:
    """Write the limits of bins, with as many digits as tell neighbours apart."""

    def __init__(self, edges: np.ndarray, share: bool) -> None:
        width = float(edges[1] - edges[0]) * (100 if share else 1)
        self.places, self.share = min(6, max(0, 1 - int(np.floor(np.log10(width))))), share

    def __call__(self, value: float) -> str:
        return f"{value:.{self.places}%}" if self.share else f"{value:.{self.places}f}"


def _gini_panel(shown: LayerNumbers, pinned: LayerNumbers | None, arrays: dict[str, np.ndarray]) -> Panel:
    in_shares, sides = _widths(shown, pinned)
    bins = histogram(
        [side.gini for side, _ in sides], round_edges([side.gini for side, _ in sides], MAX_PANEL_BINS)
    )
    marks = []
    for line, (side, is_pinned) in enumerate(sides):
        marks.append(
            Mark(
                "steps",
                "score",
                bins.edges.tolist(),
                _steps(bins, line, len(side.gini), in_shares).tolist(),
                pinned=is_pinned,
                labels=() if is_pinned else _bar_texts(bins, line, "Gini", _Write(bins.edges, False)),
                bins="" if is_pinned else "gini_bin",
                values="" if is_pinned else "gini",
            )
        )
        if np.isfinite(side.gini).any():
            median = float(np.nanmedian(side.gini))
            text = "" if is_pinned else f"median {number(median, 3)}"
            marks.append(Mark("rule", "ink", x=[median], pinned=is_pinned, text=text))
    arrays["gini"] = shown.gini.astype(np.float32)
    arrays["gini_bin"] = _bins_of(bins, shown.gini)
    top = max(max(mark.y, default=0) for mark in marks if mark.kind == "steps") or 1
    margin = 0.03 * float(bins.edges[-1] - bins.edges[0])
    return Panel(
        "gini",
        "How concentrated is each row's score?",
        _number_axis(
            "Gini of the row's scores", float(bins.edges[0]) - margin, float(bins.edges[-1]) + margin
        ),
        _rows_axis(top, in_shares),
        tuple(marks),
        "" if np.isfinite(shown.gini).any() else "All scores are zero: no row has a Gini.",
        in_shares,
    )


def _cosine_panel(
    shown: LayerNumbers, pinned: LayerNumbers | None, scale: CosineAxis, arrays: dict[str, np.ndarray]
) -> tuple[Panel, tuple[float, ...]]:
    _, sides = _widths(shown, pinned)
    if scale == "logarithmic":
        seen = [1.0 - side.bands[:, side.sparsity >= _LOG_FROM] for side, _ in sides]
        least = min((float(np.nanmin(each)) for each in seen if np.isfinite(each).any()), default=LEAST_LOSS)
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
        y = _number_axis("cosine", min(0.0, least), 1.02)

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
    points = max(2, min(MAX_CURVE_POINTS, MAX_CURVE_BYTES // (2 * len(shown.cosine))))
    kept = spread_indices(len(shown.sparsity), points)
    arrays["curves"] = _along(placed(shown.cosine[:, kept]), y)
    for each in shown.cosines:
        arrays[f"sparsity_{each.method}"] = each.row_sparsity.astype(np.float32)
        arrays[f"cosine_{each.method}"] = each.cosine.astype(np.float32)
    panel = Panel(
        "cosine",
        "How fast do rows lose their output?",
        _share_axis("row sparsity: share of the row's weights pruned", 0.0, 1.0),
        y,
        tuple(marks),
        "" if np.isfinite(shown.bands).all() else "No row has any output on this text.",
    )
    return panel, tuple(shown.sparsity[kept].tolist())


def _power(power: int) -> str:
    return "1" if power == 0 else f"{10.0**power:.{-power}f}"


def _along(values: np.ndarray, axis: Axis) -> np.ndarray:
    return np.rint((values - axis.low) / (axis.high - axis.low) * _STEPS).astype(np.uint16)


def _sparsity_panel(shown: LayerNumbers, pinned: LayerNumbers | None, arrays: dict[str, np.ndarray]) -> Panel:
    in_shares, sides = _widths(shown, pinned)
    lines = [(each, side, is_pinned) for side, is_pinned in sides for each in side.drawn]
    counts = [np.asarray(each.counts) for each, _, _ in lines]
    sparsities = [each.row_sparsity for each, _, _ in lines]
    columns = {each.columns for each, _, _ in lines}
    edges = (
        count_edges(counts, columns.pop(), MAX_PANEL_BINS)
        if len(columns) == 1
        else round_edges(sparsities, MAX_PANEL_BINS)
    )
    bins = histogram(sparsities, edges)
    marks = []
    for line, (each, side, is_pinned) in enumerate(lines):
        if not is_pinned:
            arrays[f"bin_{each.method}"] = _bins_of(bins, sparsities[line])
        marks.append(
            Mark(
                "steps",
                each.method,
                edges.tolist(),
                _steps(bins, line, len(side.gini), in_shares).tolist(),
                pinned=is_pinned,
                labels=()
                if is_pinned
                else _bar_texts(bins, line, f"{each.label} sparsity", _Write(edges, True)),
                bins="" if is_pinned else f"bin_{each.method}",
                values="" if is_pinned else f"sparsity_{each.method}",
            )
        )
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
        _share_axis("row sparsity: share of the row's weights pruned", low - margin, high + margin),
        _rows_axis(top, in_shares),
        tuple(marks),
        in_shares=in_shares,
        heights=heights,
    )


RATES = "Which learning rate beats uniform?"


def _rate_panel(
    shown: LayerNumbers, pinned: LayerNumbers | None, arrays: dict[str, np.ndarray]
) -> tuple[Panel, tuple[float, ...]]:
    empty = Axis("learning rate η", 0.0, 1.0, ())
    if shown.trace is None:
        return Panel("rate", RATES, empty, empty, note="No learning rate was searched here."), ()
    if not np.isfinite(shown.trace.uniform_quality):
        note = "Uniform pruning loses nothing measurable here. Raise the target, or choose another quality."
        return Panel("rate", RATES, empty, empty, note=note), ()
    traces = [(shown.trace, False)]
    if (
        pinned is not None
        and pinned.trace is not None
        and pinned.trace.layer_measure == shown.trace.layer_measure
    ):
        traces.append((pinned.trace, True))
    rates = sorted({rate for trace, _ in traces for rate in trace.rates.tolist()})
    place = {rate: float(index) for index, rate in enumerate(rates)}
    low, high = _gain_limits([trace for trace, _ in traces])
    marks = [Mark("rule", "uniform", y=[0.0], text="uniform")]
    for trace, is_pinned in traces:
        marks += _rate_marks(trace, place, low, high, is_pinned)
    if shown.rate_sparsity is not None:
        steps = np.full((len(shown.gini), len(rates)), _STEPS, dtype=np.uint16)
        least, most = np.nanmin(shown.rate_sparsity), np.nanmax(shown.rate_sparsity)
        for rate, x in zip(shown.trace.rates.tolist(), shown.rate_sparsity, strict=True):
            if np.isfinite(x).all():
                steps[:, int(place[rate])] = np.rint((x - least) / ((most - least) or 1) * (_STEPS - 1))
        arrays["rates"] = steps
        arrays["rate_limits"] = np.array([least, most], dtype=np.float32)
        arrays["rate_target"] = np.array(
            [np.rint((shown.target - least) / ((most - least) or 1) * (_STEPS - 1))], dtype=np.float32
        )
    panel = Panel(
        "rate",
        RATES,
        Axis(
            "learning rate η",
            -0.6,
            len(rates) - 0.4,
            tuple((place[rate], rate_label(rate)) for rate in rates),
        ),
        _number_axis("gain over uniform", low, high, most=5, signed=True),
        tuple(marks),
    )
    return panel, tuple(place[rate] for rate in shown.trace.rates.tolist())


def _gain_limits(traces: list[LearningRateTrace]) -> tuple[float, float]:
    """Limits that hold every gain; of the losses, which the publication's reading may choose, those of like size."""
    known = np.concatenate(
        [*(trace.kept_gain[np.isfinite(trace.kept_gain)] for trace in traces), np.zeros(1)]
    )
    top, bottom = float(known.max()), float(known.min())
    size = top or -bottom or 1e-6
    return max(bottom, -size) - 0.12 * size, 1.3 * top if top > 0 else 0.3 * size


def _rate_marks(
    trace: LearningRateTrace, place: dict[float, float], low: float, high: float, is_pinned: bool
) -> list[Mark]:
    marks = []
    summaries = [each for each in rate_summaries(trace) if each.gain is not None]
    for name, style, symbol in (
        ("positive", "gain", "triangle-up"),
        ("negative", "loss", "triangle-down"),
        ("not tried", "muted", "circle-open"),
    ):
        drawn = [each for each in summaries if _sort_of(each.rate, each.tried) == name]
        if not drawn:
            continue
        marks.append(
            Mark(
                "points",
                style,
                [place[each.rate] for each in drawn],
                [float(np.clip(each.gain or 0.0, low, high)) for each in drawn],
                pinned=is_pinned,
                symbol=symbol,
                labels=[
                    f"η = {rate_label(each.rate)}: "
                    + (f"{change(each.gain)} over uniform" if each.gain else "no iteration beats uniform")
                    + ("" if each.tried else ", not tried by the search")
                    for each in drawn
                ],
            )
        )
    if not is_pinned:
        crosses = [
            (place[each.rate], each.published - trace.uniform_quality)
            for each in summaries
            if each.published is not None
            and each.tried
            and low <= each.published - trace.uniform_quality <= high
        ]
        if crosses:
            marks.append(
                Mark("points", "ink", [x for x, _ in crosses], [y for _, y in crosses], symbol="cross")
            )
    chosen = [each for each in summaries if each.chosen]
    best = [each for each in summaries if each.exhaustive and not each.chosen]
    for which, text, symbol in ((chosen, "chosen", "ring"), (best, "best of all rates", "box")):
        for each in which:
            x, y = place[each.rate], float(np.clip(each.gain or 0.0, low, high))
            marks.append(Mark("points", "ink", [x], [y], pinned=is_pinned, symbol=symbol))
            if not is_pinned:  # the word is above the cross of the published reading
                crossed = -np.inf if each.published is None else each.published - trace.uniform_quality
                above = max(y, crossed) if crossed <= high else y
                marks.append(Mark("points", "ink", [x], [above], text=text))
    return marks


def _sort_of(rate: float, tried: bool) -> str:
    return ("positive" if rate > 0 else "negative") if tried else "not tried"
