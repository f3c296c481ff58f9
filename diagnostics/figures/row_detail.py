"""The row inspector: sorted scores with their borders, paths through the iterations, and prices of weights."""

import numpy as np
import plotly.graph_objects as go

from diagnostics.figures.frame import PERCENT, float32, frame, note, spread_labels
from diagnostics.figures.iterations import ITERATION
from diagnostics.figures.lines import points, row_line, series_line
from diagnostics.figures.row_marks import bordered_mark
from diagnostics.figures.theme import PALETTES, Theme, escape, series_styles
from diagnostics.row_detail import RowPaths, RowPrices, RowScores


def row_scores_figure(scores: RowScores, theme: Theme = "light") -> go.Figure:
    """Draw one row's scores in ascending order; left of an allocation's border, weights are pruned."""
    palette = PALETTES[theme]
    figure = frame(
        theme,
        title=f"Which weights does row {scores.row} lose?",
        subtitle=_border_sentence(scores),
        x_title="weights, lowest score first (share of the row's)",
        y_title="score (in units of the score)",
        plot_height=340,  # as for the cosines next to it
    )
    figure.add_scatter(
        x=float32(scores.weight_fraction),
        y=float32(scores.scores),
        mode="lines",
        name=f"row {scores.row}",
        line={"color": palette.ink, "width": 1.8},
        fill="tozeroy",
        fillcolor=palette.band[0],
        hovertemplate="score %{y:.4g}<br>%{x:.1%} of the row's weights score lower<extra></extra>",
    )
    top = float(scores.scores[-1]) or 1.0
    styles = series_styles([border.method for border in scores.borders])
    borders = sorted(zip(scores.borders, styles, strict=True), key=lambda pair: pair[0].row_sparsity)
    for position, (border, style) in enumerate(borders):
        label = escape(border.label)
        # Labels are left of their lines and the leftmost line is the shortest, so that no line crosses a label.
        height = top * (1 - 0.1 * (len(borders) - 1 - position))
        hover = (
            f"<b>{label}</b> prunes {border.pruned:,} of {scores.columns:,} weights"
            f"<br>row sparsity {border.row_sparsity:.2%}<extra></extra>"
        )
        series_line(figure, label, float32([border.row_sparsity] * 2), float32([0, height]), style, hover)
        figure.add_annotation(
            x=border.row_sparsity,
            y=height,
            text=f"{label} {border.row_sparsity:.1%}",
            showarrow=False,
            xanchor="right",
            yanchor="top",
            xshift=-6,
        )
    figure.update_xaxes(range=[0, 1.005], tickformat=".0%", nticks=6)
    figure.update_yaxes(range=[0, 1.05 * top], nticks=6)
    return figure


def _border_sentence(scores: RowScores) -> str:
    parts = [
        f"{escape(border.label)} removes {border.row_sparsity:.1%} of the row's weights and with them "
        f"{border.score_share:.1%} of its score."
        for border in scores.borders
        if not np.isnan(border.score_share)
    ]
    if scores.borders and not parts:
        return "All scores of this row are zero: its order is that of the columns."
    return "Left of a border, weights are pruned. " + " ".join(parts)


