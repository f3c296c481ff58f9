"""Figures of the gap between an allocation and the optimal one: over targets, and row by row."""

from collections.abc import Iterable

import numpy as np
import plotly.graph_objects as go

from diagnostics.allocation import RowScatter
from diagnostics.figures.frame import float32, frame, log_axis, signed
from diagnostics.figures.lines import points, series_line
from diagnostics.figures.marks import thinned_text
from diagnostics.figures.row_marks import number_rows, ring_rows
from diagnostics.figures.theme import PALETTES, Theme, escape, series_styles
from diagnostics.format import count_rows
from diagnostics.gap import GapCurve
from diagnostics.learning_rate import LAYER_UNITS
from diagnostics.numeric import row_indices

TARGET = "layer sparsity (share of the layer's weights pruned)"
_QUANTITIES = {
    "output_norm": ("size of the row's output ‖Yᵢ‖ (log scale)", "log"),
    "gini": ("Gini of the row's scores (0 = spread evenly)", "linear"),
    "sensitivity": ("row's sensitivity fᵢ, mean (∂loss/∂yᵢ)² (log scale)", "log"),
}


def _unit(curve: GapCurve) -> str:
    return escape(LAYER_UNITS.get(curve.measure, curve.measure))


def gap_quality_figure(curve: GapCurve, theme: Theme = "light") -> go.Figure:
    """Draw layer quality against the target, a line for each of uniform, TRIM and optimal."""
    figure = _over_targets(
        theme,
        title="What does TRIM leave to gain?",
        subtitle="Layer quality at exact counts, by who set the rows' sparsities.",
        y_title=f"layer quality ({_unit(curve)})",
    )
    # Uniform's dashes are drawn after TRIM's line, so that both are visible where they coincide.
    _line(figure, curve, "trim", "TRIM", curve.reached, "layer quality %{y:.5g}")
    _line(figure, curve, "uniform", "Uniform", curve.uniform, "layer quality %{y:.5g}")
    _line(figure, curve, "optimal", "Optimal", curve.best, "layer quality %{y:.5g}")
    figure.data[1].legendrank = 1
    return figure


def gap_loss_figure(curve: GapCurve, theme: Theme = "light") -> go.Figure:
    """Draw the loss that the optimum minimises, relative to uniform's, against the target."""
    figure = _over_targets(
        theme,
        title="How much of uniform's error is left?",
        subtitle="The error that the optimum minimises, each row's by its weight, as a share of uniform's.",
        y_title="error (share of uniform's)",
        tickformat=".0~%",
    )
    _line(figure, curve, "trim", "TRIM", curve.reached_loss, "%{y:.1%} of uniform's error")
    _line(figure, curve, "optimal", "Optimal", curve.best_loss, "%{y:.1%} of uniform's error")
    (uniform,) = series_styles(["uniform"])
    figure.add_hline(y=1, line={"color": uniform.colour, "width": 2, "dash": uniform.dash}, layer="below")
    figure.add_annotation(
        x=0, xref="paper", y=1, text="Uniform", xanchor="left", yanchor="bottom", yshift=6, showarrow=False
    )
    return figure


def gap_share_figure(curve: GapCurve, theme: Theme = "light") -> go.Figure:
    """Draw the captured share of the layer quality, and of the loss that the optimum minimises, against the target."""
    palette = PALETTES[theme]
    figure = _over_targets(
        theme,
        title="How much of what is possible does TRIM capture?",
        subtitle="Share of the way from uniform to optimal: 0% is uniform, 100% the optimum.",
        y_title="share captured by TRIM",
        tickformat=".2~%",
    )
    of_quality = f"of the layer quality ({_unit(curve)})"
    _line(figure, curve, "trim", of_quality, curve.captured, "TRIM captures %{y:.1%}")
    name = "of the error that the optimum minimises"
    _line(figure, curve, "trim", name, curve.loss_captured, "TRIM captures %{y:.1%}")
    figure.data[1].update(
        line={"color": palette.muted, "dash": "dot"}, marker={"symbol": "circle-open", "color": palette.muted}
    )
    figure.add_hline(y=0, line={"color": palette.faint, "width": 1}, layer="below")
    return figure


def _line(figure: go.Figure, curve: GapCurve, method: str, name: str, values: np.ndarray, what: str) -> None:
    (style,) = series_styles([method])
    hover = f"<b>{name}</b>: {what}<br>at layer sparsity %{{x:.0%}}<extra></extra>"
    # In float64, because qualities may differ in the sixth digit only.
    series_line(figure, name, float32(curve.targets), values, style, hover, marker=7, legendrank=2)


def _over_targets(
    theme: Theme, *, title: str, subtitle: str, y_title: str, tickformat: str | None = None
) -> go.Figure:
    figure = frame(theme, title=title, subtitle=subtitle, x_title=TARGET, y_title=y_title, legend=True)
    figure.update_xaxes(tickformat=".0%", nticks=8)
    figure.update_yaxes(tickformat=tickformat, nticks=6)
    return figure


def gap_scatter_figure(
    scatter: RowScatter, selected_rows: Iterable[int] = (), theme: Theme = "light"
) -> go.Figure:
    """Draw a point for each row: above 0 the allocation prunes it more than the optimum does, below 0 less."""
    palette = PALETTES[theme]
    label = escape(scatter.allocation.label)
    axis, scale = _QUANTITIES[scatter.quantity]
    heights = 100 * scatter.heights
    hover = f"<b>row %{{customdata}}</b>: %{{y:+.1f}} percentage points of row sparsity, {label} less optimal"
    hover += "<br>%{xaxis.title.text}: %{x:.4g}<extra></extra>"
    figure = frame(
        theme,
        title=f"Which rows does {label} prune too much?",
        subtitle=_sentence(scatter),
        x_title=axis,
        y_title=f"row sparsity, {label} less optimal<br>(percentage points)",
        legend=True,
    )
    for name, side, colour, symbol in (
        ("too much", scatter.heights > 0, palette.loss, "triangle-up"),
        ("too little", scatter.heights < 0, palette.gain, "triangle-down"),
        ("as much", scatter.heights == 0, palette.muted, "circle"),
    ):
        if side.any():
            marker = {"color": colour, "size": 6, "opacity": 0.55, "symbol": symbol}
            rows, x, y = scatter.rows[side].astype(np.int32), scatter.values[side], heights[side]
            points(figure, name, x, y, hover, marker, customdata=rows)
    shown = np.isin(scatter.rows, row_indices(selected_rows, len(scatter.allocation.counts)))
    if scale == "log":
        shown &= scatter.values > 0
    rows, x, y = scatter.rows[shown], scatter.values[shown], heights[shown]
    ring_rows(figure, theme, rows, x, y, "<b>row %{customdata}</b>: %{y:+.1f} percentage points")
    number_rows(figure, theme, rows, x, y, log_x=scale == "log")
    figure.add_hline(y=0, line={"color": palette.ink, "width": 1}, layer="below")
    figure.update_xaxes(nticks=8)
    if scale == "log":
        log_axis(figure, scatter.values[scatter.values > 0])
    figure.update_yaxes(tickformat=".3~g", nticks=7)
    return figure


def _sentence(scatter: RowScatter) -> str:
    correlation = scatter.correlation
    sentence = "Above 0 the row loses more weights than under the optimum, below 0 fewer."
    if correlation is not None:
        sentence += f" Spearman {signed(correlation.coefficient, '.2f')} over {count_rows(correlation.rows)}."
    return sentence + thinned_text(scatter)
