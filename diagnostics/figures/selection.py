"""Selected rows, drawn on top of charts whose marks are rows."""

import numpy as np
import plotly.graph_objects as go

from diagnostics.figures.frame import drawn
from diagnostics.figures.theme import PALETTES, Style, Theme

# In turn above, below and beside: rows of one sparsity often lie side by side.
_LABEL_SHIFTS = ((0, 15), (0, -15), (22, 0), (-22, 0))

_MOST_LABELS = 8


def mark_rows(
    figure: go.Figure, theme: Theme, rows: np.ndarray, x: np.ndarray, y: np.ndarray, style: Style, label: str
) -> None:
    """Selected rows on top, with a border in ink."""
    if not len(rows):
        return
    figure.add_scatter(
        x=drawn(x),
        y=drawn(y),
        mode="markers",
        name=f"selected rows under {label}",
        showlegend=False,
        customdata=rows.astype(np.int32),
        marker={
            "symbol": style.symbol,
            "size": 10,
            "color": style.colour,
            "line": {"width": 2, "color": PALETTES[theme].ink},
        },
        hovertemplate=(
            f"<b>row %{{customdata}}</b> under {label}<br>row sparsity %{{y:.2%}}<extra>selected</extra>"
        ),
    )


def number_rows(figure: go.Figure, theme: Theme, rows: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """The selected rows' numbers beside their marks, while there are few enough to tell apart."""
    if len(rows) > _MOST_LABELS:
        return
    for place, index in enumerate(np.argsort(x, kind="stable").tolist()):
        x_shift, y_shift = _LABEL_SHIFTS[place % len(_LABEL_SHIFTS)]
        figure.add_annotation(
            x=float(x[index]),
            y=float(y[index]),
            text=str(rows[index]),
            xshift=x_shift,
            yshift=y_shift,
            showarrow=False,
            borderpad=1,
            bgcolor=PALETTES[theme].veil,
            font={"size": 11},
        )
