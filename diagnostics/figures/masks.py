"""Matrices small enough to read, one below the other: which weights each allocation takes."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from diagnostics.figures.frame import float32, frame
from diagnostics.figures.theme import PALETTES, SEQUENTIAL, Theme, escape
from diagnostics.lessons import PrunedMatrix

_CELL = 34  # pixels a row of a matrix is high
_DARK_BELOW = 0.55  # share of the scale below which Cividis needs white letters


def masks_figure(matrices: Sequence[PrunedMatrix], theme: Theme = "light") -> go.Figure:
    """Draw the scores under several allocations, one matrix below the other."""
    sparsity = 1 - float(matrices[0].keep.mean())
    plots = make_subplots(
        rows=len(matrices),
        shared_xaxes=True,
        vertical_spacing=0.1,
        subplot_titles=[
            f"{escape(matrix.label)}: loses {', '.join(map(str, matrix.counts))}; cosine {matrix.layer_cosine:.3f}"
            for matrix in matrices
        ],
    )
    figure = frame(
        theme,
        title="Which weights does each method take?",
        subtitle=f"The same scores, layer sparsity {sparsity:.1%} each. Above each: weights lost by row, "
        "and the cosine of the layer's output.",
        plot_height=_CELL * len(matrices[0].score) * len(matrices) + 110,
        right=12,
        figure=plots,
    )
    for row, matrix in enumerate(matrices, 1):
        _cells(figure, row, matrix, theme)
    for note in figure.layout.annotations:
        note.update(font={"size": 12, "color": PALETTES[theme].muted}, xanchor="left", x=0)
    figure.update_xaxes(dtick=1, showline=False, ticks="", showgrid=False)
    figure.update_yaxes(title_text="row", autorange="reversed", dtick=1, showgrid=False, ticks="")
    figure.update_xaxes(title_text="input feature (index)", row=len(matrices))
    return figure


def _cells(figure: go.Figure, row: int, matrix: PrunedMatrix, theme: Theme) -> None:
    """Draw one matrix: kept cells coloured by their scores, pruned ones empty and crossed, the numbers in all."""
    values, keep, name = matrix.score, matrix.keep, f"{matrix.label} score"
    palette = PALETTES[theme]
    at = {"row": row, "col": 1}
    top = float(values.max()) or 1.0
    rows, columns = np.indices(values.shape)
    figure.add_heatmap(
        z=float32(np.where(keep, values, np.nan)),
        zmin=0,
        zmax=top,
        colorscale=SEQUENTIAL,
        showscale=False,
        xgap=2,
        ygap=2,
        hoverongaps=False,
        hoverinfo="skip",
        name=name,
        **at,
    )
    text = [f"{value:.1f}" for value in values.ravel()]
    dark = values.ravel() < _DARK_BELOW * top
    colours = [
        palette.muted if not kept else "#ffffff" if is_dark else "#1c2430"
        for kept, is_dark in zip(keep.ravel(), dark, strict=True)
    ]
    figure.add_scatter(
        x=columns.ravel(),
        y=rows.ravel(),
        mode="text",
        text=text,
        textfont={"color": colours, "size": 12},
        customdata=["kept" if kept else "pruned" for kept in keep.ravel()],
        name=f"{name}, numbers",
        hovertemplate=f"row %{{y}}, feature %{{x}}: {name} %{{text}}, %{{customdata}}<extra></extra>",
        **at,
    )
    pruned = ~keep.ravel()
    if pruned.any():
        figure.add_scatter(
            x=columns.ravel()[pruned],
            y=rows.ravel()[pruned],
            mode="markers",
            marker={"symbol": "line-ne", "size": 17, "line": {"width": 1.2, "color": palette.faint}},
            name=f"{name}, pruned",
            hoverinfo="skip",
            **at,
        )
