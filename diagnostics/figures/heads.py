"""A number of the rows or columns by attention head, or by expert."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import plotly.graph_objects as go

from diagnostics.figures.distributions import RowQuantity
from diagnostics.figures.frame import float32, frame
from diagnostics.figures.theme import PALETTES, Style, Theme, escape
from diagnostics.heads import HeadNumbers


def heads_figure(
    found: Sequence[HeadNumbers],
    styles: Sequence[Style],
    quantity: RowQuantity,
    theme: Theme = "light",
    *,
    of: Literal["row", "column"] = "row",
    groups: Literal["head", "expert"] = "head",
    marked: int | None = None,
) -> go.Figure:
    """Draw the median of each head's rows, with the middle half of the rows as a bar through it.

    Args:
        found: the numbers of each allocation.
        styles: the style of each.
        quantity: what the numbers are.
        theme: light or dark.
        of: whether heads are groups of rows or of columns.
        groups: name of the groups of rows.
        marked: index of the group that a line across the chart marks.
    """
    figure = frame(
        theme,
        title="Do attention heads differ?" if groups == "head" else "Do the experts of the block differ?",
        subtitle=f"Median of each {groups}'s {of}s, and the middle half of them."
        + ("" if marked is None else f" Dotted: {groups} {escape(found[0].names[marked])}."),
        x_title=groups,
        y_title=quantity.axis.replace(" (", "<br>("),
        legend=len(found) > 1,
    )
    beside = 0.7 / len(found)
    for index, (each, style) in enumerate(zip(found, styles, strict=True)):
        label = escape(each.label)
        low, middle, high = each.quartiles.T
        figure.add_scatter(
            x=float32(np.arange(len(middle)) + beside * (index - (len(found) - 1) / 2)),
            y=float32(middle),
            error_y={
                "type": "data",
                "symmetric": False,
                "array": float32(high - middle),
                "arrayminus": float32(middle - low),
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
    if marked is not None:
        figure.add_vline(
            x=marked, line={"color": PALETTES[theme].muted, "width": 1, "dash": "dot"}, layer="below"
        )
    heads = max(len(each.names) for each in found)
    figure.update_xaxes(range=[-0.6, heads - 0.4], tickformat="d", dtick=max(1, round(heads / 12)))
    figure.update_yaxes(tickformat=quantity.tick_format, nticks=6)
    return figure
