"""A figure as a few lines of Plotly and of matplotlib, with its numbers, so that it can be made again."""

import html
import io
import json
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import plotly.graph_objects as go
from plotly.colors import get_colorscale
from plotly.utils import PlotlyJSONEncoder

from diagnostics.export import arrays_npz

INCH, POINT = 96, 96 / 72  # pixels
_SHORT = 12  # more numbers than these go into the file
_LINE_STYLES = {
    "solid": "-",
    "dash": "--",
    "dot": ":",
    "dashdot": "-.",
    "longdash": (0, (8, 3)),
    "longdashdot": (0, (8, 3, 1, 3)),
}
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
_PLACES = {"left": "left", "right": "right", "center": "center", "auto": "center"}
_HEIGHTS = {"top": "top", "bottom": "bottom", "middle": "center", "auto": "center"}


@dataclass
class _Data:
    """The arrays that the code loads, by name."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def keep(self, name: str, values: object) -> str:
        """Store numbers and return the expression that reads them; a few are written into the code."""
        array = _array(values)
        if array.ndim == 1 and len(array) <= _SHORT:
            if array.dtype.kind == "f":
                return (
                    "["
                    + ", ".join(f"{float(each):.6g}" if np.isfinite(each) else "np.nan" for each in array)
                    + "]"
                )
            return repr(array.tolist())
        self.arrays[name] = array
        return f'data["{name}"]'


def _array(values: object) -> np.ndarray:
    """Return numbers with NaN for gaps, or texts."""
    array = np.asarray(values)
    if array.dtype != object:
        return array
    gaps = [each is None for each in array.ravel()]
    known = [each for each, gap in zip(array.ravel(), gaps, strict=True) if not gap]
    if all(isinstance(each, int | float) for each in known):
        return array.astype(np.float64)
    return array.astype(str)


def figure_zip(figure: go.Figure, caption: str, numbers: bytes | None) -> bytes:
    """Pack what makes a printed figure again: two scripts, the arrays they draw, its look, caption and numbers.

    Args:
        figure: as `printed` returns it.
        caption: written as it is.
        numbers: the table of everything behind the chart, as CSV.
    """
    plotly, plotly_data = plotly_code(figure)
    matplotlib, matplotlib_data = matplotlib_code(figure)
    files: dict[str, str | bytes] = {
        "figure_plotly.py": plotly,
        "figure_matplotlib.py": matplotlib,
        "data.npz": arrays_npz({**plotly_data, **matplotlib_data}),
        "layout.json": json.dumps(figure.layout.to_plotly_json(), cls=PlotlyJSONEncoder, indent=1),
        "caption.txt": caption + "\n",
    }
    if numbers is not None:
        files["numbers.csv"] = numbers
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as folder:
        for name, content in files.items():
            folder.writestr(name, content)
    return packed.getvalue()


def _names(figure: go.Figure) -> list[str]:
    """Name each trace for its arrays: letters and digits of its own name, each once."""
    names: list[str] = []
    for place, trace in enumerate(figure.data):
        words = re.sub(r"\W+", "_", _plain(trace.name or trace.type)).strip("_")[:40] or trace.type
        names.append(words if words not in names else f"{words}_{place}")
    return names


def _plain(text: object) -> str:
    return html.unescape(re.sub(r"</?b>", "", re.sub(r"<br\s*/?>", "\n", str(text))))


def plotly_code(figure: go.Figure) -> tuple[str, dict[str, np.ndarray]]:
    """Write a figure as Plotly code, which gives the very same figure, and the arrays of its `data.npz`.

    The layout is next to it in `layout.json`.
    """
    data, lines = _Data(), []
    for trace, name in zip(figure.data, _names(figure), strict=True):
        content = trace.to_plotly_json()
        kind = content.pop("type")
        arguments = ", ".join(
            f"{key}={_expression(value, f'{name}_{key}', data)}" for key, value in content.items()
        )
        lines.append(f"figure.add_{kind}({arguments})")
    code = [
        "import json",
        "from pathlib import Path",
        "",
        "import numpy as np",
        "import plotly.graph_objects as go",
        "",
        'data = np.load("data.npz")',
        'figure = go.Figure(layout=json.loads(Path("layout.json").read_text(encoding="utf-8")))',
        *lines,
        'figure.write_image("figure_plotly.pdf")  # needs the package kaleido and a Chrome; or figure.show()',
        "",
    ]
    return "\n".join(code), data.arrays


def _expression(value: object, name: str, data: _Data) -> str:
    if isinstance(value, dict):
        inside = ", ".join(
            f"{key!r}: {_expression(item, f'{name}_{key}', data)}" for key, item in value.items()
        )
        return "{" + inside + "}"
    if isinstance(value, np.ndarray):
        data.arrays[name] = _array(value)
        return f'data["{name}"]'
    if (
        isinstance(value, list | tuple)
        and len(value) > _SHORT
        and not any(isinstance(each, list | tuple) for each in value)
    ):
        return data.keep(name, value)
    return repr(value)


def matplotlib_code(figure: go.Figure) -> tuple[str, dict[str, np.ndarray]]:
    """Write a figure as matplotlib code, and the arrays of its `data.npz`.

    Lines, marks, bars, heat maps, notes, axes and legend are drawn as Plotly does; only where letters stand differs a
    little.
    """
    data = _Data()
    layout = figure.layout
    pairs = list(dict.fromkeys((trace.xaxis or "x", trace.yaxis or "y") for trace in figure.data)) or [
        ("x", "y")
    ]
    body: list[str] = []
    for place, (x, y) in enumerate(pairs):
        axes = "axes" if len(pairs) == 1 else f"axes[{place}]"
        body += _axes_lines(figure, (x, y), axes, data)
    letter = layout.font.size or layout.template.layout.font.size or 12
    fill, rows, columns = _grid(figure, pairs)
    head = [
        "import matplotlib.pyplot as plt",
        "import numpy as np",
        "from matplotlib.ticker import FuncFormatter, MaxNLocator",
        "",
        'data = np.load("data.npz")',
        f'plt.rcParams.update({{"font.size": {letter / POINT:.3g}, "pdf.fonttype": 42, "axes.spines.top": False, '
        '"axes.spines.left": False, "ytick.left": False, "axes.edgecolor": "#a9b1bb", "axes.labelcolor": "#5c6773", '
        '"xtick.color": "#5c6773", "ytick.color": "#5c6773", '
        '"axes.spines.right": False, "font.sans-serif": ["Arial", "Liberation Sans", "DejaVu Sans"]})',
        f"figure, axes = plt.subplots({rows}, {columns}, "
        f"figsize=({layout.width / INCH:.4g}, {layout.height / INCH:.4g}), "
        'layout="constrained")',
    ]
    if len(pairs) > 1:
        head.append(f"axes = np.ravel(axes){fill}")
    if layout.title.text:
        size = (layout.title.font.size or 1.25 * letter) / POINT
        body.append(
            f'figure.suptitle({_plain(layout.title.text)!r}, x=0.01, ha="left", fontsize={size:.3g}, fontweight="bold")'
        )
    if layout.showlegend:
        body += [
            "named = [each.get_legend_handles_labels() for each in np.ravel(axes)]",
            "handles, labels = (sum((pair[part] for pair in named), []) for part in (0, 1))",
            'figure.legend(handles, labels, loc="outside lower left", ncols=2, frameon=False, handlelength=3)',
        ]
    body += ['figure.savefig("figure_matplotlib.pdf")', ""]
    return "\n".join(head + body), data.arrays


def _grid(figure: go.Figure, pairs: list[tuple[str, str]]) -> tuple[str, int, int]:
    """Return how the pairs of axes are arranged: one above the other, or side by side, top first."""
    if len(pairs) == 1:
        return "", 1, 1
    tops = [_axis(figure, y).domain or (0, 1) for _, y in pairs]
    if len({tuple(top) for top in tops}) == 1:
        return "", 1, len(pairs)
    order = sorted(range(len(pairs)), key=lambda place: -tops[place][0])
    inverse = [order.index(place) for place in range(len(pairs))]
    return f"[{inverse}]" if inverse != list(range(len(pairs))) else "", len(pairs), 1


def _axis(figure: go.Figure, name: str) -> go.layout.XAxis:
    return figure.layout[f"{name[0]}axis{name[1:]}"]


def _axes_lines(figure: go.Figure, pair: tuple[str, str], axes: str, data: _Data) -> list[str]:
    lines: list[str] = []
    before = None
    for trace, name in zip(figure.data, _names(figure), strict=True):
        if (trace.xaxis or "x", trace.yaxis or "y") != pair or trace.visible is False:
            continue
        draw = {"scatter": _scatter, "bar": _bar, "heatmap": _heatmap}.get(trace.type)
        if draw is None:
            lines.append(
                f"# {_plain(trace.name)!r} is a trace of type {trace.type}, which only the Plotly script draws"
            )
            continue
        lines += draw(figure, trace, name, axes, data, before)
        before = trace, name
    lines += _shapes(figure, pair, axes)
    lines += _notes(figure, pair, axes)
    for letter, axis in zip("xy", (_axis(figure, pair[0]), _axis(figure, pair[1])), strict=True):
        lines += _axis_lines(letter, axis, axes)
    return lines


def _colour(value: object) -> tuple[str, float]:
    """Return a CSS colour as matplotlib's, and its opacity."""
    if isinstance(value, str) and (found := re.fullmatch(r"rgba?\(([^)]*)\)", value)):
        numbers = [float(each) for each in found[1].split(",")]
        hexadecimal = "#" + "".join(f"{round(each):02x}" for each in numbers[:3])
        return hexadecimal, numbers[3] if len(numbers) > 3 else 1.0
    return str(value), 1.0


