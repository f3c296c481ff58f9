"""Figures of a pruned checkpoint: one number of every layer, and the zeros of one layer."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from diagnostics.figures.cells import BLOCK, KIND, cell_axes, cells_height
from diagnostics.figures.frame import float32, frame
from diagnostics.figures.marks import share_outlines
from diagnostics.figures.theme import PALETTES, SEQUENTIAL, Theme, diverging, escape


def checkpoint_map_figure(
    values: np.ndarray,
    blocks: Sequence[int],
    kinds: Sequence[str],
    *,
    title: str,
    subtitle: str,
    measure: str,
    form: str,
    signed: bool = False,
    theme: Theme = "light",
) -> go.Figure:
    """Draw one number of every layer as a coloured cell, block by layer type.

    Args:
        values: (kinds, blocks) float, NaN where there is no such layer.
        blocks: indices of the blocks, ascending.
        kinds: layer types.
        title: a question.
        subtitle: what the number is.
        measure: what the number is, in a word above the bar of colours.
        form: format of the number, as Plotly spells it: ".1%".
        signed: whether 0 is in the middle of the colours.
        theme: light or dark.
    """
    figure = frame(
        theme,
        title=title,
        subtitle=subtitle,
        x_title=BLOCK,
        y_title=KIND,
        plot_height=cells_height(kinds),
        right=8,
    )
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if format(low, form) == format(high, form):  # one colour for all, in the middle
        low, high = low - 0.5, high + 0.5
    if signed:
        high = max(-low, high)
        low = -high
    figure.add_heatmap(
        z=float32(values),
        x=np.array(blocks, dtype=np.int32),
        y=np.arange(len(kinds), dtype=np.int32),
        text=[[escape(kind)] * len(blocks) for kind in kinds],
        colorscale=diverging(theme) if signed else SEQUENTIAL,
        zmin=low,
        zmax=high,
        xgap=1,
        ygap=1,
        hovertemplate="block %{x}, %{text}: %{z:" + form + "}<extra></extra>",
        hoverongaps=False,
        colorbar={"tickformat": form, "nticks": 4, "title": {"text": measure}},
    )
    cell_axes(figure, blocks, kinds)
    return figure


def zeros_figure(rows: np.ndarray, columns: np.ndarray, theme: Theme = "light") -> go.Figure:
    """Draw how the sparsity of a layer's rows and of its columns is distributed: shares of each, as steps.

    Args:
        rows: (D,) sparsity of each row.
        columns: (N,) sparsity of each column.
        theme: light or dark.
    """
    palette = PALETTES[theme]
    figure = frame(
        theme,
        title="Which rows and columns lost most?",
        subtitle="Share of the layer's rows, and of its columns, at each sparsity.",
        x_title="sparsity (share of zeros)",
        y_title="share",
        legend=True,
    )
    sets = [
        ("rows (output dimensions)", rows, palette.ink, "solid"),
        ("columns (input features)", columns, palette.gain, "dash"),
    ]
    share_outlines(figure, sets, "%{y:.1%} at a sparsity of %{x:.1%}")
    return figure
