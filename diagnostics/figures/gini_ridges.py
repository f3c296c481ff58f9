"""Gini histograms of many layers, one above the other (figure 4 of arXiv 2505.16743)."""

import numpy as np
import plotly.graph_objects as go

from diagnostics.concentration import GiniStatistics
from diagnostics.figures.frame import drawn, frame
from diagnostics.figures.theme import PALETTES, SCORE_STYLES, Theme, escape

_RIDGE = 18  # pixels from one histogram's ground to the next
_HEIGHT = 1.8  # of the tallest, in ridges


def gini_ridges_figure(statistics: GiniStatistics, score: str, theme: Theme = "light") -> go.Figure:
    """A histogram per label, the first at the top, each as high as its own share of rows; a tick at its median."""
    palette = PALETTES[theme]
    figure = go.Figure()
    bins = statistics.histogram
    shares = bins.counts / np.maximum(bins.counts.sum(axis=1, keepdims=True), 1)
    tallest = float(shares.max()) or 1.0
    edges = np.repeat(bins.edges, 2)
    colour = SCORE_STYLES[score].colour if score in SCORE_STYLES else palette.muted
    labels = statistics.labels
    for place, (label, share, summary) in enumerate(zip(labels, shares, statistics.summaries, strict=True)):
        ground = float(len(labels) - 1 - place)
        steps = np.concatenate([[0.0], np.repeat(share, 2), [0.0]])
        figure.add_scatter(
            x=[bins.edges[0], bins.edges[-1]],
            y=[ground, ground],
            mode="lines",
            line={"width": 0.5, "color": palette.faint},
            hoverinfo="skip",
            name=f"ground of {escape(label)}",
        )
        figure.add_scatter(
            x=drawn(edges),
            y=drawn(ground + _HEIGHT * steps / tallest),
            mode="lines",
            fill="tonexty",
            fillcolor=_faded(colour),
            line={"width": 1, "color": colour},
            name=escape(label),
            hoverinfo="skip",
        )
        if not np.isnan(summary.median):
            figure.add_scatter(
                x=[summary.median],
                y=[ground + 0.22],
                mode="markers",
                marker={"symbol": "line-ns", "size": 9, "line": {"width": 2, "color": palette.ink}},
                name=f"median of {escape(label)}",
                hovertemplate=f"<b>{escape(label)}</b><br>median Gini %{{x:.3f}}<extra></extra>",
            )
    frame(
        figure,
        theme,
        title="Are the rows alike in every block?",
        subtitle="Gini histogram of each layer's rows, first block at the top; ticks at the medians.",
        x_title="Gini of the scores (0 even, 1 one weight)",
        y_title="layer",
        plot_height=_RIDGE * (len(labels) + 2),
    )
    every = max(1, round(len(labels) / 15))
    shown = range(0, len(labels), every)
    figure.update_yaxes(
        tickvals=[len(labels) - 1 - place for place in shown],
        ticktext=[escape(labels[place]) for place in shown],
        range=[-0.5, len(labels) - 1 + _HEIGHT + 0.2],
        showgrid=False,
    )
    return figure


def _faded(colour: str) -> str:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.55)"
