"""Matrices small enough to read: where scores come from, which weights go, what is left of each row."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from diagnostics.figures.frame import drawn, frame
from diagnostics.figures.theme import METHOD_STYLES, PALETTES, SEQUENTIAL, Theme, escape
from diagnostics.lessons import PrunedMatrix, ScoreLesson

_CELL = 34  # pixels a row of a matrix is high
_DARK_BELOW = 0.55  # share of the scale below which Cividis needs white letters


def score_figure(lesson: ScoreLesson, theme: Theme = "light") -> go.Figure:
    """Weights, the loudness of the features, and the scores: their product, pruned ones crossed out."""
    rows = len(lesson.weight)
    figure = make_subplots(
        rows=3,
        shared_xaxes=True,
        row_heights=[rows, 1, rows],
        vertical_spacing=0.11,
        subplot_titles=(
            "weights W",
            "feature norms n",
            "scores A = |W| · n: size of the weight times norm",
        ),
    )
    everything = np.ones(lesson.weight.shape, dtype=bool)
    _cells(figure, 1, np.abs(lesson.weight), everything, lesson.weight, theme, "weight", signed=True)
    _cells(figure, 2, lesson.norm[None], everything[:1], lesson.norm[None], theme, "norm")
    _cells(figure, 3, lesson.pruned.score, lesson.pruned.keep, lesson.pruned.score, theme, "score")
    figure.update_yaxes(title_text="row", row=1)
    figure.update_yaxes(title_text="row", row=3)
    figure.update_yaxes(title_text="", showticklabels=False, row=2)
    _finish(
        figure,
        theme,
        title="Which weights are kept?",
        subtitle="A weight matters if it is large and its feature is loud. Crossed out: the lowest half of each row.",
        plot_height=_CELL * (2 * rows + 1) + 110,
    )
    figure.update_xaxes(title_text="input feature (index)", row=3)
    return figure


def damage_figure(matrix: PrunedMatrix, theme: Theme = "light") -> go.Figure:
    """Scores with the pruned ones crossed out, and below them the cosine of each row's output."""
    rows, columns = matrix.score.shape
    figure = make_subplots(
        rows=2,
        vertical_spacing=0.2,
        subplot_titles=("scores, the pruned ones crossed out", "cosine of the row's output"),
    )
    _cells(figure, 1, matrix.score, matrix.keep, matrix.score, theme, "score")
    figure.add_bar(
        orientation="h",
        x=drawn(matrix.cosine),
        y=np.arange(rows, dtype=np.int32),
        width=0.7,
        text=[f"{value:.2f}" for value in matrix.cosine],
        textposition="auto",
        insidetextanchor="end",
        textangle=0,
        name="row cosine",
        marker={"color": METHOD_STYLES[matrix.method].colour, "opacity": 0.85},
        hovertemplate="<b>row %{y}</b><br>cosine %{x:.4f}<extra></extra>",
        row=2,
        col=1,
    )
    figure.update_xaxes(title_text="input feature (index)", row=1)
    figure.update_yaxes(title_text="row")
    _finish(
        figure,
        theme,
        title="How much of each row is left?",
        subtitle=f"{matrix.counts[0]} of {columns} weights pruned in every row (row sparsity "
        f"{matrix.counts[0] / columns:.1%}).",
        plot_height=_CELL * 2 * rows + 90,
    )
    figure.update_xaxes(title_text="cosine (1 = direction kept)", range=[0, 1.02], dtick=0.25, row=2)
    return figure


def masks_figure(matrices: Sequence[PrunedMatrix], theme: Theme = "light") -> go.Figure:
    """Draw the scores under several allocations, one matrix below the other."""
    rows = len(matrices[0].score)
    figure = make_subplots(
        rows=len(matrices),
        shared_xaxes=True,
        vertical_spacing=0.1,
        subplot_titles=[
            f"{escape(matrix.label)}: loses {', '.join(map(str, matrix.counts))}; cosine {matrix.layer_cosine:.3f}"
            for matrix in matrices
        ],
    )
    for place, matrix in enumerate(matrices, 1):
        _cells(figure, place, matrix.score, matrix.keep, matrix.score, theme, f"{matrix.label} score")
        figure.update_yaxes(title_text="row", row=place)
    sparsity = 1 - float(matrices[0].keep.mean())
    _finish(
        figure,
        theme,
        title="Which weights does each method take?",
        subtitle=f"The same scores, layer sparsity {sparsity:.1%} each. Above each: weights lost by row, "
        "and the cosine of the layer's output.",
        plot_height=_CELL * rows * len(matrices) + 110,
    )
    figure.update_xaxes(title_text="input feature (index)", row=len(matrices))
    return figure


def _cells(
    figure: go.Figure,
    place: int,
    values: np.ndarray,
    keep: np.ndarray,
    shown: np.ndarray,
    theme: Theme,
    name: str,
    *,
    signed: bool = False,
) -> None:
    """One matrix: kept cells coloured by `values`, pruned ones empty and crossed, the numbers of `shown` in all."""
    palette = PALETTES[theme]
    at = {"row": place, "col": 1}
    top = float(values.max()) or 1.0
    rows, columns = np.indices(values.shape)
    figure.add_heatmap(
        z=drawn(np.where(keep, values, np.nan)),
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
    text = [f"{value:+.1f}".replace("-", "−") if signed else f"{value:.1f}" for value in shown.ravel()]
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


def _finish(figure: go.Figure, theme: Theme, *, title: str, subtitle: str, plot_height: int) -> None:
    frame(figure, theme, title=title, subtitle=subtitle, plot_height=plot_height, right=12)
    for note in figure.layout.annotations:
        note.update(font={"size": 12, "color": PALETTES[theme].muted}, xanchor="left", x=0)
    figure.update_xaxes(dtick=1, showline=False, ticks="", showgrid=False)
    figure.update_yaxes(autorange="reversed", dtick=1, showgrid=False, ticks="")