def _legend_label(figure: go.Figure, trace: go.Scatter) -> str:
    shown = bool(figure.layout.showlegend) and trace.showlegend is not False and trace.name
    return f", label={_plain(trace.name)!r}" if shown else ""


def _xy(trace: go.Scatter, name: str, data: _Data) -> tuple[str, str]:
    count = len(trace.x if trace.x is not None else trace.y)
    x = data.keep(f"{name}_x", np.arange(count) if trace.x is None else trace.x)
    y = data.keep(f"{name}_y", np.arange(count) if trace.y is None else trace.y)
    return x, y


def _dash(dash: str | None) -> object:
    if dash in _LINE_STYLES:
        return _LINE_STYLES[dash]
    lengths = tuple(float(each) for each in re.findall(r"[\d.]+", dash or ""))
    return (0, tuple(each / 2 for each in lengths)) if lengths else "-"


def _scatter(
    figure: go.Figure, trace: go.Scatter, name: str, axes: str, data: _Data, before: tuple | None
) -> list[str]:
    x, y = _xy(trace, name, data)
    mode = trace.mode or "lines"
    label, lines = _legend_label(figure, trace), []
    alpha = "" if trace.opacity is None else f", alpha={trace.opacity:g}"
    if trace.fill in ("tonexty", "tozeroy"):
        colour, opacity = _colour(trace.fillcolor or trace.line.color)
        below = "0"
        if trace.fill == "tonexty" and before is not None:
            previous, previous_name = before
            px, py = _xy(previous, previous_name, data)
            below = py if len(previous.x) == len(trace.x) else f"np.interp({x}, {px}, {py})"
        area = "" if "lines" in mode and trace.line.width != 0 else label
        lines.append(
            f"{axes}.fill_between({x}, {y}, {below}, color={colour!r}, alpha={opacity:g}, linewidth=0{area})"
        )
    if "lines" in mode and (trace.line.width is None or trace.line.width > 0):
        colour, opacity = _colour(trace.line.color)
        step = ', drawstyle="steps-post"' if trace.line.shape == "hv" else ""
        lines.append(
            f"{axes}.plot({x}, {y}, color={colour!r}, linestyle={_dash(trace.line.dash)!r}, "
            f"linewidth={(trace.line.width or 2) / POINT:.3g}{step}{alpha or _alpha(opacity)}{label})"
        )
        label = ""
    if "markers" in mode:
        lines.append(_markers(trace, name, axes, data, (x, y), alpha + label))
    if trace.error_y.array is not None:
        low = trace.error_y.array if trace.error_y.arrayminus is None else trace.error_y.arrayminus
        colour, _ = _colour(trace.error_y.color or trace.marker.color or trace.line.color)
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
        lines.append(
            f"for x, y, text in zip({x}, {y}, {[_plain(each) for each in texts]!r}):\n"
            f'    {axes}.annotate(text, (x, y), xytext=(0, {shift}), textcoords="offset points", '
            'ha="center", va="center")'
        )
    return lines


