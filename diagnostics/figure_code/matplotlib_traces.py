"""The traces of a figure as matplotlib code."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
from plotly.colors import get_colorscale

from diagnostics.figure_code.data import SHORT, ScriptData, text_lines
from diagnostics.figure_code.looks import POINT, alpha_argument, colour_of, dash_of

_MARKERS = {
    "circle": "o",
    "diamond": "D",
    "square": "s",
    "triangle-up": "^",
    "triangle-down": "v",
    "cross": "P",
    "x": "X",
    "star": "*",
    "line-ns": "|",
    "line-ew": "_",
    "x-thin": "x",
    "arrow-left": "<",
    "circle-open": "o",
    "diamond-open": "D",
    "square-open": "s",
}
_HATCHES = {"/": "//", "\\": "\\\\", "x": "xx", "-": "--", "|": "||", ".": "..", "+": "++"}


@dataclass
class Drawing:
    """The axes that are drawn.

    Attributes:
        figure: the figure.
        axes: the variable names of the axes in the code.
        data: collects the arrays.
        before: the previous trace, and its name; None: there is none.
    """

    figure: go.Figure
    axes: str
    data: ScriptData
    before: tuple[go.Scatter, str] | None = None

    def label(self, trace: go.Scatter) -> str:
        """Write the argument that names a trace in the legend; "" where it is not shown there."""
        shown = bool(self.figure.layout.showlegend) and trace.showlegend is not False and trace.name
        return f", label={text_lines(trace.name)!r}" if shown else ""


def _xy(trace: go.Scatter, name: str, data: ScriptData) -> tuple[str, str]:
    count = len(trace.x if trace.x is not None else trace.y)
    x = data.keep(f"{name}_x", np.arange(count) if trace.x is None else trace.x)
    y = data.keep(f"{name}_y", np.arange(count) if trace.y is None else trace.y)
    return x, y


def scatter_lines(trace: go.Scatter, name: str, drawing: Drawing) -> list[str]:
    """Write lines, areas, marks, error bars and texts.

    Two lines of a trace: `axes.plot(data["TRIM_x"], data["TRIM_y"], color='#0b6e99', linestyle='-', linewidth=1.5)` and
    `axes.scatter(data["TRIM_x"], data["TRIM_y"], s=20.25, marker='o', color='#0b6e99', linewidths=0, zorder=3)`.
    """
    axes, data = drawing.axes, drawing.data
    x, y = _xy(trace, name, data)
    mode = trace.mode or "lines"
    label, lines = drawing.label(trace), []
    alpha = "" if trace.opacity is None else f", alpha={trace.opacity:g}"
    if trace.fill in ("tonexty", "tozeroy"):
        colour, opacity = colour_of(trace.fillcolor or trace.line.color)
        below = "0"
        if trace.fill == "tonexty" and drawing.before is not None:
            previous, previous_name = drawing.before
            px, py = _xy(previous, previous_name, data)
            below = py if len(previous.x) == len(trace.x) else f"np.interp({x}, {px}, {py})"
        area = "" if "lines" in mode and trace.line.width != 0 else label
        lines.append(
            f"{axes}.fill_between({x}, {y}, {below}, color={colour!r}, alpha={opacity:g}, linewidth=0{area})"
        )
    if trace.fill == "toself":
        colour, opacity = colour_of(trace.fillcolor or trace.line.color)
        lines.append(
            f"{axes}.fill({x}, {y}, color={colour!r}{alpha or alpha_argument(opacity)}, linewidth=0{label})"
        )
    if "lines" in mode and (trace.line.width is None or trace.line.width > 0):
        colour, opacity = colour_of(trace.line.color)
        step = ', drawstyle="steps-post"' if trace.line.shape == "hv" else ""
        lines.append(
            f"{axes}.plot({x}, {y}, color={colour!r}, linestyle={dash_of(trace.line.dash)!r}, "
            f"linewidth={(trace.line.width or 2) / POINT:.3g}{step}{alpha or alpha_argument(opacity)}{label})"
        )
        label = ""
    if "markers" in mode:
        lines.append(_markers(trace, name, axes, data, (x, y), alpha + label))
    if trace.error_y.array is not None:
        low = trace.error_y.array if trace.error_y.arrayminus is None else trace.error_y.arrayminus
        colour, _ = colour_of(trace.error_y.color or trace.marker.color or trace.line.color)
        errors = ", ".join(
            data.keep(f"{name}_{part}", each) for part, each in (("down", low), ("up", trace.error_y.array))
        )
        lines.append(
            f'{axes}.errorbar({x}, {y}, yerr=[{errors}], fmt="none", ecolor={colour!r}, '
            f"elinewidth={(trace.error_y.thickness or 1.5) / POINT:.3g})"
        )
    if "text" in mode and trace.text is not None:
        texts = trace.text if not isinstance(trace.text, str) else [trace.text] * len(trace.x)
        where = trace.textposition if isinstance(trace.textposition, str) else "middle center"
        shift = {"top": 8, "bottom": -8}.get(where.split()[0], 0)
        side = {"right": "left", "left": "right"}.get(where.split()[-1], "center")
        look = ""
        if isinstance(trace.textfont.size, int | float):
            look += f", fontsize={trace.textfont.size / POINT:.3g}"
        if isinstance(trace.textfont.color, str):
            look += f", color={colour_of(trace.textfont.color)[0]!r}"
        lines.append(
            f"for x, y, text in zip({x}, {y}, {[text_lines(each) for each in texts]!r}):\n"
            f'    {axes}.annotate(text, (x, y), xytext=(0, {shift}), textcoords="offset points", '
            f'ha="{side}", va="center"{look})'
        )
    return lines


def _markers(
    trace: go.Scatter, name: str, axes: str, data: ScriptData, places: tuple[str, str], more: str
) -> str:
    marker = trace.marker
    symbol = marker.symbol if isinstance(marker.symbol, str) else (marker.symbol or ["circle"])[0]
    shape = _MARKERS.get(symbol, "o")
    size = marker.size if marker.size is not None else 6
    if isinstance(size, int | float):
        area = f"{(size / POINT) ** 2:.4g}"
    else:
        area = (
            f"({data.keep(f'{name}_size', size)} / {POINT:.4g}) ** 2"
            if len(size) > SHORT
            else repr([round((each / POINT) ** 2, 2) for each in size])
        )
    thin = shape in "|_x"
    if thin:
        colour = repr(colour_of(marker.line.color or marker.color)[0])
    elif isinstance(marker.color, str) or marker.color is None:
        colour = repr(colour_of(marker.color or trace.line.color or "#1c2430")[0])
    else:
        colour = data.keep(f"{name}colour_of", marker.color)
    if (
        not isinstance(marker.color, str)
        and marker.color is not None
        and np.asarray(marker.color).dtype.kind in "fiu"
    ):
        more += f", cmap={_colour_map(marker.colorscale)}, vmin={marker.cmin!r}, vmax={marker.cmax!r}"
        paint = f"c={colour}"
    else:
        paint = f"color={colour}"
    if symbol.endswith("-open"):
        paint = f'facecolors="none", edgecolors={colour}'
    elif thin:
        more += f", linewidths={(marker.line.width or 1) / POINT:.3g}"
    elif marker.line.width:
        edge = colour_of(marker.line.color or "#ffffff")[0]
        more += f", edgecolors={edge!r}, linewidths={marker.line.width / POINT:.3g}"
        paint = paint.replace("color=", "facecolors=") if paint.startswith("color=") else paint
    else:
        more += ", linewidths=0"
    if isinstance(marker.opacity, int | float):
        more += alpha_argument(marker.opacity)
    return f"{axes}.scatter({places[0]}, {places[1]}, s={area}, marker={shape!r}, {paint}{more}, zorder=3)"


def bar_lines(trace: go.Bar, name: str, drawing: Drawing) -> list[str]:
    """Write bars, with their hatching and labels."""
    figure, axes, data = drawing.figure, drawing.axes, drawing.data
    x, y = _xy(trace, name, data)
    across = trace.orientation == "h"
    places, lengths = (y, x) if across else (x, y)
    gap = figure.layout.bargap if figure.layout.bargap is not None else 0.06
    width = f"{1 - gap:g}"
    if trace.width is not None:
        width = (
            data.keep(f"{name}_width", trace.width)
            if not isinstance(trace.width, int | float)
            else f"{trace.width:g}"
        )
    marker, more = trace.marker, ""
    opacity = 1.0 if marker.opacity is None else marker.opacity
    if isinstance(marker.color, str):
        colour, own = colour_of(marker.color)
        colour, opacity = repr(colour), own * opacity
    else:
        colour = data.keep(f"{name}colour_of", marker.color)
    if trace.base is not None:
        base = trace.base if isinstance(trace.base, int | float) else data.keep(f"{name}_base", trace.base)
        more += f", {'left' if across else 'bottom'}={base}"
    shape = marker.pattern.shape
    if isinstance(shape, str) and shape in _HATCHES:
        edge = colour_of(marker.pattern.fgcolor or "#ffffff")[0]
        more += f", hatch={_HATCHES[shape]!r}, edgecolor={edge!r}, linewidth=0"
        if opacity == 0:  # hatching alone
            more, colour = more + ", fill=False", repr(edge)
            opacity = 1.0
    more += alpha_argument(opacity)
    thickness = "height" if across else "width"
    lines = [
        f"{axes}.bar{'h' if across else ''}({places}, {lengths}, {thickness}={width}, color={colour}{more}"
        f"{drawing.label(trace)})"
    ]
    if trace.text is not None and not isinstance(trace.text, str) and trace.textposition != "none":
        lines.append(
            f"{axes}.bar_label({axes}.containers[-1], {[text_lines(each) for each in trace.text]!r}, padding=2)"
        )
    return lines


def _colour_map(scale: str | Sequence[tuple[float, str]] | None) -> str:
    """Write a colour scale as matplotlib's."""
    stops = get_colorscale(scale or "Greys") if scale is None or isinstance(scale, str) else scale
    written = [(round(float(place), 4), colour_of(colour)[0]) for place, colour in stops]
    return f'LinearSegmentedColormap.from_list("scale", {written!r})'


