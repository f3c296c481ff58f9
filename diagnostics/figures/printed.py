"""A figure for paper and slides: a page's width, letters in points, on white, without parts for screens only."""

import copy
import math
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from diagnostics.figures.frame import AT_TOP_LEFT
from diagnostics.figures.theme import escape
from diagnostics.format import plain_text

INCH = 96  # pixels, as SVG, PDF and browsers count them
MIN_FONT_POINTS = 7  # the smallest size of letters
MAX_TITLE_CHARACTERS = 200
_BASE = 12  # size in pixels of the template's letters, which get the chosen size in points
_LETTER = 0.54  # mean width of a letter, in letter heights
_SAMPLE = 42  # pixels: the line or bar before a name in the legend, and the gaps
_FONT = "Arial, 'Liberation Sans', Helvetica, sans-serif"
_SCREEN_ONLY = (
    "customdata",
    "hovertemplate",
    "hoverinfo",
    "hoverlabel",
    "uid",
    "selectedpoints",
    "meta",
    "ids",
)


@dataclass(frozen=True)
class Page:
    """A printed medium: its width and, for a slide, its height in inches, and the usual size of its letters."""

    width: float
    height: float | None
    points: int


PAGES = {
    "One column": Page(3.25, None, 8),
    "Two columns": Page(6.75, None, 8),
    "Slide 16:9": Page(13.33, 7.5, 20),
}


def printed(
    figure: go.Figure,
    page: Page,
    points: float,
    title: str = "",
    labels: Mapping[str, str] | None = None,
    scale: float = 1.0,
) -> go.Figure:
    """Lay a figure out for a page.

    Args:
        figure: a figure in the light theme.
        page: its size.
        points: the size of ordinary letters.
        title: plain text; longer than MAX_TITLE_CHARACTERS it is cut. Empty: none.
        labels: plain texts to replace those that `label_texts` lists.
        scale: factor for all sizes, for a preview.
    """
    letter = points * INCH / 72 * scale
    factor, least = letter / _BASE, MIN_FONT_POINTS * INCH / 72 * scale
    width = page.width * INCH * scale
    # Part by part: `to_plotly_json` of the whole figure would encode its arrays as text.
    traces = [_slim(trace.to_plotly_json()) for trace in figure.data if trace.opacity != 0]
    layout = copy.deepcopy(figure.layout.to_plotly_json())
    screen = {key: layout.get("margin", {}).get(key, 0) for key in "tbr"}
    plot_height = layout.pop("height", 450) - screen["t"] - screen["b"]
    for name in ("title", "margin", "hovermode", "dragmode", "selectdirection", "width"):
        layout.pop(name, None)
    for name in ("hoverlabel", "modebar", "newselection"):
        layout.get("template", {}).get("layout", {}).pop(name, None)
    result = go.Figure({"data": _scaled(traces, factor, least), "layout": _scaled(layout, factor, least)})
    for old, new in (labels or {}).items():
        _relabel(result, old, new)
    lines = _wrapped(title[:MAX_TITLE_CHARACTERS], width / (1.25 * letter * _LETTER), 3)
    top = (1.65 * letter * len(lines) + 0.6 * letter) if lines else 0.9 * letter
    if result.layout.annotations:
        top += 1.4 * letter  # notes stand above the plot
    below = _fit_axes(result, 0.8 * width, letter)
    plot = 0.84 * width * min(max(plot_height / 480, 0.55), 1.6) * (1.0 if page.width < 4 else 0.6)
    if result.layout.yaxis.scaleanchor:  # a drawing, which keeps its shape and has no ticks below it
        (left, right), (low, high) = result.layout.xaxis.range, result.layout.yaxis.range
        plot, below = 0.94 * width * abs(high - low) / abs(right - left), letter
    if page.height is not None:
        plot = 0.7 * page.height * INCH * scale
    if (needed := _upright_labels(result, letter)) > plot:
        if page.height is None:
            plot = needed
        else:
            result.update_yaxes(tickfont={"size": max(least, letter * plot / needed)})
    _fit_upright(result, plot, letter)
    legend = _legend_height(result, width, letter) if result.layout.showlegend else 0.0
    if page.height is not None:
        plot = page.height * INCH * scale - top - below - legend
    if legend:
        result.update_layout(
            legend={
                "orientation": "h",
                "x": 0,
                "xref": "container",
                "xanchor": "left",
                "y": legend / (top + plot + below + legend),
                "yref": "container",
                "yanchor": "top",
                "font": {"size": letter, "family": _FONT, "color": "#1c2430"},
            }
        )
    result.update_layout(
        width=round(width),
        height=round(top + plot + below + legend),
        margin={
            "l": round(letter),
            "r": round(max(letter, screen["r"] * factor)),
            "t": round(top),
            "b": round(below + legend),
        },
        font_family=_FONT,
        paper_bgcolor="#ffffff",
        plot_bgcolor="#ffffff",
        hovermode=False,
    )
    if lines:
        text = "<br>".join(escape(line) for line in lines)
        result.update_layout(
            title={
                "text": f"<b>{text}</b>",
                "font": {"size": 1.25 * letter, "family": _FONT},
                **AT_TOP_LEFT,
                # Plotly places the last of several lines where the first should be.
                "pad": {"t": (0.5 + 1.62 * (len(lines) - 1)) * letter, "l": 0.6 * letter},
            }
        )
    return result


