"""A frame of a moving drawing as a figure, which can be saved like any other chart."""

import re

import numpy as np
import plotly.graph_objects as go

from diagnostics.figures.drawing import HEIGHT, WIDTH, Drawing
from diagnostics.figures.theme import METHOD_STYLES, PALETTES, Theme, escape, template

_LETTERS = {
    "small": 9.5,
    "big": 13.0,
}  # pixels, at which letters are 7 points in a column; others have _LETTER
_LETTER = 10.5
_WIDTHS = {"thin": 1.0, "bold": 3.5}
_DASHES = {"dash": "dash", "dot": "dot", "dashdot": "dashdot", "outline": "dot"}
_OVER = {"over-dark": "#ffffff", "over-light": "#1c2430"}
_ANCHORS = {"start": "middle right", "end": "middle left", "middle": "middle center"}
_CIRCLE = np.linspace(0, 2 * np.pi, 25)


def drawn_figure(drawing: Drawing, frame: int, title: str, theme: Theme = "light") -> go.Figure:
    """Draw one frame: every mark is a trace, in the drawing's own units, on invisible axes.

    Raises:
        ValueError: the frame does not exist.
    """
    if not 0 <= frame < drawing.frames:
        raise ValueError(f"The drawing has the frames 0 to {drawing.frames - 1}, not {frame}.")
    figure = go.Figure(layout={"template": template(theme), "title": {"text": f"<b>{escape(title)}</b>"}})
    for mark in drawing.marks:
        now = {name: value[frame] if isinstance(value, list) else value for name, value in mark.items()}
        figure.add_trace(_trace(now, theme))
    unseen = {"visible": False, "showgrid": False, "zeroline": False}
    figure.update_xaxes(range=[0, WIDTH], constrain="domain", **unseen)
    figure.update_yaxes(range=[HEIGHT, 0], scaleanchor="x", constrain="domain", **unseen)
    figure.update_layout(
        width=WIDTH, height=HEIGHT + 60, showlegend=False, margin={"l": 0, "r": 0, "t": 60, "b": 0}
    )
    return figure


def _trace(mark: dict[str, object], theme: Theme) -> go.Scatter:
    css = str(mark["class"]).split()
    colour, opacity = _colour(css, theme), 0.45 if "dim" in css else 1.0
    if mark["tag"] == "text":
        size = next((_LETTERS[each] for each in css if each in _LETTERS), _LETTER)
        anchor = "end" if "end" in css else str(mark.get("text-anchor", "start"))
        text = escape(str(mark["text"]))
        return go.Scatter(
            x=[_number(mark, "x")],
            y=[_number(mark, "y") - 5],  # from the line that letters stand on to their middle
            mode="text",
            text=[f"<b>{text}</b>" if "strong" in css or "big" in css else text],
            textposition=_ANCHORS[anchor],
            textfont={"size": size, "color": _ink(css, theme)},
            hoverinfo="skip",
        )
    x, y = _outline(mark)
    fill = mark.get("fill")
    if "fill" in css or "band" in css or (isinstance(fill, str) and fill != "none"):
        area = colour if fill is None else str(fill)
        return go.Scatter(
            x=x, y=y, mode="lines", line={"width": 0}, fill="toself", fillcolor=area, opacity=opacity
        )
    shown = "stroke" in css or "outline" in css
    width = next((_WIDTHS[each] for each in css if each in _WIDTHS), 2.0) if shown else 0.0
    dash = next((_DASHES[each] for each in css if each in _DASHES), "solid")
    opacity *= _number(mark, "stroke-opacity", 1.0) * _number(mark, "opacity", 1.0)
    return go.Scatter(
        x=x,
        y=y,
        mode="lines",
        line={"width": width, "color": colour, "dash": dash},
        opacity=opacity,
        hoverinfo="skip",
    )


def _outline(mark: dict[str, object]) -> tuple[list[float], list[float]]:
    if mark["tag"] == "line":
        return [_number(mark, "x1"), _number(mark, "x2")], [_number(mark, "y1"), _number(mark, "y2")]
    if mark["tag"] == "rect":
        left, top = _number(mark, "x"), _number(mark, "y")
        right, bottom = left + _number(mark, "width"), top + _number(mark, "height")
        return [left, right, right, left, left], [top, top, bottom, bottom, top]
    if mark["tag"] == "circle":
        radius = _number(mark, "r")
        around = (
            _number(mark, "cx") + radius * np.cos(_CIRCLE),
            _number(mark, "cy") + radius * np.sin(_CIRCLE),
        )
        return around[0].round(1).tolist(), around[1].round(1).tolist()
    points = [pair.split(",") for pair in re.split("[ML]", str(mark["d"])) if pair]
    return [float(x) for x, _ in points], [float(y) for _, y in points]


def _number(mark: dict[str, object], name: str, otherwise: float = 0.0) -> float:
    return float(str(mark.get(name, otherwise)))


def _colour(css: list[str], theme: Theme) -> str:
    palette = PALETTES[theme]
    if "band" in css:
        return palette.band[0]
    for name in css:
        if name in METHOD_STYLES:
            return METHOD_STYLES[name].colour
        if name in ("ink", "muted", "faint", "grid", "gain", "loss"):
            return str(getattr(palette, name))
    return palette.surface if "veil" in css else palette.ink


def _ink(css: list[str], theme: Theme) -> str:
    over = next((_OVER[each] for each in css if each in _OVER), None)
    return over or (PALETTES[theme].muted if "muted" in css else PALETTES[theme].ink)
