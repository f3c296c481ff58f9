"""Parts that several figures draw: histogram bars and outlines, steps, bands, lines at medians."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import plotly.graph_objects as go

from diagnostics.allocation import Ecdf, RowScatter
from diagnostics.figures.frame import float32
from diagnostics.figures.theme import PALETTES, Style, Theme, escape
from diagnostics.format import count_rows
from diagnostics.numeric import Histogram, histogram

_SHARE_BINS = 50


def histogram_bars(
    figure: go.Figure,
    theme: Theme,
    bins: Histogram,
    labels: Sequence[str],
    styles: Sequence[Style],
    quantity: str,
    form: str = ".4g",
) -> int:
    """Draw one set of bars, or an outline per label; return the largest height. Customdata: the bin's index."""
    limits = bin_texts(bins, lambda edge: format(edge, form))
    indices = np.arange(len(bins.centers), dtype=np.int32)
    for counts, label, style in zip(bins.counts.astype(np.int32), labels, styles, strict=True):
        common = {
            "name": escape(label),
            "hovertemplate": f"<b>%{{y:,}} rows</b> with {quantity} %{{text}}<extra>{escape(label)}</extra>",
        }
        if len(labels) == 1:
            figure.add_bar(
                x=float32(bins.centers),
                y=counts,
                width=float32(np.diff(bins.edges)),
                customdata=indices,
                text=limits,
                textposition="none",
                marker={
                    "color": style.colour,
                    "opacity": 0.85,
                    "line": {"width": 0.5, "color": PALETTES[theme].surface},
                },
                **common,
            )
            continue
        # Outlines from edge to edge of each bin and down to 0 at both ends, because fills would hide each other.
        figure.add_scatter(
            x=float32(np.repeat(bins.edges, 2)),
            y=np.concatenate([[0], np.repeat(counts, 2), [0]]),
            mode="lines",
            line={"color": style.colour, "width": 2, "dash": style.dash},
            customdata=np.concatenate([indices[:1], np.repeat(indices, 2), indices[-1:]]),
            text=[limits[0], *np.repeat(limits, 2).tolist(), limits[-1]],
            **common,
        )
    return int(bins.counts.max())


def bin_texts(bins: Histogram, text: Callable[[float], str]) -> list[str]:
    """Return the limits of each bin as text: "0.1 to 0.2"."""
    return [f"{text(low)} to {text(high)}" for low, high in itertools.pairwise(bins.edges.tolist())]


def ecdf_steps(
    figure: go.Figure, steps: Ecdf, ends: tuple[float, float], style: Style, label: str, hover: str
) -> None:
    """Draw an empirical distribution function from one end of the axis to the other; `label` as HTML."""
    low, high = ends
    figure.add_scatter(
        x=float32([low, *steps.values, high]),
        y=float32([0, *steps.share, 1]),
        mode="lines",
        name=label,
        line={"color": style.colour, "width": 2, "dash": style.dash, "shape": "hv"},
        hovertemplate=f"{label}: <b>%{{y:.1%}} of rows</b> have<br>{hover} or less<extra></extra>",
    )


def share_outlines(figure: go.Figure, sets: Sequence[tuple[str, np.ndarray, str, str]], hover: str) -> None:
    """Draw how shares are distributed, as steps in common bins.

    Args:
        figure: the figure to draw into.
        sets: name, numbers, colour and dash of each set.
        hover: the hover text of a step.
    """
    low, high = (float(end([end(values) for _, values, _, _ in sets])) for end in (np.min, np.max))
    if high - low < 1e-6:
        low, high = low - 0.005, high + 0.005
    edges = np.linspace(low, high, _SHARE_BINS + 1)
    bins = histogram([values for _, values, _, _ in sets], edges)
    for (name, values, colour, dash), counts in zip(sets, bins.counts, strict=True):
        figure.add_scatter(
            x=float32(np.repeat(edges, 2)),
            y=float32(np.concatenate([[0.0], np.repeat(counts / values.size, 2), [0.0]])),
            mode="lines",
            line={"color": colour, "dash": dash, "width": 1.5},
            name=name,
            hovertemplate=f"{hover}<extra>{name}</extra>",
        )
    figure.update_xaxes(tickformat=".1%")
    figure.update_yaxes(rangemode="tozero", tickformat=".0%")


