"""The mask as a picture: which parts of the matrix kept their weights."""

from collections.abc import Iterable

import numpy as np
import plotly.graph_objects as go

from diagnostics.allocation import MaskDensity
from diagnostics.figures.frame import frame
from diagnostics.figures.row_marks import mark_selected
from diagnostics.figures.theme import PALETTES, SEQUENTIAL, Theme
from diagnostics.numeric import row_indices


def mask_figure(density: MaskDensity, selected_rows: Iterable[int] = (), theme: Theme = "light") -> go.Figure:
    """Draw the kept share of the weights over the matrix; arrows at the right edge point at selected rows."""
    blocks = f"{density.row_block} × {density.column_block}"
    pooled = density.row_block * density.column_block > 1
    sentence = f"Layer sparsity {density.layer_sparsity:.2%} (share of the layer's weights pruned)."
    if pooled:
        sentence += f" Each dot averages {blocks} weights (rows × columns)."
    figure = frame(
        theme,
        title="Which weights does the layer keep?",
        subtitle=sentence,
        x_title="column (index of the input feature)",
        y_title="row (index of the output dimension)",
        plot_height=380,
    )
    figure.add_heatmap(
        # Whole percents in a byte each: a quarter of float32, and finer than the colours can be told apart.
        z=np.round(100 * density.kept_fraction).astype(np.uint8),
        x0=(density.column_block - 1) / 2,
        dx=density.column_block,
        y0=(density.row_block - 1) / 2,
        dy=density.row_block,
        zmin=0,
        zmax=100,
        colorscale=SEQUENTIAL,
        name="kept weights",
        hovertemplate=(
            "around row %{y:.0f}, column %{x:.0f}<br><b>%{z}% of weights kept</b>"
            f"<extra>blocks of {blocks}</extra>"
            if pooled
            else "row %{y}, column %{x}: %{z}% kept<extra></extra>"
        ),
        colorbar={"tickvals": [0, 50, 100], "ticktext": ["0%", "50%", "100%<br>kept"], "len": 0.8, "x": 1.05},
    )
    rows = row_indices(selected_rows, density.rows)
    edge, hover = np.full(len(rows), density.columns - 0.5), "<b>row %{customdata}</b>"
    marker = {"symbol": "arrow-left", "size": 11, "color": PALETTES[theme].ink}
    mark_selected(figure, rows, edge, rows, marker, hover, cliponaxis=False)
    figure.update_xaxes(range=[-0.5, density.columns - 0.5], nticks=4, tickformat=",d")
    figure.update_yaxes(range=[density.rows - 0.5, -0.5], showgrid=False, nticks=8, tickformat=",d")
    return figure
