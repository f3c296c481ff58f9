"""The rows of one layer through all targets."""

from collections.abc import Iterable

import numpy as np
import plotly.graph_objects as go

from diagnostics.figures.frame import PERCENT, float32, frame
from diagnostics.figures.lines import reference_line, row_line
from diagnostics.figures.marks import percentile_bands
from diagnostics.figures.theme import PALETTES, Theme, escape, series_styles
from diagnostics.numeric import row_indices
from diagnostics.targets import TargetPaths


def target_paths_figure(paths: TargetPaths, rows: Iterable[int], theme: Theme = "light") -> go.Figure:
    """Draw the percentiles of the row sparsities against the target, and the paths of chosen rows as lines."""
    palette = PALETTES[theme]
    (style,) = series_styles([paths.method])
    figure = frame(
        theme,
        title=f"Which way do rows go as {escape(paths.label)} prunes more?",
        subtitle="Row sparsity at each layer target; the dotted line is where every row loses the same.",
        x_title="layer target (share of the layer's weights pruned)",
        y_title="row sparsity",
        plot_height=340,
        legend=True,
    )
    percentile_bands(
        figure,
        theme,
        paths.targets,
        paths.bands,
        "median row: %{y:.1%} pruned<br>at a layer target of %{x:.0%}<extra></extra>",
    )
    ends = float32(paths.targets[[0, -1]])
    reference_line(figure, "uniform", ends, ends, palette.faint)
    sparsity = paths.row_sparsity
    for index, row in enumerate(row_indices(rows, sparsity.shape[1]).tolist()):
        x, y, hover = (
            float32(paths.targets),
            float32(sparsity[:, row]),
            ": %{y:.1%} pruned<br>at a layer target of %{x:.0%}",
        )
        row_line(figure, row, index, x, y, style.colour, hover, marker={"size": 5, "symbol": style.symbol})
    figure.update_xaxes(tickformat=".0%", nticks=8)
    figure.update_yaxes(tickformat=PERCENT, range=[0, max(1.0, float(np.max(sparsity)))], nticks=6)
    return figure
