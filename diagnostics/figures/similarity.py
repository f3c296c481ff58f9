"""Cosine of the rows' outputs against row sparsity."""

import numpy as np
import plotly.graph_objects as go

from diagnostics.figures.frame import count_axis, count_rows, drawn, frame, note, spread_labels
from diagnostics.figures.lines import row_line
from diagnostics.figures.marks import histogram_bars, median_lines, percentile_bands
from diagnostics.figures.row_marks import bordered_mark
from diagnostics.figures.theme import PALETTES, Theme, escape, series_styles
from diagnostics.similarity import CosineDistribution, CosineStatistics


def cosine_figure(statistics: CosineStatistics, theme: Theme = "light") -> go.Figure:
    """Draw percentile bands of all rows, chosen rows as lines, and where each allocation put those rows."""
    palette = PALETTES[theme]
    figure = go.Figure()
    x = drawn(statistics.sparsity)
    percentile_bands(
        figure,
        theme,
        x,
        statistics.bands,
        "median over rows: cosine %{y:.4f}<br>at row sparsity %{x:.1%}<extra></extra>",
    )
    for position, curve in enumerate(statistics.curves):
        y, hover = drawn(curve.cosine), ": cosine %{y:.4f}<br>at row sparsity %{x:.1%}"
        row_line(figure, curve.row, position, x, y, palette.ink, hover, showlegend=False)
    _marks(figure, statistics, theme)
    _row_labels(figure, statistics, theme)
    figure.add_vline(
        x=statistics.target, line={"color": palette.muted, "width": 1, "dash": "dot"}, layer="below"
    )
    side = "right" if statistics.target > 0.5 else "left"
    above = {"x": statistics.target, "y": 1, "yref": "paper", "xanchor": side, "yanchor": "bottom"}
    note(figure, theme, f"layer target {statistics.target:.0%}", **above)
    sentence = "Cosine between a row's dense and pruned output; 1 = direction kept."
    if statistics.dead_rows:
        sentence += f" {count_rows(statistics.dead_rows)} without output left out of the bands."
    if not statistics.curves:
        sentence += " Select rows in another view to draw their curves."
    frame(
        figure,
        theme,
        title="How fast does each row lose its output?",
        subtitle=sentence,
        x_title="row sparsity (share of the row's weights pruned)",
        y_title="cosine of dense and pruned output",
        plot_height=340,
        legend=True,
        right=76 if statistics.curves else 16,
    )
    figure.update_xaxes(range=[0, 1], tickformat=".0%", nticks=6)
    figure.update_yaxes(range=[min(0.0, float(np.nanmin(statistics.bands, initial=0.0))), 1.02], nticks=6)
    return figure


def _marks(figure: go.Figure, statistics: CosineStatistics, theme: Theme) -> None:
    """Draw one trace of marks per allocation, so that its symbol is in the legend."""
    if not statistics.curves:
        return
    first = statistics.curves[0].marks
    styles = series_styles([mark.method for mark in first])
    for position, (allocation, style) in enumerate(zip(first, styles, strict=True)):
        marks = [(curve.row, curve.marks[position]) for curve in statistics.curves]
        figure.add_scatter(
            x=drawn([mark.row_sparsity for _, mark in marks]),
            y=drawn([mark.cosine for _, mark in marks]),
            mode="markers",
            name=escape(allocation.label),
            customdata=[row for row, _ in marks],
            marker=bordered_mark(style, PALETTES[theme].surface, 10),
            hovertemplate=(
                f"<b>row %{{customdata}}</b> under {escape(allocation.label)}"
                "<br>row sparsity %{x:.2%}<br>cosine %{y:.4f}<extra></extra>"
            ),
        )


def _row_labels(figure: go.Figure, statistics: CosineStatistics, theme: Theme) -> None:
    """Write each chosen row's number at the right edge, with a thin line to where its curve is steepest apart."""
    at = int((statistics.sparsity <= 0.94).sum()) - 1
    heights = [float(curve.cosine[at]) for curve in statistics.curves]
    for curve, height, place in zip(statistics.curves, heights, spread_labels(heights, 0.15), strict=True):
        figure.add_annotation(
            x=float(statistics.sparsity[at]),
            y=height,
            ax=1.005,
            ay=place,
            axref="x",
            ayref="y",
            text=f"row {curve.row}",
            xanchor="left",
            showarrow=True,
            arrowhead=0,
            arrowwidth=0.8,
            arrowcolor=PALETTES[theme].faint,
        )


def cosine_histogram(distribution: CosineDistribution, theme: Theme = "light") -> go.Figure:
    """Draw a histogram of the cosines that each allocation leaves the rows."""
    figure = go.Figure()
    bins, labels = distribution.histogram, distribution.labels
    styles = series_styles(list(distribution.methods))
    top = histogram_bars(figure, theme, bins, labels, styles, "cosine")
    lines = median_lines(figure, theme, bins, labels, styles, distribution.medians)
    dead = f" {count_rows(distribution.dead_rows)} without output left out." if distribution.dead_rows else ""
    frame(
        figure,
        theme,
        title="What is left of the rows' outputs?",
        subtitle=f"Cosine between each row's dense and pruned output, at the row's own sparsity.{dead}",
        x_title="cosine of dense and pruned output",
        y_title="rows (count)",
        legend=True,
    )
    margin = 0.04 * (bins.edges[-1] - bins.edges[0])
    figure.update_xaxes(range=[bins.edges[0] - margin, bins.edges[-1] + margin], nticks=8)
    count_axis(figure, 0, top * (1.02 + 0.1 * lines))
    return figure
