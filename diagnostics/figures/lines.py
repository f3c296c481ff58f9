"""Lines and points of charts: a series in its style, a row, and reference lines."""

import numpy as np
import plotly.graph_objects as go

from diagnostics.figures.frame import float32
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


def points(
    figure: go.Figure,
    name: str,
    x: object,
    y: object,
    hover: str,
    marker: dict[str, object],
    **more: object,
) -> None:
    """Draw points; `hover` is their whole template."""
    figure.add_scatter(
        x=float32(x), y=float32(y), mode="markers", name=name, hovertemplate=hover, marker=marker, **more
    )


def row_points(
    figure: go.Figure, name: str, rows: np.ndarray, x: np.ndarray, y: np.ndarray, style: Style, hover: str
) -> None:
    """Draw a point per row, or per input feature, in the mark of a method; customdata: its number."""
    marker = {"color": style.colour, "size": 5, "opacity": 0.75, "symbol": style.symbol}
    points(figure, name, x, y, hover, marker, customdata=rows.astype(np.int32))


def reference_line(figure: go.Figure, name: str, x: object, y: object, colour: str, **more: object) -> None:
    """Draw a dotted reference line, such as the diagonal."""
    figure.add_scatter(
        x=x,
        y=y,
        mode="lines",
        name=name,
        line={"color": colour, "width": 1, "dash": "dot"},
        hoverinfo="skip",
        **more,
    )
