"""Rows as points: one quantity against another, within a layer or between two."""

import textwrap
from collections.abc import Iterable, Sequence

import numpy as np
import plotly.graph_objects as go

from diagnostics.allocation import SCATTER_POINTS, RowScatter
from diagnostics.comparison import AllocationComparison
from diagnostics.figures.allocation import ROW_SPARSITY_UPRIGHT
from diagnostics.figures.frame import PERCENT, frame, note, signed, slot_letter
from diagnostics.figures.lines import reference_line, row_points
from diagnostics.figures.marks import thinned_text
from diagnostics.figures.row_marks import mark_rows, number_rows
from diagnostics.figures.theme import PALETTES, Style, Theme, escape, series_styles
from diagnostics.format import count_rows
from diagnostics.numeric import row_indices, spread_indices

_QUANTITIES = {
    "gini": (
        "Are concentrated rows pruned more?",
        "Gini of the row's scores (0 = spread evenly)",
    ),
    "weight_norm": (
        "Are rows with small weights pruned more?",
        "norm of the row's weights ‖Wᵢ‖ (in units of the weights)",
    ),
    "cosine": (
        "Are rows that keep their output pruned more?",
        "cosine of the row's output under uniform",
    ),
    "row_error_masked": (
        "Are rows that lose more by the mask pruned more?",
        "output error of the mask alone (share of the output, squared)",
    ),
    "row_error": (
        "Are rows that lose more pruned more?",
        "output error with changed weights (share of the output, squared)",
    ),
    "row_moved": (
        "Do the kept weights of sparser rows move further?",
        "move of the row's kept weights (share of their norm)",
    ),
}


def row_scatter_figure(
    scatters: Sequence[RowScatter], selected_rows: Iterable[int] = (), theme: Theme = "light"
) -> go.Figure:
    """Draw row sparsities of allocations against a property of the rows; correlations in the subtitle."""
    first, several = scatters[0], len(scatters) > 1
    question, axis = _QUANTITIES[first.quantity]
    rows = row_indices(selected_rows, len(first.allocation.counts))
    styles = series_styles([scatter.allocation.method for scatter in scatters])
    figure = frame(
        theme,
        title=question,
        subtitle=" ".join(
            (f"{escape(each.allocation.label)}: " if several else "") + _scatter_sentence(each)
            for each in scatters
        ),
        x_title=axis,
        y_title=ROW_SPARSITY_UPRIGHT,
        legend=several,
    )
    for scatter, style in zip(scatters, styles, strict=True):
        label = escape(scatter.allocation.label)
        hover = f"<b>row %{{customdata}}</b> under {label}<br>row sparsity %{{y:.2%}}"
        hover += "<br>%{xaxis.title.text}: %{x:.4g}<extra></extra>"
        row_points(figure, label, scatter.rows, scatter.values, scatter.heights, style, hover)
        shown = np.isin(scatter.rows, rows)
        x, y = scatter.values[shown], scatter.heights[shown]
        mark_rows(figure, theme, scatter.rows[shown], x, y, style, label)
    # Numbers on the last allocation only, as on the curves of sorted rows.
    number_rows(figure, theme, scatter.rows[shown], x, y)
    reference = first.allocation.layer_sparsity
    figure.add_hline(
        y=reference, line={"color": PALETTES[theme].muted, "width": 1, "dash": "dot"}, layer="below"
    )
    at_the_line = {"x": 1, "xref": "paper", "y": reference, "xanchor": "right", "yanchor": "bottom"}
    note(figure, theme, f"layer sparsity {reference:.1%}", **at_the_line, bgcolor=PALETTES[theme].veil)
    figure.update_yaxes(tickformat=PERCENT, nticks=6)
    return figure


def _scatter_sentence(scatter: RowScatter) -> str:
    correlation = scatter.correlation
    if correlation is None:
        sentence = "No rank correlation: one of the two does not vary over the rows."
    else:
        p_value = "p < 0.001" if correlation.p_value < 0.001 else f"p = {correlation.p_value:.3f}"
        sentence = (
            f"Spearman rank correlation {signed(correlation.coefficient, '.2f')} "
            f"({p_value}, {count_rows(correlation.rows)})."
        )
    sentence += thinned_text(scatter)
    left_out = len(scatter.allocation.counts) - scatter.total_rows
    if left_out:
        sentence += f" {count_rows(left_out)} without this number left out."
    return sentence


ROWS_TRACE = "rows"
_AXIS_CHARACTERS = 48


def _axis_title(label: str) -> str:
    """Return the title of the axis of row sparsities under an allocation, in lines that fit along it."""
    return "<br>".join(map(escape, textwrap.wrap(f"row sparsity under {label}", _AXIS_CHARACTERS)))


def pair_figure(
    comparison: AllocationComparison,
    selected_rows: Iterable[int] = (),
    theme: Theme = "light",
    style: Style | None = None,
) -> go.Figure:
    """Draw row sparsity under the second allocation against that under the first, a point per row.

    Above the diagonal the second prunes more. The rows that moved most are always drawn.

    Raises:
        ValueError: the rows are not the same.
    """
    if comparison.why_unpaired is not None:
        raise ValueError(f"rows cannot be paired: {comparison.why_unpaired}")
    first, second = comparison.first, comparison.second
    x, y = first.row_sparsity, second.row_sparsity
    names = escape(first.label), escape(second.label)
    selected = row_indices(selected_rows, len(x))
    rows = np.unique(
        np.concatenate(
            [spread_indices(len(x), SCATTER_POINTS), [move.row for move in comparison.moved], selected]
        )
    ).astype(np.int64)
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    margin = max(0.05 * (high - low), 0.005)
    ends = [low - margin, high + margin]
    sentence = f"{count_rows(len(x))}; above the line {slot_letter(names[1])} prunes more."
    # The rows of uniform differ by rounding alone.
    if comparison.correlation is not None and "uniform" not in (first.method, second.method):
        sentence += f" Spearman {signed(comparison.correlation.coefficient, '.2f')}."
    figure = frame(
        theme,
        title="Do the same rows lose as much?",
        subtitle=sentence,
        x_title=_axis_title(first.label),
        y_title=_axis_title(second.label),
        plot_height=330,
    )
    reference_line(figure, "same row sparsity", ends, ends, PALETTES[theme].muted)
    style = style or series_styles([second.method])[0]
    hover = f"<b>row %{{customdata}}</b><br>{names[0]} %{{x:.2%}}<br>{names[1]} %{{y:.2%}}<extra></extra>"
    row_points(figure, ROWS_TRACE, rows, x[rows], y[rows], style, hover)
    mark_rows(figure, theme, selected, x[selected], y[selected], style)
    number_rows(figure, theme, selected, x[selected], y[selected])
    figure.update_xaxes(range=ends, tickformat=PERCENT, nticks=7)
    figure.update_yaxes(range=ends, tickformat=PERCENT, nticks=7)
    return figure
