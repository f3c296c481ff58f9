"""Cosine of the rows' outputs against row sparsity."""

import numpy as np
import plotly.graph_objects as go

from diagnostics.figures.frame import edge_label, float32, frame, histogram_axes, note, spread_labels
from diagnostics.figures.lines import points, row_line
from diagnostics.figures.marks import histogram_bars, median_lines, percentile_bands
from diagnostics.figures.row_marks import bordered_mark
from diagnostics.figures.theme import PALETTES, Theme, escape, series_styles
from diagnostics.format import count_rows
from diagnostics.similarity import CosineDistribution, CosineStatistics


def cosine_figure(statistics: CosineStatistics, theme: Theme = "light") -> go.Figure:
    """Draw percentile bands of all rows, chosen rows as lines, and where each allocation put those rows."""
    palette = PALETTES[theme]
    sentence = "Cosine between a row's dense and pruned output; 1 = direction kept."
    if statistics.dead_rows:
        sentence += f" {count_rows(statistics.dead_rows)} without output left out of the bands."
    figure = frame(
        theme,
        title="How fast does each row lose its output?",
        subtitle=sentence,
        x_title="row sparsity (share of the row's weights pruned)",
        y_title="cosine of dense and pruned output",
        plot_height=340,
        legend=True,
        right=76 if statistics.curves else 16,
    )
    x = float32(statistics.sparsity)
    percentile_bands(
        figure,
        theme,
        x,
        statistics.bands,
        "median over rows: cosine %{y:.4f}<br>at row sparsity %{x:.1%}<extra></extra>",
    )
    for position, (row, curve) in enumerate(statistics.curves.items()):
        hover = ": cosine %{y:.4f}<br>at row sparsity %{x:.1%}"
        row_line(figure, row, position, x, float32(curve), palette.ink, hover, showlegend=False)
    if statistics.curves:
        _marks(figure, statistics, theme)
    _row_labels(figure, statistics, theme)
    figure.add_vline(
        x=statistics.target, line={"color": palette.muted, "width": 1, "dash": "dot"}, layer="below"
    )
    side = "right" if statistics.target > 0.5 else "left"
    above = {"x": statistics.target, "y": 1, "yref": "paper", "xanchor": side, "yanchor": "bottom"}
    note(figure, theme, f"layer target {statistics.target:.0%}", **above)
    figure.update_xaxes(range=[0, 1], tickformat=".0%", nticks=6)
    figure.update_yaxes(range=[min(0.0, float(np.nanmin(statistics.bands, initial=0.0))), 1.02], nticks=6)
    return figure


def _marks(figure: go.Figure, statistics: CosineStatistics, theme: Theme) -> None:
    """Draw one trace of marks per allocation, so that its symbol is in the legend."""
    rows = list(statistics.curves)
    styles = series_styles([each.method for each in statistics.allocations])
    for each, style in zip(statistics.allocations, styles, strict=True):
        label, marker = escape(each.label), bordered_mark(style, PALETTES[theme].surface, 10)
        hover = f"<b>row %{{customdata}}</b> under {label}<br>row sparsity %{{x:.2%}}<br>cosine %{{y:.4f}}"
        hover += "<extra></extra>"
        points(figure, label, each.row_sparsity[rows], each.cosine[rows], hover, marker, customdata=rows)


def _row_labels(figure: go.Figure, statistics: CosineStatistics, theme: Theme) -> None:
    """Write each chosen row's number at the right edge, with a thin line to where its curve is steepest apart."""
    at = int((statistics.sparsity <= 0.94).sum()) - 1
    heights = [float(curve[at]) for curve in statistics.curves.values()]
    for row, height, label_y in zip(statistics.curves, heights, spread_labels(heights, 0.15), strict=True):
        edge_label(figure, theme, f"row {row}", float(statistics.sparsity[at]), height, label_y)


def cosine_histogram(distribution: CosineDistribution, theme: Theme = "light") -> go.Figure:
    """Draw a histogram of the cosines that each allocation leaves the rows."""
    bins, labels = distribution.histogram, distribution.labels
    styles = series_styles(list(distribution.methods))
    dead = f" {count_rows(distribution.dead_rows)} without output left out." if distribution.dead_rows else ""
    figure = frame(
        theme,
        title="What is left of the rows' outputs?",
        subtitle=f"Cosine between each row's dense and pruned output, at the row's own sparsity.{dead}",
        x_title="cosine of dense and pruned output",
        y_title="rows (count)",
        legend=True,
    )
    top = histogram_bars(figure, theme, bins, labels, styles, "cosine")
    lines = median_lines(figure, theme, bins, labels, styles, distribution.medians)
    histogram_axes(figure, theme, bins, 0, top * (1.02 + 0.1 * lines))
    return figure
