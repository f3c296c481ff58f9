"""Figures of a recovery: the loss on held-out windows while it trains, and how far the rows of a layer moved."""

import numpy as np
import plotly.graph_objects as go

from diagnostics.figures.frame import float32, frame
from diagnostics.figures.lines import points
from diagnostics.figures.marks import share_outlines
from diagnostics.figures.theme import PALETTES, Theme


def held_out_figure(
    seconds: np.ndarray, losses: np.ndarray, best: int, *, what: str, unit: str, theme: Theme = "light"
) -> go.Figure:
    """Draw a loss on the held-out windows against the time of training, and mark the weights that were kept.

    Args:
        seconds: (L,) the time of each measurement.
        losses: (L,) the measured losses.
        best: index of the kept weights' measurement.
        what: name of the loss, such as "perplexity".
        unit: its unit, such as "nats per token".
        theme: light or dark.
    """
    palette = PALETTES[theme]
    figure = frame(
        theme,
        title="What does training bring back?",
        subtitle="Windows that are not trained on; lower is better. The ring marks the weights that are the result.",
        x_title="seconds of training (with the text that the dense model writes)",
        y_title=f"{what} ({unit})",
    )
    figure.add_scatter(
        x=float32(seconds),
        y=float32(losses),
        mode="lines+markers",
        line={"color": palette.ink, "width": 2},
        marker={"size": 7},
        hovertemplate="after %{x:.3g} s: %{y:.4g}<extra></extra>",
    )
    ring = {"size": 13, "symbol": "circle-open", "color": palette.gain, "line": {"width": 3}}
    hover = "the result: %{y:.4g}<extra></extra>"
    points(figure, "the result", seconds[[best]], losses[[best]], hover, ring)
    figure.update_yaxes(tickformat=",.4~g")
    return figure


def rows_moved_figure(moved: np.ndarray, theme: Theme = "light") -> go.Figure:
    """Draw how far the kept weights of a layer's rows moved: shares of the rows, as steps.

    Args:
        moved: (D,) ‖ŵ − w‖ / ‖w‖ over each row's kept weights; NaN for a row without any.
        theme: light or dark.
    """
    figure = frame(
        theme,
        title="How far did rows move?",
        subtitle="Share of the layer's rows by how far their kept weights moved.",
        x_title="moved (share of the norm of the kept weights)",
        y_title="share of the rows",
    )
    if (finite := moved[np.isfinite(moved)]).size:
        hover = "%{y:.1%} of the rows moved by %{x:.1%}"
        share_outlines(figure, [("", finite, PALETTES[theme].ink, "solid")], hover)
    return figure
