"""A number of the rows or columns by attention head."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import plotly.graph_objects as go

from diagnostics.figures.distributions import RowQuantity
from diagnostics.figures.frame import drawn, frame
from diagnostics.figures.theme import Style, Theme, escape
from diagnostics.heads import HeadNumbers


def heads_figure(
    found: Sequence[HeadNumbers],
    styles: Sequence[Style],
    quantity: RowQuantity,
    theme: Theme = "light",
    *,
    of: Literal["row", "column"] = "row",
) -> go.Figure:
    """Draw the median of each head's rows, with the middle half of the rows as a bar through it."""
    figure = go.Figure()
    beside = 0.7 / len(found)
    for place, (each, style) in enumerate(zip(found, styles, strict=True)):
        label = escape(each.label)
        low, middle, high = each.quartiles.T
        figure.add_scatter(
            x=drawn(np.arange(len(middle)) + beside * (place - (len(found) - 1) / 2)),
            y=drawn(middle),
            error_y={
                "type": "data",
                "symmetric": False,
                "array": drawn(high - middle),
                "arrayminus": drawn(middle - low),
                "width": 0,
                "thickness": 1.5,
                "color": style.colour,
            },
            mode="markers",
            name=label,
            text=[escape(name) for name in each.names],
            marker={"color": style.colour, "symbol": style.symbol, "size": 7},
            hovertemplate=f"<b>%{{text}}</b>, median %{{y}}<extra>{label}</extra>",
        )
    frame(
        figure,
        theme,
        title="Do attention heads differ?",
        subtitle=f"Median of each head's {of}s, and the middle half of them.",
        x_title="head",
        y_title=quantity.axis.replace(" (", "<br>("),
        legend=len(found) > 1,
    )
    heads = max(len(each.names) for each in found)
    figure.update_xaxes(range=[-0.6, heads - 0.4], tickformat="d", dtick=max(1, round(heads / 12)))
    figure.update_yaxes(tickformat=quantity.tick_format, nticks=6)
    return figure