def heatmap_lines(trace: go.Heatmap, name: str, drawing: Drawing) -> list[str]:
    """Write a heat map, the names of its rows and columns, and its colour bar."""
    axes, data = drawing.axes, drawing.data
    z = data.keep(f"{name}_z", trace.z)
    height, width = np.shape(trace.z)
    edges = []
    for letter, count in (("x", width), ("y", height)):
        values = trace[letter]
        if values is not None and np.asarray(values).dtype.kind in "iuf":
            places = np.asarray(values, dtype=np.float64)
            if len(places) == count:
                middle = (places[:-1] + places[1:]) / 2
                first, last = (
                    (places[0] - (middle[0] - places[0]), places[-1] + places[-1] - middle[-1])
                    if count > 1
                    else (places[0] - 0.5, places[0] + 0.5)
                )
                places = np.concatenate([[first], middle, [last]])
            edges.append(data.keep(f"{name}_{letter}", places))
        else:
            start = float(trace[f"{letter}0"] or 0) if values is None else 0.0
            step = float(trace[f"d{letter}"] or 1) if values is None else 1.0
            edges.append(f"np.arange({count + 1}) * {step:g} + {start - step / 2:g}")
    low, high = trace.zmin, trace.zmax
    if trace.zmid is not None and low is None:
        reach = float(np.nanmax(np.abs(np.asarray(trace.z, dtype=np.float64) - trace.zmid)))
        low, high = trace.zmid - reach, trace.zmid + reach
    lines = [
        "from matplotlib.colors import LinearSegmentedColormap",
        f"picture = {axes}.pcolormesh({edges[0]}, {edges[1]}, {z}, cmap={_colour_map(trace.colorscale)}, "
        f"vmin={low!r}, vmax={high!r})",
    ]
    for letter in "xy":
        if (values := trace[letter]) is not None and np.asarray(values).dtype.kind not in "iuf":
            texts = [text_lines(each) for each in values]
            lines.append(f"{axes}.set_{letter}ticks(range({len(texts)}), {texts!r})")
    if trace.showscale is not False:
        title = trace.colorbar.title.text
        lines.append(f"figure.colorbar(picture, ax={axes}, label={text_lines(title) if title else ''!r})")
    return lines
