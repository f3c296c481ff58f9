"""Selected rows in a figure: their marks, rings, ticks and numbers."""

from collections.abc import Iterable

import numpy as np
import plotly.graph_objects as go

from diagnostics.figures.lines import points
from diagnostics.figures.theme import PALETTES, Style, Theme
from diagnostics.numeric import row_indices

_LABEL_SHIFTS = ((0, 15), (0, -15), (22, 0), (-22, 0))  # in pixels; a label takes the first free place
_MARK_SIZE, _SMALL_CHART = 6, 270  # in pixels: half a mark, and the plot of a chart on a narrow page
_MAX_LABELS = 8


def mark_rows(
    figure: go.Figure,
    theme: Theme,
    rows: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    style: Style,
    label: str = "",
) -> None:
    """Draw selected rows on top, with a border in ink; `label`, as HTML, names one allocation of several."""
    under = f" under {label}" if label else ""
    marker = bordered_mark(style, PALETTES[theme].ink, 10, 2.0)
    hover = f"<b>row %{{customdata}}</b>{under}<br>row sparsity %{{y:.2%}}"
    mark_selected(figure, rows, x, y, marker, hover, f"selected rows{under}")


def bordered_mark(style: Style, border: str, size: int, width: float = 1.5) -> dict[str, object]:
    """Return a method's mark with a border around it."""
    line = {"width": width, "color": border}
    return {"symbol": style.symbol, "size": size, "color": style.colour, "line": line}


def ring_rows(
    figure: go.Figure,
    theme: Theme,
    rows: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    hover: str,
    name: str = "selected rows",
) -> None:
    """Draw rings in ink around selected points."""
    marker = {"symbol": "circle-open", "size": 12, "color": PALETTES[theme].ink, "line": {"width": 2}}
    mark_selected(figure, rows, x, y, marker, hover, name)


def mark_selected(
    figure: go.Figure,
    rows: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    marker: dict[str, object],
    hover: str,
    name: str = "selected rows",
    **more: object,
) -> None:
    """Draw the marks of selected rows, if there are any; customdata: their numbers."""
    if len(rows):
        more = {"customdata": rows.astype(np.int32), "showlegend": False} | more
        points(figure, name, x, y, f"{hover}<extra>selected</extra>", marker, **more)


def selected_ticks(
    figure: go.Figure,
    selected: Iterable[int],
    values: np.ndarray,
    *,
    position: int,
    top: float,
    colour: str,
    hover: str,
    label: str = "",
) -> None:
    """Draw selected rows as ticks below the bars or curves of a set, each set lower than the one before it.

    Args:
        figure: the figure to draw into.
        selected: the rows.
        values: (D,), where each row of the set is.
        position: the set's index.
        top: the height of the figure.
        colour: the set's colour.
        hover: the hover text of a tick.
        label: the set's label, as HTML; "": it is the only set.
    """
    rows = row_indices(selected, len(values))
    under = f" under {label}" if label else ""
    y = np.full(len(rows), -(0.05 + 0.07 * position) * top)
    marker = {"symbol": "line-ns", "size": 10, "line": {"width": 2, "color": colour}}
    hover = f"<b>row %{{customdata}}</b>{under}<br>{hover}"
    mark_selected(figure, rows, values[rows], y, marker, hover, f"selected rows{under}")


def number_rows(
    figure: go.Figure, theme: Theme, rows: np.ndarray, x: np.ndarray, y: np.ndarray, *, log_x: bool = False
) -> None:
    """Draw the numbers of the selected rows next to their marks, if there are few, and where there is room.

    Args:
        figure: the figure with all points, which set the scale of distances.
        theme: light or dark.
        rows: the rows' numbers.
        x: the marks' horizontal positions.
        y: the marks' vertical positions.
        log_x: whether the horizontal axis is logarithmic.
    """
    if not 0 < len(rows) <= _MAX_LABELS:
        return
    across = np.log10(x) if log_x else np.asarray(x, dtype=np.float64)
    pixels = np.column_stack(
        [_pixels(figure, "x", across, log_x), _pixels(figure, "y", np.asarray(y), False)]
    )
    taken = [(*mark, _MARK_SIZE, _MARK_SIZE) for mark in pixels.tolist()]
    for index in np.argsort(across, kind="stable").tolist():
        own = taken[index]
        width, height = 3.5 * len(str(rows[index])) + 2, 8
        for x_shift, y_shift in _LABEL_SHIFTS:
            box = (pixels[index, 0] + x_shift, pixels[index, 1] + y_shift, width, height)
            if not any(_overlap(box, other) for other in taken if other is not own):
                break
        else:
            continue
        taken.append(box)
        figure.add_annotation(
            x=float(across[index]),
            y=float(y[index]),
            text=str(rows[index]),
            xshift=x_shift,
            yshift=y_shift,
            showarrow=False,
            borderpad=1,
            bgcolor=PALETTES[theme].veil,
            font={"size": 11},
        )


def _pixels(figure: go.Figure, axis: str, values: np.ndarray, log: bool) -> np.ndarray:
    """Return the positions of values along an axis of a small chart, in pixels from its first point."""
    drawn_there = np.concatenate([np.asarray(trace[axis], dtype=np.float64) for trace in figure.data])
    if log:
        drawn_there = np.log10(drawn_there, where=drawn_there > 0, out=np.full_like(drawn_there, np.nan))
    low, high = np.nanmin(drawn_there), np.nanmax(drawn_there)
    placed: np.ndarray = (values - low) / (high - low or 1.0) * _SMALL_CHART
    return placed


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return abs(one[0] - other[0]) < one[2] + other[2] and abs(one[1] - other[1]) < one[3] + other[3]