def _alpha(opacity: float) -> str:
    return "" if opacity == 1 else f", alpha={opacity:g}"


def _markers(trace: go.Scatter, name: str, axes: str, data: _Data, places: tuple[str, str], more: str) -> str:
    marker = trace.marker
    symbol = marker.symbol if isinstance(marker.symbol, str) else (marker.symbol or ["circle"])[0]
    shape = _MARKERS.get(symbol, "o")
    size = marker.size if marker.size is not None else 6
    if isinstance(size, int | float):
        area = f"{(size / POINT) ** 2:.4g}"
    else:
        area = (
            f"({data.keep(f'{name}_size', size)} / {POINT:.4g}) ** 2"
            if len(size) > _SHORT
            else repr([round((each / POINT) ** 2, 2) for each in size])
        )
    thin = shape in "|_x"
    if thin:
        colour = repr(_colour(marker.line.color or marker.color)[0])
    elif isinstance(marker.color, str) or marker.color is None:
        colour = repr(_colour(marker.color or trace.line.color or "#1c2430")[0])
    else:
        colour = data.keep(f"{name}_colour", marker.color)
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
        edge = _colour(marker.line.color or "#ffffff")[0]
        more += f", edgecolors={edge!r}, linewidths={marker.line.width / POINT:.3g}"
        paint = paint.replace("color=", "facecolors=") if paint.startswith("color=") else paint
    else:
        more += ", linewidths=0"
    if isinstance(marker.opacity, int | float):
        more += _alpha(marker.opacity)
    return f"{axes}.scatter({places[0]}, {places[1]}, s={area}, marker={shape!r}, {paint}{more}, zorder=3)"


