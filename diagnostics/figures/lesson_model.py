"""Lessons on a stored run: the rows of its layers, and perplexities."""

import math
from collections.abc import Sequence

import numpy as np

from diagnostics.figures.drawing import HEIGHT, WIDTH, Drawing, Plot
from diagnostics.figures.frame import signed
from diagnostics.figures.theme import METHOD_STYLES
from diagnostics.format import rate_label
from diagnostics.lessons import PerplexityLesson, RowsLesson


def rows_drawing(lessons: Sequence[RowsLesson]) -> Drawing:
    """Draw row sparsity against Gini, one point per row, a layer in each picture."""
    drawing = Drawing(len(lessons))
    gini, sparsity = (
        np.concatenate([getattr(each, name) for each in lessons]) for name in ("gini", "row_sparsity")
    )
    x_range, y_range = _span(gini), _span(sparsity)
    plot = Plot(drawing, 60, 62, WIDTH - 60 - 24, HEIGHT - 62 - 42, x_range, y_range)
    plot.axes(
        "Gini of the row's scores",
        "row sparsity",
        {value: f"{value:g}" for value in _ticks(x_range)},
        {value: f"{value:.0%}" for value in _ticks(y_range)},
    )
    level = plot.across("stroke uniform dash", np.array([lesson.sparsity for lesson in lessons]))
    drawing.text(plot.right - 4, level - 6, "uniform", "plate small end")
    points = max(len(lesson.gini) for lesson in lessons)
    x, y = np.full((2, len(lessons), points), np.nan)
    for frame, lesson in enumerate(lessons):
        x[frame, : len(lesson.gini)], y[frame, : len(lesson.gini)] = lesson.gini, lesson.row_sparsity
    there = ~np.isnan(x)
    across, up = plot.x(np.where(there, x, x_range[0])), plot.y(np.where(there, y, y_range[0]))
    for point in range(points):
        drawing.circle("fill trim dim", across[:, point], up[:, point], 4.0 * there[:, point])
    drawing.text(WIDTH - 16, 22, [lesson.layer for lesson in lessons], "ink strong", "end")
    rates = ["stayed uniform" if each.rate is None else f"η = {rate_label(each.rate)}" for each in lessons]
    orders = ["–" if each.spearman is None else signed(each.spearman, ".2f") for each in lessons]
    drawing.text(
        WIDTH - 16,
        44,
        [f"{rate}; Spearman {order}" for rate, order in zip(rates, orders, strict=True)],
        "ink",
        "end",
    )
    return drawing


def _span(shares: np.ndarray) -> tuple[float, float]:
    """Return the tenths around all shares."""
    low, high = math.floor(10 * float(shares.min()) - 0.2), math.ceil(10 * float(shares.max()) + 0.2)
    return max(low, 0) / 10, min(max(high, low + 2), 10) / 10


def _ticks(span: tuple[float, float]) -> list[float]:
    """Return the tenths of a span."""
    return [tenth / 10 for tenth in range(round(10 * span[0]), round(10 * span[1]) + 1)]


def perplexity_drawing(lessons: Sequence[PerplexityLesson]) -> Drawing:
    """Draw perplexity of the dense model and of each method, on a scale that grows tenfold."""
    drawing = Drawing(len(lessons))
    methods = len(lessons[0].methods)
    values = np.array([[value for _, _, value in lesson.methods] for lesson in lessons])
    decades = np.arange(0, math.ceil(math.log10(values.max()) + 0.25) + 1)
    plot = Plot(drawing, 164, 34, WIDTH - 164 - 60, HEIGHT - 34 - 48, (0, float(decades[-1])), (methods, 0))
    for decade in decades.tolist():
        across = float(plot.x(decade))
        drawing.line("stroke grid thin", across, plot.top, across, plot.bottom)
        drawing.text(across, plot.bottom + 16, f"{10**decade:,}", "muted small", "middle")
    drawing.text(
        plot.right,
        plot.bottom + 36,
        "perplexity; lower is better",
        "muted small",
        "end",
    )
    drawing.text(164, 20, [f"model sparsity {lesson.sparsity:.0%}" for lesson in lessons], "ink strong")
    width = plot.x(np.log10(values)) - plot.left
    for index, (label, method, _) in enumerate(lessons[0].methods):
        middle = float(plot.y(index + 0.5))
        height = min(0.6 * plot.height / methods, 44)
        css = method if method in METHOD_STYLES else "muted"
        drawing.text(156, middle + 6, label, "ink", "end")
        drawing.rect(f"fill {css}", plot.left, middle - height / 2, width[:, index], height)
        written = [f"{value:,.0f}" if value >= 100 else f"{value:.1f}" for value in values[:, index]]
        drawing.text(plot.left + width[:, index] + 6, middle + 6, written, "ink strong")
    return drawing