def spread_band(
    figure: go.Figure, x: np.ndarray, low: np.ndarray, high: np.ndarray, colour: str, name: str
) -> None:
    """Draw the area between two lines (P,)."""
    figure.add_scatter(
        x=float32(np.concatenate([x, x[::-1]])),
        y=float32(np.concatenate([low, high[::-1]])),
        fill="toself",
        fillcolor=colour,
        line={"width": 0},
        hoverinfo="skip",
        name=name,
    )


def median_lines(
    figure: go.Figure,
    theme: Theme,
    bins: Histogram,
    labels: Sequence[str],
    styles: Sequence[Style],
    medians: Sequence[float],
) -> int:
    """Mark the medians that are not NaN above the bars or outlines of `bins`; return their number."""
    top = int(bins.counts.max())
    several = len(labels) > 1
    defined = [
        (median, label, style)
        for median, label, style in zip(medians, labels, styles, strict=True)
        if not np.isnan(median)
    ]
    # Labels are on the side of their lines with more room, and the line at the other end is the tallest, so that no
    # line crosses a label.
    middle = (bins.edges[0] + bins.edges[-1]) / 2
    leftwards = bool(sum(median - middle for median, _, _ in defined) > 0)
    ordered = sorted(defined, key=lambda entry: entry[0], reverse=leftwards)
    for position, (median, label, style) in enumerate(ordered):
        height = top * (1.1 + 0.1 * (len(defined) - 1 - position))
        colour, dash = (style.colour, style.dash) if several else (PALETTES[theme].ink, "solid")
        figure.add_shape(
            type="line",
            x0=median,
            x1=median,
            y0=0,
            y1=height,
            line={"color": colour, "width": 1.5, "dash": dash},
        )
        figure.add_annotation(
            x=median,
            y=height,
            text=f"{escape(label) if several else 'median'} {median:.3f}",
            xanchor="right" if leftwards else "left",
            yanchor="top",
            xshift=-4 if leftwards else 4,
            showarrow=False,
        )
    return len(defined)


def peak_label(
    figure: go.Figure,
    bins: Histogram,
    heights: np.ndarray,
    index: int,
    top: float,
    text: str,
    *,
    gap: int,
) -> None:
    """Label the peak of a distribution that is cut at `top`, on the side with more room, below labels before it.

    Args:
        figure: the figure with the distributions.
        bins: their bins.
        heights: (S, B), the heights of all distributions.
        index: which of `heights` to label.
        top: the upper end of the chart.
        text: the peak's height as text.
        gap: pixels between the peak and its label.
    """
    peaks = heights.max(axis=1)
    peak = float(bins.centers[heights[index].argmax()])
    leftwards = peak > (bins.edges[0] + bins.edges[-1]) / 2
    figure.add_annotation(
        x=peak,
        y=top,
        yshift=-15 * int((peaks[:index] > top).sum()),
        text=f"{text} ↑",
        showarrow=False,
        xanchor="right" if leftwards else "left",
        xshift=-gap if leftwards else gap,
        yanchor="top",
    )


def percentile_bands(
    figure: go.Figure, theme: Theme, x: np.ndarray, bands: np.ndarray, median_hover: str
) -> None:
    """Draw the middle 90% and the middle half of all rows as areas, and the median row as a line.

    Args:
        figure: the figure to draw into.
        theme: light or dark.
        x: (P,).
        bands: (5, P), percentiles 5, 25, 50, 75 and 95.
        median_hover: the hover text of the line.
    """
    palette = PALETTES[theme]
    for low, high, name, colour in (
        (0, 4, "90% of rows", palette.band[0]),
        (1, 3, "half of the rows", palette.band[1]),
    ):
        for edge, look in (
            (low, {"showlegend": False, "name": f"{name}, lower edge"}),
            (high, {"fill": "tonexty", "fillcolor": colour, "name": name}),
        ):
            line = {"width": 0, "shape": "linear"}
            figure.add_scatter(
                x=float32(x), y=float32(bands[edge]), mode="lines", line=line, hoverinfo="skip", **look
            )
    figure.add_scatter(
        x=float32(x),
        y=float32(bands[2]),
        mode="lines",
        line={"color": palette.muted, "width": 1.5},
        name="median row",
        hovertemplate=median_hover,
    )


def thinned_text(scatter: RowScatter) -> str:
    """Return a sentence on how many of the rows are drawn, to append to others; "" if all are."""
    if not scatter.thinned:
        return ""
    return f" {len(scatter.rows):,} of {count_rows(scatter.total_rows)} drawn, extremes among them."