def label_texts(figure: go.Figure) -> list[str]:
    """List the editable texts of a figure, as plain text, each once: axes, names in the legend, notes."""
    titles = [text for axis in _axes(figure) if (text := axis.title.text)]
    if figure.layout.showlegend:
        titles += [trace.name for trace in figure.data if trace.name and trace.showlegend is not False]
    for axis in _axes(figure):
        titles += list(axis.ticktext if axis.ticktext is not None else ())
    titles += [note.text for note in figure.layout.annotations if note.text]
    return list(dict.fromkeys(map(plain_text, titles)))


def _relabel(figure: go.Figure, old: str, new: str) -> None:
    text = escape(new)
    for axis in _axes(figure):
        if axis.title.text and plain_text(axis.title.text) == old:
            axis.title.text = text
        if axis.ticktext is not None:
            axis.ticktext = [text if plain_text(each) == old else each for each in axis.ticktext]
    for trace in figure.data:
        if trace.name and plain_text(trace.name) == old:
            trace.name = text
    for note in figure.layout.annotations:
        if note.text and plain_text(note.text) == old:
            note.text = text


def _axes(figure: go.Figure) -> list:
    return [*figure.select_xaxes(), *figure.select_yaxes()]


def _slim(trace: dict) -> dict:
    kept = {name: value for name, value in trace.items() if name not in _SCREEN_ONLY}
    if kept.get("textposition") == "none":
        kept.pop("text", None)
        kept.pop("textposition")
    return kept


def _scaled(value: object, factor: float, least: float, key: str = "", inside: str = "") -> object:
    """Multiply all sizes in pixels, but keep letters at `least` or larger."""
    if isinstance(value, dict):
        return {name: _scaled(item, factor, least, name, key) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_scaled(item, factor, least, key, inside) for item in value]
    if isinstance(value, np.ndarray):
        return value * factor if key == "size" and inside == "marker" else value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if key == "size" and inside in ("font", "tickfont", "textfont"):
        return max(value * factor, least)
    length = (key, inside) in (
        ("size", "marker"),
        ("width", "line"),
        ("size", "pattern"),
        ("width", "error_y"),
    )
    if length or key in (
        "xshift",
        "yshift",
        "standoff",
        "ticklen",
        "thickness",
        "borderpad",
        "arrowwidth",
        "entrywidth",
    ):
        return value * factor
    return value


def _wrapped(text: str, characters: float, max_lines: int) -> list[str]:
    return textwrap.wrap(
        " ".join(text.split()), max(8, int(characters)), max_lines=max_lines, placeholder=" …"
    )


def _legend_height(figure: go.Figure, width: float, letter: float) -> float:
    """Wrap the names in the legend, and return its height."""
    named = [trace for trace in figure.data if trace.name and trace.showlegend is not False]
    titles = [axis.title.text.count("<br>") + 1 for axis in figure.select_yaxes() if axis.title.text]
    room = width - (3.2 + 1.3 * max(titles, default=0)) * letter - 8  # the plot's width, which Plotly takes
    longest, high = 1.0, 1
    for trace in named:
        lines = _wrapped(plain_text(trace.name), (room - _SAMPLE) / (letter * _LETTER), 3)
        trace.name = "<br>".join(map(escape, lines))
        longest, high = max([longest, *map(_ems, lines)]), max(high, len(lines))
    columns = max(1, int(room // (longest * letter + _SAMPLE)))
    return (math.ceil(len(named) / columns) * (0.5 + 1.3 * high) + 0.8) * letter


def _ems(line: str) -> float:
    """Estimate the width of a line in Arial, in letter heights."""
    narrow, wide = (
        sum(map(line.count, " .,:;·|ijlItf()[]")),
        sum(map(line.count, "mwMW%")) + sum(map(str.isupper, line)),
    )
    return 0.556 * len(line) - 0.278 * narrow + 0.2 * wide


def _fit_axes(figure: go.Figure, length: float, letter: float) -> float:
    """Fit titles and ticks to the room along the horizontal axis; return the height that they take."""
    lines = 1
    for axis in figure.select_xaxes():
        start, end = axis.domain or (0, 1)
        room = length * (end - start)
        lines = max(lines, _fit_title(axis, room, letter))
        if axis.nticks:
            axis.nticks = max(3, min(axis.nticks, int(room / (5 * letter))))
        if axis.ticktext is not None and axis.tickvals is not None:
            widest = max(len(plain_text(each)) for each in axis.ticktext) * letter * _LETTER + letter
            every = math.ceil(widest * len(axis.ticktext) / room)
            axis.tickvals, axis.ticktext = axis.tickvals[::every], axis.ticktext[::every]
            axis.tickangle = 0
    return (2.3 + 1.3 * lines) * letter


def _fit_title(axis: go.layout.XAxis | go.layout.YAxis, room: float, letter: float) -> int:
    """Wrap the title of an axis; return its number of lines."""
    if not axis.title.text:
        return 0
    lines = _wrapped(plain_text(axis.title.text), room / (letter * _LETTER), 3)
    axis.title.text = "<br>".join(map(escape, lines))
    return len(lines)


def _upright_labels(figure: go.Figure, letter: float) -> float:
    """Return the height that the labels on the upright axis take, each of one or more lines."""
    labels = [str(each) for axis in figure.select_yaxes() for each in axis.ticktext or ()]
    return sum(1.3 * (1 + label.count("<br>")) + 0.7 for label in labels) * letter


def _fit_upright(figure: go.Figure, length: float, letter: float) -> None:
    """Fit titles and ticks to the room along the upright axis."""
    for axis in figure.select_yaxes():
        start, end = axis.domain or (0, 1)
        room = length * (end - start)
        _fit_title(axis, room, letter)
        if axis.nticks:
            axis.nticks = max(3, min(axis.nticks, int(room / (2.2 * letter))))
