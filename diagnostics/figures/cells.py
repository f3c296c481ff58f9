"""The cells of a map of layers: their size, their axes, and the bar of their colours."""

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from diagnostics.figures.theme import escape
from diagnostics.model_map import family_of

BLOCK = "block (index, first to last)"
KIND = "layer type"
_CELL, _SMALLEST_CELL = 22, 5  # pixels of a row of cells
_MAP = 720  # pixels beyond which rows become lower


def percent_ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """Return ticks at the ends and the middle of a colour bar, or in the middle alone if they would read the same."""
    ticks = [low, (low + high) / 2, high]
    for places in range(3):
        texts = [f"{tick:.{places}%}" for tick in ticks]
        if len(set(texts)) == len(texts):
            return ticks, texts
    return ticks[1:2], texts[1:2]


def cells_height(kinds: Sequence[str]) -> int:
    """Return the height of a map of layers, in pixels."""
    return max(7 * _CELL, len(kinds) * cell_size(kinds)) + 60


def cell_size(kinds: Sequence[str]) -> int:
    """Return the height of a row of cells, in pixels."""
    return max(_SMALLEST_CELL, min(_CELL, _MAP // max(1, len(kinds))))


def cell_axes(figure: go.Figure, blocks: Sequence[int], kinds: Sequence[str]) -> None:
    """Give a map of layers its blocks across and its layer types down."""
    first, last = (blocks[0], blocks[-1]) if blocks else (0, 0)
    step = math.ceil(14 / cell_size(kinds))
    # Fixed, so that a finger that scrolls the page does not move the cells.
    figure.update_xaxes(
        fixedrange=True, range=[first - 0.5, last + 0.5], dtick=max(1, math.ceil((last - first + 1) / 12))
    )
    figure.update_yaxes(
        fixedrange=True,
        tickvals=list(range(0, len(kinds), step)),
        ticktext=[escape(_tick(kind)) for kind in kinds[::step]],
        range=[len(kinds) - 0.5, -0.5],
        showgrid=False,
    )


def _tick(kind: str) -> str:
    """Write a layer type in one word, an expert's as its number."""
    parts = kind.split(".")
    return next(filter(str.isdecimal, parts)) if family_of(kind) else parts[-1]