def _bar(
    figure: go.Figure, trace: go.Bar, name: str, axes: str, data: _Data, before: tuple | None
) -> list[str]:
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
        colour, own = _colour(marker.color)
        colour, opacity = repr(colour), own * opacity
    else:
        colour = data.keep(f"{name}_colour", marker.color)
    if trace.base is not None:
        base = trace.base if isinstance(trace.base, int | float) else data.keep(f"{name}_base", trace.base)
        more += f", {'left' if across else 'bottom'}={base}"
    shape = marker.pattern.shape
    if isinstance(shape, str) and shape in _HATCHES:
        edge = _colour(marker.pattern.fgcolor or "#ffffff")[0]
        more += f", hatch={_HATCHES[shape]!r}, edgecolor={edge!r}, linewidth=0"
        if opacity == 0:  # hatching alone
            more, colour = more + ", fill=False", repr(edge)
            opacity = 1.0
    more += _alpha(opacity)
    thickness = "height" if across else "width"
    lines = [
        f"{axes}.bar{'h' if across else ''}({places}, {lengths}, {thickness}={width}, color={colour}{more}"
        f"{_legend_label(figure, trace)})"
    ]
    if trace.text is not None and not isinstance(trace.text, str) and trace.textposition != "none":
        lines.append(
            f"{axes}.bar_label({axes}.containers[-1], {[_plain(each) for each in trace.text]!r}, padding=2)"
        )
    return lines


def _colour_map(scale: str | Sequence[tuple[float, str]] | None) -> str:
    """Write a colour scale as matplotlib's."""
    stops = get_colorscale(scale or "Greys") if scale is None or isinstance(scale, str) else scale
    written = [(round(float(place), 4), _colour(colour)[0]) for place, colour in stops]
    return f'LinearSegmentedColormap.from_list("scale", {written!r})'


def _heatmap(
    figure: go.Figure, trace: go.Heatmap, name: str, axes: str, data: _Data, before: tuple | None
) -> list[str]:
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
            texts = [_plain(each) for each in values]
            lines.append(f"{axes}.set_{letter}ticks(range({len(texts)}), {texts!r})")
    if trace.showscale is not False:
        title = trace.colorbar.title.text
        lines.append(f"figure.colorbar(picture, ax={axes}, label={_plain(title) if title else ''!r})")
    return lines


def _belongs(reference: str | None, letter: str, pair: tuple[str, str]) -> bool:
    axis = pair[letter == "y"]
    return reference in (None, "paper") or str(reference).removesuffix(" domain") == axis


def _outside(figure: go.Figure, pair: tuple[str, str], x: object, y: object) -> bool:
    """Return whether a place lies beyond the range of an axis, where Plotly draws no note."""
    for name, value in zip(pair, (x, y), strict=True):
        limits = _axis(figure, name).range
        if limits is not None and isinstance(value, int | float) and not min(limits) <= value <= max(limits):
            return True
    return False


