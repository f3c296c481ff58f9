"""A figure as matplotlib code: its axes, shapes, notes and legend."""

import numpy as np
import plotly.graph_objects as go

from diagnostics.figure_code.data import ScriptData, text_lines, trace_names
from diagnostics.figure_code.looks import INCH, POINT, alpha_argument, colour_of, dash_of
from diagnostics.figure_code.matplotlib_traces import Drawing, bar_lines, heatmap_lines, scatter_lines

_PLACES = {"left": "left", "right": "right", "center": "center", "auto": "center"}
_HEIGHTS = {"top": "top", "bottom": "bottom", "middle": "center", "auto": "center"}


def matplotlib_code(figure: go.Figure) -> tuple[str, dict[str, np.ndarray]]:
    """Write a figure as matplotlib code, and the arrays of its `data.npz`.

    Lines, marks, bars, heat maps, notes, axes and legend look as in Plotly; only positions of letters differ slightly.
    """
    data = ScriptData()
    layout = figure.layout
    pairs = list(dict.fromkeys((trace.xaxis or "x", trace.yaxis or "y") for trace in figure.data)) or [
        ("x", "y")
    ]
    body: list[str] = []
    for index, (x, y) in enumerate(pairs):
        axes = "axes" if len(pairs) == 1 else f"axes[{index}]"
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
            f'figure.suptitle({text_lines(layout.title.text)!r}, x=0.01, ha="left", fontsize={size:.3g}, '
            'fontweight="bold")'
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
    """Return the arrangement of the pairs of axes: one above the other, top first, or side by side."""
    if len(pairs) == 1:
        return "", 1, 1
    tops = [_axis(figure, y).domain or (0, 1) for _, y in pairs]
    if len({tuple(top) for top in tops}) == 1:
        return "", 1, len(pairs)
    order = sorted(range(len(pairs)), key=lambda index: -tops[index][0])
    inverse = [order.index(index) for index in range(len(pairs))]
    return f"[{inverse}]" if inverse != list(range(len(pairs))) else "", len(pairs), 1


def _axis(figure: go.Figure, name: str) -> go.layout.XAxis:
    return figure.layout[f"{name[0]}axis{name[1:]}"]


def _axes_lines(figure: go.Figure, pair: tuple[str, str], axes: str, data: ScriptData) -> list[str]:
    lines: list[str] = []
    drawing = Drawing(figure, axes, data)
    for trace, name in zip(figure.data, trace_names(figure), strict=True):
        if (trace.xaxis or "x", trace.yaxis or "y") != pair or trace.visible is False:
            continue
        draw = {"scatter": scatter_lines, "bar": bar_lines, "heatmap": heatmap_lines}.get(trace.type)
        if draw is None:
            lines.append(
                f"# {text_lines(trace.name)!r} is a trace of type {trace.type}, which only the Plotly script draws"
            )
            continue
        lines += draw(trace, name, drawing)
        drawing.before = trace, name
    lines += _shapes(figure, pair, axes)
    lines += _notes(figure, pair, axes)
    for letter, axis in zip("xy", (_axis(figure, pair[0]), _axis(figure, pair[1])), strict=True):
        lines += _axis_lines(letter, axis, axes)
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
        colour, opacity = colour_of(shape.line.color or "#1c2430")
        width = (shape.line.width or 2) / POINT
        look = f"color={colour!r}, linestyle={dash_of(shape.line.dash)!r}, linewidth={width:.3g}"
        look += alpha_argument(opacity if shape.opacity is None else shape.opacity)
        if shape.type == "rect":
            colour, opacity = colour_of(shape.fillcolor or "#cccccc")
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
        colour, _ = colour_of(note.font.color or "#1c2430")
        lines.append(
            f"{axes}.annotate({text_lines(note.text)!r}, ({x!r}, {y!r}), xycoords={system}{more}, "
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
        lines.append(f"{axes}.set_{letter}label({text_lines(axis.title.text)!r})")
    if axis.range is not None:
        low, high = (10**each if log else each for each in map(float, axis.range))
        lines.append(f"{axes}.set_{letter}lim({low:.6g}, {high:.6g})")
    elif axis.autorange == "reversed":
        lines.append(f"{axes}.invert_{letter}axis()")
    if axis.tickvals is not None:
        texts = "" if axis.ticktext is None else f", {[text_lines(each) for each in axis.ticktext]!r}"
        lines.append(f"{axes}.set_{letter}ticks({[float(each) for each in axis.tickvals]!r}{texts})")
    elif axis.nticks and not log:
        lines.append(
            f"{axes}.{letter}axis.set_major_locator(MaxNLocator({axis.nticks}, steps=[1, 2, 5, 10]))"
        )
    if axis.tickvals is None and axis.tickformat and "%" in axis.tickformat and not log:
        lines.append(
            f'{axes}.{letter}axis.set_major_formatter(FuncFormatter(lambda value, _: f"{{100 * value:.4g}}%"))'
        )
    if axis.visible is False:
        lines.append(f'{axes}.axis("off")')
    if letter == "y" and axis.scaleanchor:
        lines.append(f'{axes}.set_aspect("equal")')
    if letter == "y" and axis.showgrid is not False:
        lines.append(f'{axes}.grid(axis="y", color="#e9ecf0", linewidth=0.6)\n{axes}.set_axisbelow(True)')
    return lines
