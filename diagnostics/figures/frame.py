"""The parts that all figures share: heading, axes, legend room, direct labels, hover boxes."""

import textwrap
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from diagnostics.figures.theme import PALETTES, Theme, escape, template
from diagnostics.numeric import Histogram

# Format of ticks: as many digits as neighbours need to differ, up to two.
PERCENT = ".2~%"
# Characters per line on a chart 420 px wide. Plotly breaks no lines itself, and cuts a title of two lines.
_SUBTITLE_CHARACTERS = 60
_AXIS_CHARACTERS = 44
# A title at the top left of the whole picture.
AT_TOP_LEFT = {"x": 0, "xref": "container", "xanchor": "left", "y": 1, "yref": "container", "yanchor": "top"}


def frame(
    theme: Theme,
    *,
    title: str,
    subtitle: str,
    x_title: str | None = None,
    y_title: str | None = None,
    plot_height: int = 290,
    right: int = 16,
    legend: bool = False,
    figure: go.Figure | None = None,
) -> go.Figure:
    """Begin a figure: template, heading, titles of the axes, and margins around a plot of `plot_height` pixels.

    The caller has escaped text from users in `title` and `subtitle`.

    Args:
        theme: light or dark.
        title: the figure's question.
        subtitle: a sentence below it, which is broken into lines.
        x_title: title of the horizontal axis.
        y_title: title of the upright axis.
        plot_height: height of the plot in pixels.
        right: width of the right margin in pixels.
        legend: whether there is a legend below the plot.
        figure: a figure with several plots to begin with; None: a new one.
    """
    # The plot keeps its height however many lines are above it; a legend may wrap into two lines below it.
    lines = textwrap.wrap(subtitle, _SUBTITLE_CHARACTERS, break_long_words=False)
    top, bottom = 48 + 16 * len(lines), 90 if legend else 48
    if x_title is not None and len(x_title) > _AXIS_CHARACTERS and "<br>" not in x_title:
        x_title, bottom = x_title.replace(" (", "<br>(", 1), bottom + 16
    figure = go.Figure() if figure is None else figure
    # Assigned one by one: Plotly's `update_layout` takes three times as long.
    layout = figure.layout
    layout.template = template(theme)
    layout.title = {
        "text": f"<b>{title}</b>",
        "subtitle": {"text": "<br>".join(lines)},
        **AT_TOP_LEFT,
        "pad": {"t": 10, "l": 12},
    }
    layout.margin = {"l": 56, "r": right, "t": top, "b": bottom}
    layout.height = top + plot_height + bottom
    layout.showlegend = legend
    layout.hovermode = "closest"
    layout.xaxis.title.text, layout.yaxis.title.text = x_title, y_title
    return figure


def note(figure: go.Figure, theme: Theme, text: str, **where: object) -> None:
    """Write a word into a figure in small, quiet letters; `where` goes to `add_annotation`."""
    font = {"size": 11, "color": PALETTES[theme].muted}
    figure.add_annotation(text=text, showarrow=False, font=font, **where)


def edge_label(figure: go.Figure, theme: Theme, text: str, x: float, y: float, label_y: float) -> None:
    """Write a label beyond the right edge at the height `label_y`, with a thin line to a curve's point at (x, y)."""
    at = {"x": x, "y": y, "ax": 1.005, "ay": label_y, "axref": "x", "ayref": "y", "xanchor": "left"}
    arrow = {"showarrow": True, "arrowhead": 0, "arrowwidth": 0.8, "arrowcolor": PALETTES[theme].faint}
    figure.add_annotation(text=text, **at, **arrow)


def log_axis(figure: go.Figure, values: np.ndarray) -> None:
    """Make the horizontal axis logarithmic, with ticks at 1, 2 and 5 of each decade of positive values."""
    ticks: list[float] = []
    if len(values):
        low, high = (int(np.floor(np.log10(end))) for end in (values.min(), values.max()))
        if high - low < 3:
            ticks = [step * 10.0**decade for decade in range(low, high + 1) for step in (1, 2, 5)]
        else:  # with many decades, only every few
            ticks = [10.0**decade for decade in range(low, high + 2, max(1, (high - low) // 6))]
    figure.update_xaxes(type="log", tickvals=ticks, ticktext=[f"{tick:g}" for tick in ticks])


def histogram_axes(figure: go.Figure, theme: Theme, bins: Histogram, low: float, high: float) -> None:
    """Fit the axes of a histogram to its bins and to counts from `low`, below 0 if rows are drawn there, to `high`."""
    margin = 0.04 * (bins.edges[-1] - bins.edges[0])
    figure.update_xaxes(range=[bins.edges[0] - margin, bins.edges[-1] + margin], nticks=8)
    decade = 10.0 ** np.floor(np.log10(max(1.0, high / 5)))
    step = max(1, int(decade * next(each for each in (1, 2, 5, 10) if each * decade >= high / 5)))
    ticks = list(range(0, int(high) + 1, step))
    figure.update_yaxes(range=[low, high], tickvals=ticks, ticktext=[f"{tick:,}" for tick in ticks])
    figure.update_yaxes(zeroline=True, zerolinecolor=PALETTES[theme].faint)


def clipped(label: str, characters: int) -> str:
    """Escape a label, and cut it after so many characters."""
    return escape(label if len(label) <= characters else f"{label[: characters - 1]}…")


def enlarged(figure: go.Figure, factor: float) -> go.Figure:
    """Enlarge letters, marks and heights of a figure by `factor`, for readers at the far end of a room."""

    def scaled(value: object, key: str, inside: str) -> object:
        if isinstance(value, dict):
            return {name: scaled(item, name, key) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [scaled(item, key, inside) for item in value]
        lengths = (key == "size" and inside != "pattern") or key in ("xshift", "yshift", "standoff")
        lengths = lengths or (key == "height" and inside == "layout") or inside == "margin"
        return value * factor if lengths and isinstance(value, int | float) else value

    return go.Figure(scaled(figure.to_plotly_json(), "", ""))


def float32(values: object) -> np.ndarray:
    """Convert numbers to float32 for the browser: half the bytes, and still more digits than pixels."""
    return np.asarray(values, dtype=np.float32)


def spread_labels(positions: Sequence[float], gap: float) -> list[float]:
    """Move positions as little as needed, by least squares and in order, until neighbours are at least `gap` apart."""
    from scipy.optimize import isotonic_regression  # takes time to import

    order = np.argsort(positions, kind="stable")
    offsets = gap * np.arange(len(order))
    flat = isotonic_regression(np.asarray(positions, dtype=np.float64)[order] - offsets).x + offsets
    result = np.empty(len(flat))
    result[order] = flat
    return result.tolist()


def slot_letter(label: str) -> str:
    """Return the letter of a slot's label, for sentences next to a legend; a label without one as it is."""
    return label.partition(" · ")[0]


def signed(value: float, pattern: str) -> str:
    """Format a number with its sign, the minus a real one."""
    return format(value, "+" + pattern).replace("-", "−")