def row_paths_figure(paths: RowPaths, theme: Theme = "light") -> go.Figure:
    """Draw chosen rows' sparsities x through the iterations, and the exact sparsity each ended with."""
    palette = PALETTES[theme]
    kept = f"kept iteration {paths.kept_iteration}" if paths.kept_iteration else "stayed uniform"
    figure = frame(
        theme,
        title="How did the search move these rows?",
        subtitle=f"η = {paths.learning_rate:+g}; the layer {kept}. Dashed: target layer sparsity T = "
        f"{paths.target:.0%}. Marks: the exact row sparsity.",
        x_title=ITERATION,
        y_title="x, the search's row sparsity (share)",
        right=72,
    )
    iterations = np.arange(paths.x.shape[1])
    figure.add_vline(
        x=paths.kept_iteration, line={"color": palette.muted, "width": 1, "dash": "dot"}, layer="below"
    )
    target_line = {"color": palette.muted, "width": 1.5, "dash": "dash"}
    figure.add_hline(y=paths.target, line=target_line, layer="below")
    trim = series_styles(["trim"])[0]
    for position, row in enumerate(paths.rows.tolist()):
        x, hover = float32(paths.x[position]), ", iteration %{x}<br>x = %{y:.2%}"
        row_line(figure, row, position, iterations, x, palette.ink, hover, marker={"size": 4})
    ends, marker = [paths.kept_iteration] * len(paths.rows), bordered_mark(trim, palette.surface, 11)
    hover = "<b>row %{customdata}</b> keeps row sparsity %{y:.2%}<extra></extra>"
    rows = paths.rows.astype(np.int32)
    points(figure, "row sparsity kept", ends, paths.row_sparsity, hover, marker, customdata=rows)
    low = min(float(paths.x.min()), float(paths.row_sparsity.min()), paths.target)
    high = max(float(paths.x.max()), float(paths.row_sparsity.max()), paths.target)
    margin = max(0.06 * (high - low), 0.005)
    heights = spread_labels(paths.x[:, -1].tolist(), 0.07 * (high - low + 2 * margin))
    for row, height in zip(paths.rows.tolist(), heights, strict=True):
        figure.add_annotation(
            x=1, xref="paper", y=height, text=f"row {row}", xanchor="left", xshift=6, showarrow=False
        )
    if low - margin < paths.cap < high + margin:
        figure.add_hline(y=paths.cap, line={"color": palette.loss, "width": 1}, layer="below")
        at_the_line = {"x": 0, "xref": "paper", "y": paths.cap, "xanchor": "left", "yanchor": "bottom"}
        note(figure, theme, f"cap {paths.cap:.0%}", **at_the_line)
    figure.update_xaxes(range=[-0.2, iterations[-1] + 0.2], dtick=1 if len(iterations) <= 21 else None)
    figure.update_yaxes(range=[low - margin, high + margin], tickformat=PERCENT, nticks=6)
    return figure


PRICE_DECADES = 4.5  # below the highest price that is drawn: cheaper weights were pruned long before


def row_prices_figure(prices: RowPrices, cost: str, theme: Theme = "light") -> go.Figure:
    """Draw the cost of each further weight of a row, and the price up to which all rows of the layer lose weights.

    Args:
        prices: the prices of the row's weights.
        cost: the unit of the prices, "output error" or "loss".
        theme: light or dark.
    """
    palette = PALETTES[theme]
    optimal = series_styles(["optimal"])[0]
    sparsity = prices.pruned / prices.columns
    figure = frame(
        theme,
        title=f"What does row {prices.row} ask for its weights?",
        subtitle=f"Every row of the layer loses weights up to one price (dashed). Row {prices.row} has "
        f"{sparsity:.1%} that cost no more (mark).",
        x_title="weights, lowest score first (share of the row's)",
        y_title=f"price ({cost})",
    )
    top = max(float(prices.prices[-1]), prices.common) or 1.0
    floor = top * 10**-PRICE_DECADES
    steps = np.maximum(np.append(prices.prices, prices.prices[-1]), floor)
    figure.add_scatter(
        x=float32(prices.row_sparsity),
        y=float32(steps),
        customdata=np.append(prices.prices, prices.prices[-1]),
        mode="lines",
        name=f"row {prices.row}",
        line={"color": palette.ink, "width": 1.8, "shape": "hv"},
        hovertemplate="from %{x:.1%} of the row on<br>a weight costs %{customdata:.3g}<extra></extra>",
    )
    if prices.common > floor:
        figure.add_scatter(
            x=[0, 1],
            y=float32([prices.common] * 2),
            mode="lines",
            name="price of the layer",
            line={"color": palette.muted, "width": 1.5, "dash": "dash"},
            hovertemplate=f"λ = {prices.common:.3g}, for every row of the layer<extra></extra>",
        )
        y = np.log10(prices.common)
        note(figure, theme, "price of the layer", x=0.01, y=y, xanchor="left", yanchor="bottom")
    hover = f"<b>optimal</b> prunes {prices.pruned:,} of {prices.columns:,} weights"
    hover += f"<br>row sparsity {sparsity:.2%}<extra></extra>"
    marker = bordered_mark(optimal, palette.surface, 11)
    points(figure, "optimal", [sparsity], [max(prices.common, floor)], hover, marker)
    figure.update_xaxes(range=[0, 1.005], tickformat=".0%", nticks=6)
    figure.update_yaxes(
        type="log", range=[np.log10(floor), np.log10(top) + 0.15], nticks=6, exponentformat="power"
    )
    return figure