def _shapes(figure: go.Figure, pair: tuple[str, str], axes: str) -> list[str]:
    lines = []
    for shape in figure.layout.shapes:
        if not (_belongs(shape.xref, "x", pair) and _belongs(shape.yref, "y", pair)):
            continue
        colour, opacity = _colour(shape.line.color or "#1c2430")
        width = (shape.line.width or 2) / POINT
        look = f"color={colour!r}, linestyle={_dash(shape.line.dash)!r}, linewidth={width:.3g}"
        look += _alpha(opacity if shape.opacity is None else shape.opacity)
        if shape.type == "rect":
            colour, opacity = _colour(shape.fillcolor or "#cccccc")
            opacity *= 1 if shape.opacity is None else shape.opacity
            lines.append(
                f"{axes}.axvspan({shape.x0!r}, {shape.x1!r}, color={colour!r}, alpha={opacity:g}, linewidth=0)"
            )
        elif str(shape.xref).endswith("domain") or shape.xref == "paper":
            lines.append(f"{axes}.axhline({shape.y0!r}, {look})")
        elif str(shape.yref).endswith("domain") or shape.yref == "paper":
            lines.append(f"{axes}.axvline({shape.x0!r}, {look})")
        else:
            lines.append(f"{axes}.plot([{shape.x0!r}, {shape.x1!r}], [{shape.y0!r}, {shape.y1!r}], {look})")
    return lines


def _notes(figure: go.Figure, pair: tuple[str, str], axes: str) -> list[str]:
    lines = []
    for note in figure.layout.annotations:
        if not (_belongs(note.xref, "x", pair) and _belongs(note.yref, "y", pair)):
            continue
        kinds = "".join(
            "p" if reference == "paper" or str(reference).endswith("domain") else letter
            for reference, letter in ((note.xref, "x"), (note.yref, "y"))
        )
        system = {
            "xy": '"data"',
            "py": f"{axes}.get_yaxis_transform()",
            "xp": f"{axes}.get_xaxis_transform()",
            "pp": '"axes fraction"',
        }[kinds]
        x, y = note.x, note.y
        inside = [value if kind in "xy" else None for kind, value in zip(kinds, (x, y), strict=True)]
        if _outside(figure, pair, *inside):
            continue
        for letter, axis in zip("xy", pair, strict=True):
            if kinds["xy".index(letter)] == letter and _axis(figure, axis).type == "log":
                x, y = (10**x, y) if letter == "x" else (x, 10**y)
        shift = f"{(note.xshift or 0) / POINT:.3g}, {(note.yshift or 0) / POINT:.3g}"
        more = f', xytext=({shift}), textcoords="offset points"'
        if note.showarrow and note.axref == pair[0] and note.ayref == pair[1]:
            more = f", xytext=({note.ax!r}, {note.ay!r}), "
            more += 'arrowprops={"arrowstyle": "-", "color": "#a9b1bb", "linewidth": 0.5}'
        size = note.font.size or figure.layout.template.layout.annotationdefaults.font.size or 12
        colour, _ = _colour(note.font.color or "#1c2430")
        lines.append(
            f"{axes}.annotate({_plain(note.text)!r}, ({x!r}, {y!r}), xycoords={system}{more}, "
            f'ha="{_PLACES[note.xanchor or "auto"]}", va="{_HEIGHTS[note.yanchor or "auto"]}", '
            f"fontsize={size / POINT:.3g}, color={colour!r}, annotation_clip=False)"
        )
    return lines


def _axis_lines(letter: str, axis: go.layout.XAxis, axes: str) -> list[str]:
    lines = []
    log = axis.type == "log"
    if log:
        lines.append(f'{axes}.set_{letter}scale("log")')
    if axis.title.text:
        lines.append(f"{axes}.set_{letter}label({_plain(axis.title.text)!r})")
    if axis.range is not None:
        low, high = (10**each if log else each for each in map(float, axis.range))
        lines.append(f"{axes}.set_{letter}lim({low:.6g}, {high:.6g})")
    elif axis.autorange == "reversed":
        lines.append(f"{axes}.invert_{letter}axis()")
    if axis.tickvals is not None:
        texts = "" if axis.ticktext is None else f", {[_plain(each) for each in axis.ticktext]!r}"
        lines.append(f"{axes}.set_{letter}ticks({[float(each) for each in axis.tickvals]!r}{texts})")
    elif axis.nticks and not log:
        lines.append(
            f"{axes}.{letter}axis.set_major_locator(MaxNLocator({axis.nticks}, steps=[1, 2, 5, 10]))"
        )
    if axis.tickvals is None and axis.tickformat and "%" in axis.tickformat and not log:
        lines.append(
            f'{axes}.{letter}axis.set_major_formatter(FuncFormatter(lambda value, _: f"{{100 * value:.4g}}%"))'
        )
    if letter == "y" and axis.showgrid is not False:
        lines.append(f'{axes}.grid(axis="y", color="#e9ecf0", linewidth=0.6)\n{axes}.set_axisbelow(True)')
    return lines
