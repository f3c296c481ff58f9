"""Gini histogram and Lorenz curves: how concentrated the score is in each row."""

from collections.abc import Iterable, Sequence

import numpy as np
import plotly.graph_objects as go

from diagnostics.concentration import GiniStatistics, LorenzCurve
from diagnostics.figures.frame import edge_label, float32, frame, histogram_axes, note, spread_labels
from diagnostics.figures.lines import reference_line
from diagnostics.figures.marks import histogram_bars, median_lines
from diagnostics.figures.row_marks import selected_ticks
from diagnostics.figures.theme import PALETTES, ROW_DASHES, Theme, escape, series_styles
from diagnostics.format import count_rows
from diagnostics.numeric import row_indices


def gini_histogram(
    statistics: GiniStatistics,
    selected_rows: Iterable[int] = (),
    theme: Theme = "light",
    *,
    names: Sequence[str] | None = None,
    title: str = "How concentrated is each row's score?",
) -> go.Figure:
    """Draw a histogram of the rows' Gini coefficients, one set of bars or an outline per score, medians marked.

    Args:
        statistics: statistics of the scores; a label is a score, or an allocation for the scores that it keeps.
        selected_rows: rows of the first score, drawn as a rug under its bars.
        theme: light or dark.
        names: names to display for the labels; None: the labels.
        title: the figure's question.
    """
    bins = statistics.histogram
    names = statistics.labels if names is None else names
    styles = series_styles(list(statistics.labels))
    medians = [summary.median for summary in statistics.summaries]
    rows = row_indices(selected_rows, len(statistics.coefficients[0]))
    figure = frame(
        theme,
        title=title,
        subtitle=_gini_sentence(statistics, names, len(rows)),
        x_title="Gini of the row's scores (0 = spread evenly)",
        y_title="rows (count)",
        legend=len(names) > 1,
    )
    top = histogram_bars(figure, theme, bins, names, styles, "Gini")
    lines = median_lines(figure, theme, bins, names, styles, medians)
    ink, first = PALETTES[theme].ink, statistics.coefficients[0]
    selected_ticks(figure, rows, first, position=0, top=top, colour=ink, hover="Gini %{x:.4f}")
    histogram_axes(figure, theme, bins, -0.09 * top if len(rows) else 0, top * (1.02 + 0.1 * lines))
    return figure


def _gini_sentence(statistics: GiniStatistics, names: Sequence[str], selected: int) -> str:
    parts = []
    for label, summary in zip(names, statistics.summaries, strict=True):
        if np.isnan(summary.median):
            parts.append(f"{escape(label)}: no row has a Gini, all scores are zero.")
            continue
        parts.append(
            f"{escape(label)}: half of {count_rows(summary.rows)} lie between "
            f"{summary.lower_quartile:.3f} and {summary.upper_quartile:.3f}."
        )
        if summary.undefined:
            parts.append(f"{count_rows(summary.undefined)} of zeros without a Gini left out.")
    if selected:
        parts.append("Ticks below the bars: selected rows.")
    return " ".join(parts)


def lorenz_figure(curves: Sequence[LorenzCurve], theme: Theme = "light") -> go.Figure:
    """Draw Lorenz curves of chosen rows against the diagonal of equality, each labelled where it bends most."""
    palette = PALETTES[theme]
    shown = [curve for curve in curves if not np.isnan(curve.gini)]
    missing = [f"row {curve.row}" for curve in curves if np.isnan(curve.gini)]
    sentence = "The further a curve hangs below the diagonal, the fewer weights hold the score. "
    sentence += "Beside each row: its Gini."
    if not curves:
        sentence = "Select rows in another view to see their curves here."
    if missing:
        sentence += f" All scores are zero in: {', '.join(missing)}."
    figure = frame(
        theme,
        title="How few weights hold a row's score?",
        subtitle=sentence,
        x_title="weights, lowest score first (share of the row's)",
        y_title="share of the row's score",
        right=108 if shown else 16,
    )
    reference_line(figure, "equal weights", [0, 1], [0, 1], palette.faint)
    note(figure, theme, "equal weights", x=0.5, y=0.5, xanchor="right", yanchor="bottom")
    # A row keeps its dash while it moves; where dashes must be shared, neighbouring curves have different ones.
    few = len(shown) <= len(ROW_DASHES)
    dashes = {curve.row: dash for curve, dash in zip(shown, ROW_DASHES, strict=False)} if few else {}
    shown.sort(key=lambda curve: curve.gini)
    middle = [float(curve.share[np.searchsorted(curve.population, 0.75)]) for curve in shown]
    label_heights = spread_labels(middle, 0.065)
    for position, curve in enumerate(shown):
        dash = dashes.get(curve.row, ROW_DASHES[position % len(ROW_DASHES)])
        figure.add_scatter(
            x=float32(curve.population),
            y=float32(curve.share),
            mode="lines",
            name=f"row {curve.row}",
            line={"color": palette.ink, "width": 1.6, "dash": dash},
            hovertemplate=(
                f"<b>row {curve.row}</b>, Gini {curve.gini:.3f}<br>the lowest-scoring %{{x:.0%}} of weights"
                "<br>hold %{y:.1%} of the row's score<extra></extra>"
            ),
        )
        label = f"row {curve.row}: {curve.gini:.3f}"
        edge_label(figure, theme, label, 0.75, middle[position], label_heights[position])
    figure.update_xaxes(range=[0, 1], tickformat=".0%", nticks=6)
    figure.update_yaxes(range=[0, 1], tickformat=".0%", nticks=6)
    return figure
