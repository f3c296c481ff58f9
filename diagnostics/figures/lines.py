"""Lines of charts: a series in its style, a row, and reference lines."""

import numpy as np
import plotly.graph_objects as go

from diagnostics.figures.theme import ROW_DASHES, Style


def series_line(
    figure: go.Figure,
    label: str,
    x: object,
    y: object,
    style: Style,
    hover: str,
    marker: int = 0,
    **more: object,
) -> None:
    """Draw a series in its colour and dash; `marker`: the size of the marks at its points, 0 for none."""
    if marker:
        more["marker"] = {"symbol": style.symbol, "size": marker}
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines+markers" if marker else "lines",
        name=label,
        line={"color": style.colour, "width": 2, "dash": style.dash},
        hovertemplate=hover,
        **more,
    )


def row_line(
    figure: go.Figure,
    row: int,
    position: int,
    x: np.ndarray,
    y: np.ndarray,
    colour: str,
    hover: str,
    marker: dict[str, object] | None = None,
    **more: object,
) -> None:
    """Draw a chosen row in its own dash by its `position` among them; `hover` follows its name."""
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines" if marker is None else "lines+markers",
        name=f"row {row}",
        line={"color": colour, "width": 1.6, "dash": ROW_DASHES[position % len(ROW_DASHES)]},
        marker=marker,
        hovertemplate=f"<b>row {row}</b>{hover}<extra></extra>",
        **more,
    )


def reference_line(figure: go.Figure, name: str, x: object, y: object, colour: str) -> None:
    """Draw a dotted reference line, such as the diagonal."""
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines",
        name=name,
        line={"color": colour, "width": 1, "dash": "dot"},
        hoverinfo="skip",
    )
