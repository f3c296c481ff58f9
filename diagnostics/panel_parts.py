"""The parts of a layer's linked charts: axes with ticks, marks, and the numbers that they show."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from diagnostics.allocation import RowAllocation
from diagnostics.learning_rate import LearningRateTrace
from diagnostics.similarity import AllocatedCosine

LAST_STEP = {"uint8": 255, "uint16": 65_535}  # the last step along an axis, by the type of the array


@dataclass(frozen=True)
class Axis:
    """An axis: title, both ends, and ticks with labels; `quantity` decides how its values are written."""

    title: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]


@dataclass(frozen=True)
class Mark:
    """A mark in a chart.

    Attributes:
        kind: "steps" is the outline of a histogram (one more x than y), "band" has y and `low`, "line" and "points"
            have x and y, "rule" is a straight line across at x or y.
        style: a method, "score", "gain", "loss", "muted" or "ink".
        pinned: whether it belongs to the pinned layer.
        labels: the text of each bar or point for hover and screen readers.
        bins, values: names of the row arrays that locate rows in a histogram.
        symbol: symbol of points; none for a text alone.
        text: text at a rule or above a point.
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
    """One chart: a question, a subtitle, axes and marks.

    Attributes:
        note: why there are no marks.
        in_shares: whether a histogram's heights are shares of the rows; otherwise they are counts.
        heights: the histogram of the row sparsities of each learning rate, drawn when a rate lights up.
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
        allocations, cosines: the shown allocations, including uniform, and their cosines in the same order.
        trace: the record of TRIM's search, if it searched.
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
        """The allocations with a histogram: all but uniform, which is a line, or uniform if it is the only one."""
        learned = tuple(each for each in self.allocations if each.method != "uniform")
        return learned or self.allocations


def round_ticks(low: float, high: float, max_ticks: int = 7) -> tuple[float, ...]:
    """Return at most `max_ticks` round numbers from `low` to `high`, 1, 2 or 5 times a power of ten apart."""
    span = high - low
    if not span > 0:
        return (low,)
    decade = 10.0 ** np.floor(np.log10(span / max_ticks))
    step = next(
        decade * factor for factor in (1, 2, 5, 10, 20) if span / (decade * factor) <= max_ticks - 1 + 1e-9
    )
    places = max(0, -int(np.floor(np.log10(step) + 1e-9)))
    first, last = int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9))
    return tuple(round(float(index * step), places) for index in range(first, last + 1))


def number_axis(title: str, low: float, high: float, *, max_ticks: int = 7, signed: bool = False) -> Axis:
    """Return an axis of plain numbers."""
    ticks = round_ticks(low, high, max_ticks)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    places = max(0, -int(np.floor(np.log10(step) + 1e-9)))
    sign = "+" if signed else ""
    texts = [f"{tick:{sign},.{places}f}".replace("-", "−") if tick else "0" for tick in ticks]
    return Axis(title, low, high, tuple(zip(ticks, texts, strict=True)))


def share_axis(title: str, low: float, high: float, max_ticks: int = 7) -> Axis:
    """Return an axis of shares, its ticks in percent."""
    ticks = round_ticks(100 * low, 100 * high, max_ticks)
    places = (
        0
        if all(tick == int(tick) for tick in ticks)
        else 1
        if len(ticks) < 2 or ticks[1] - ticks[0] >= 0.1
        else 2
    )
    return Axis(title, low, high, tuple((tick / 100, f"{tick:.{places}f}%") for tick in ticks))


def rows_axis(top: float, in_shares: bool) -> Axis:
    """Return an upright axis of numbers of rows, or of shares of them."""
    if in_shares:
        return share_axis("share of rows", 0.0, 1.08 * top, 5)
    ticks = [tick for tick in round_ticks(0, 1.08 * top, 5) if tick == int(tick)]
    return Axis("rows", 0.0, 1.08 * top, tuple((tick, f"{int(tick):,}") for tick in ticks))
