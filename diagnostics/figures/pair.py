"""The same rows under two allocations."""

from collections.abc import Iterable

import numpy as np
import plotly.graph_objects as go

from diagnostics.arrays import row_indices, spread_indices
from diagnostics.comparison import AllocationComparison
from diagnostics.figures.frame import PERCENT, count_rows, drawn, frame, signed
from diagnostics.figures.selection import number_rows
from diagnostics.figures.theme import PALETTES, Theme, escape, series_styles

POINTS = 4000
ROWS_TRACE = "rows"


def pair_figure(
    comparison: AllocationComparison, selected_rows: Iterable[int] = (), theme: Theme = "light"
) -> go.Figure:
    """Row sparsity under the second allocation against that under the first, a point per row.

    Above the diagonal the second prunes more. The rows that moved most are always drawn. Raises ValueError where the
    rows are not the same ones.
    """
    if comparison.rows_differ is not None:
        raise ValueError(f"rows cannot be paired: {comparison.rows_differ}")
    palette = PALETTES[theme]
    first, second = comparison.first, comparison.second
    x, y = first.row_sparsity, second.row_sparsity
    names = escape(first.label), escape(second.label)
    selected = row_indices(selected_rows, len(x))
    rows = np.unique(
        np.concatenate([spread_indices(len(x), POINTS), [move.row for move in comparison.moved], selected])
    ).astype(np.int32)
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    margin = max(0.05 * (high - low), 0.005)
    ends = [low - margin, high + margin]
    figure = go.Figure()
    figure.add_scatter(
        x=ends,
        y=ends,
        mode="lines",
        line={"color": palette.muted, "width": 1, "dash": "dot"},
        hoverinfo="skip",
        name="same row sparsity",
    )
    style = series_styles([second.method])[0]
    figure.add_scatter(
        x=drawn(x[rows]),
        y=drawn(y[rows]),
        mode="markers",
        name=ROWS_TRACE,
        customdata=rows,
        marker={"color": style.colour, "size": 5, "opacity": 0.5, "symbol": style.symbol},
        hovertemplate=(
            f"<b>row %{{customdata}}</b><br>{names[0]} %{{x:.2%}}<br>{names[1]} %{{y:.2%}}<extra></extra>"
        ),
    )
    if len(selected):
        figure.add_scatter(
            x=drawn(x[selected]),
            y=drawn(y[selected]),
            mode="markers",
            name="selected rows",
            customdata=selected.astype(np.int32),
            marker={
                "color": style.colour,
                "size": 10,
                "symbol": style.symbol,
                "line": {"width": 2, "color": palette.ink},
            },
            hovertemplate="<b>row %{customdata}</b>, selected<extra></extra>",
        )
        number_rows(figure, theme, selected, x[selected], y[selected])
    sentence = f"{count_rows(len(x))}; above the line {names[1]} prunes more."
    if comparison.correlation is not None:
        sentence += f" Spearman {signed(comparison.correlation.coefficient, '.2f')}."
    frame(
        figure,
        theme,
        title="Do the same rows lose as much?",
        subtitle=sentence,
        x_title=f"row sparsity under {names[0]}",
        y_title=f"row sparsity under {names[1]}",
        plot_height=330,
    )
    figure.update_xaxes(range=ends, tickformat=PERCENT, nticks=7)
    figure.update_yaxes(range=ends, tickformat=PERCENT, nticks=7)
    return figure
