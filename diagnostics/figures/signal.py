"""Error bars of a layer's learned rows, over several draws of the calibration data."""

from collections.abc import Iterable, Sequence

import numpy as np
import plotly.graph_objects as go

from diagnostics.figures.frame import float32, frame
from diagnostics.figures.lines import series_line
from diagnostics.figures.marks import spread_band
from diagnostics.figures.row_marks import bordered_mark, mark_selected
from diagnostics.figures.theme import METHOD_STYLES, PALETTES, Theme, escape, faded
from diagnostics.format import count_rows, rate_label
from diagnostics.numeric import row_indices, spread_indices

POINTS = 2000


def row_signal_figure(
    draws: np.ndarray,
    quantity: str,
    selected_rows: Iterable[int] = (),
    theme: Theme = "light",
    form: str = ".1%",
) -> go.Figure:
    """Draw the mean of each row over draws, in ascending order, and one standard deviation either way.

    Args:
        draws: (K, D), the rows' numbers in each of K >= 2 draws; rows with NaN are left out.
        quantity: name of the number, such as "row sparsity".
        selected_rows: rows to mark.
        theme: light or dark.
        form: format of the number, as Plotly spells it.
    """
    palette, style = PALETTES[theme], METHOD_STYLES["trim"]
    finite = np.flatnonzero(np.isfinite(draws).all(axis=0))
    mean, spread = draws[:, finite].mean(axis=0), draws[:, finite].std(axis=0, ddof=1)
    order = np.argsort(mean, kind="stable")
    shown = spread_indices(len(order), POINTS) if len(order) else order
    rows, mean, spread = finite[order][shown], mean[order][shown], spread[order][shown]
    figure = frame(
        theme,
        title="Is it signal?",
        subtitle=f"{count_rows(len(finite))} by their mean over {len(draws)} draws; dotted: the layer.",
        x_title="rows, in ascending order",
        y_title=quantity,
        plot_height=330,
        legend=True,
    )
    name = "one standard deviation over draws"
    spread_band(figure, shown, mean - spread, mean + spread, faded(style.colour, 0.25), name)
    hover = f"<b>row %{{customdata[0]:.0f}}</b><br>{escape(quantity)} %{{y:{form}}} "
    hover += f"± %{{customdata[1]:{form}}}<extra></extra>"
    numbers = np.stack([rows, spread], axis=1)
    series_line(figure, "mean over draws", float32(shown), float32(mean), style, hover, customdata=numbers)
    marked = np.isin(rows, row_indices(selected_rows, draws.shape[1]))
    bars = {"type": "data", "array": float32(spread[marked]), "color": palette.ink}
    marker, x, y = bordered_mark(style, palette.ink, 9, 2), shown[marked], mean[marked]
    hover = f"<b>row %{{customdata}}</b><br>{escape(quantity)} %{{y:{form}}} ± %{{text}}"
    texts = [format(each, form) for each in spread[marked]]
    mark_selected(figure, rows[marked], x, y, marker, hover, error_y=bars, text=texts, showlegend=True)
    if len(mean):
        line = {"color": palette.muted, "width": 1.5, "dash": "dot"}
        figure.add_hline(y=float(draws[:, finite].mean()), line=line)
    figure.update_yaxes(tickformat=form)
    return figure


def rate_draws_figure(rates: Sequence[float | None], theme: Theme = "light") -> go.Figure:
    """Draw how often each learning rate was chosen; None: uniform was best."""
    style = METHOD_STYLES["trim"]
    kinds = sorted(set(rates), key=lambda rate: 0.0 if rate is None else rate)
    labels = ["none" if rate is None else rate_label(rate) for rate in kinds]
    counts = [rates.count(rate) for rate in kinds]
    figure = frame(
        theme,
        title="Is the chosen rate the same each time?",
        subtitle=f"In how many of {len(rates)} draws each learning rate was chosen; none: uniform was best.",
        x_title="learning rate",
        y_title="draws",
        plot_height=330,
    )
    figure.add_bar(
        x=labels,
        y=counts,
        width=0.5,
        marker={"color": style.colour, "opacity": 0.85},
        hovertemplate="rate %{x}: chosen in %{y} draws<extra></extra>",
        name="draws",
    )
    figure.update_xaxes(type="category")
    figure.update_yaxes(dtick=max(1, max(counts) // 6), rangemode="tozero")
    return figure
