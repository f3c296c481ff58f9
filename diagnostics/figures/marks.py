"""Parts that several figures draw: marked rows with their numbers, histogram bars, lines at medians."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import plotly.graph_objects as go

from diagnostics.allocation import Ecdf, RowScatter
from diagnostics.figures.frame import count_rows, drawn
from diagnostics.figures.theme import PALETTES, Style, Theme, escape, hatching
from diagnostics.numeric import Histogram, histogram

# In turn above, below and at the side: rows of one sparsity often lie side by side.
_LABEL_SHIFTS = ((0, 15), (0, -15), (22, 0), (-22, 0))


_MAX_LABELS = 8
_SHARE_BINS = 50


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
    _mark_selected(figure, rows, x, y, marker, hover, f"selected rows{under}")


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
    _mark_selected(figure, rows, x, y, marker, hover, name)


def _mark_selected(
    figure: go.Figure,
    rows: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    marker: dict[str, object],
    hover: str,
    name: str,
) -> None:
    if not len(rows):
        return
    figure.add_scatter(
        x=drawn(x),
        y=drawn(y),
        mode="markers",
        name=name,
        showlegend=False,
        customdata=rows.astype(np.int32),
        marker=marker,
        hovertemplate=f"{hover}<extra>selected</extra>",
    )


def selected_ticks(
    figure: go.Figure,
    rows: np.ndarray,
    x: np.ndarray,
    *,
    position: int,
    top: float,
    colour: str,
    hover: str,
    label: str = "",
) -> None:
    """Draw selected rows as ticks below the bars or curves of a set, each set lower than the one before it.

    Args:
        figure: takes them.
        rows: their indices; customdata.
        x: where they lie.
        position: the set's index.
        top: how high the figure is.
        colour: the set's colour.
        hover: what is read out at a tick.
        label: the set's label, as HTML; "": it is the only one.
    """
    if not len(rows):
        return
    figure.add_scatter(
        x=drawn(x),
        y=np.full(len(rows), -(0.05 + 0.07 * position) * top, dtype=np.float32),
        mode="markers",
        name="selected rows" + (f" under {label}" if label else ""),
        showlegend=False,
        customdata=rows.astype(np.int32),
        marker={"symbol": "line-ns", "size": 10, "line": {"width": 2, "color": colour}},
        hovertemplate=hover,
    )


def number_rows(figure: go.Figure, theme: Theme, rows: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """Draw the selected rows' numbers next to their marks, while there are few enough to tell apart."""
    if len(rows) > _MAX_LABELS:
        return
    for place, index in enumerate(np.argsort(x, kind="stable").tolist()):
        x_shift, y_shift = _LABEL_SHIFTS[place % len(_LABEL_SHIFTS)]
        figure.add_annotation(
            x=float(x[index]),
            y=float(y[index]),
            text=str(rows[index]),
            xshift=x_shift,
            yshift=y_shift,
            showarrow=False,
            borderpad=1,
            bgcolor=PALETTES[theme].veil,
            font={"size": 11},
        )


def histogram_bars(
    figure: go.Figure,
    theme: Theme,
    bins: Histogram,
    labels: Sequence[str],
    styles: Sequence[Style],
    quantity: str,
    form: str = ".4g",
) -> int:
    """Draw one set of bars per label; returns the height of the tallest. A bar's customdata is its bin's index."""
    palette = PALETTES[theme]
    limits = bin_texts(bins, lambda edge: format(edge, form))
    several = len(labels) > 1
    for position, (label, style) in enumerate(zip(labels, styles, strict=True)):
        figure.add_bar(
            x=drawn(bins.centers),
            y=bins.counts[position].astype(np.int32),
            width=drawn(np.diff(bins.edges)),
            name=escape(label),
            customdata=np.arange(len(bins.centers), dtype=np.int32),
            text=limits,
            textposition="none",
            marker={
                "color": style.colour,
                "opacity": 0.6 if several else 0.85,
                "line": {"width": 0.5, "color": palette.surface},
                "pattern": hatching(style, palette) if several else {"shape": ""},
            },
            hovertemplate=f"<b>%{{y:,}} rows</b> with {quantity} %{{text}}<extra>{escape(label)}</extra>",
        )
    return int(bins.counts.max())


def bin_texts(bins: Histogram, text: Callable[[float], str]) -> list[str]:
    """Return the limits of each bin, as they are read out: "0.1 to 0.2"."""
    return [f"{text(low)} to {text(high)}" for low, high in itertools.pairwise(bins.edges.tolist())]


def ecdf_steps(
    figure: go.Figure, steps: Ecdf, ends: tuple[float, float], style: Style, label: str, hover: str
) -> None:
    """Draw an empirical distribution function from one end of the axis to the other; `label` as HTML."""
    low, high = ends
    figure.add_scatter(
        x=drawn([low, *steps.values, high]),
        y=drawn([0, *steps.share, 1]),
        mode="lines",
        name=label,
        line={"color": style.colour, "width": 2, "dash": style.dash, "shape": "hv"},
        hovertemplate=f"{label}: <b>%{{y:.1%}} of rows</b> have<br>{hover} or less<extra></extra>",
    )


def share_outlines(figure: go.Figure, sets: Sequence[tuple[str, np.ndarray, str, str]], hover: str) -> None:
    """Draw how shares are distributed, as steps in common bins.

    Args:
        figure: that is drawn into.
        sets: of each its name, its numbers, its colour and its dash.
        hover: what is read out at a step.
    """
    low, high = (float(end([end(values) for _, values, _, _ in sets])) for end in (np.min, np.max))
    if high - low < 1e-6:
        low, high = low - 0.005, high + 0.005
    edges = np.linspace(low, high, _SHARE_BINS + 1)
    bins = histogram([values for _, values, _, _ in sets], edges)
    for (name, values, colour, dash), counts in zip(sets, bins.counts, strict=True):
        figure.add_scatter(
            x=drawn(np.repeat(edges, 2)),
            y=drawn(np.concatenate([[0.0], np.repeat(counts / values.size, 2), [0.0]])),
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
        x=drawn(np.concatenate([x, x[::-1]])),
        y=drawn(np.concatenate([low, high[::-1]])),
        fill="toself",
        fillcolor=colour,
        line={"width": 0},
        hoverinfo="skip",
        name=name,
    )


def median_lines(
    figure: go.Figure,
    theme: Theme,
    top: int,
    labels: Sequence[str],
    styles: Sequence[Style],
    medians: Sequence[float],
) -> int:
    """Mark the medians that are not NaN above bars of height `top`; returns how many there are."""
    several = len(labels) > 1
    known = [
        (median, label, style)
        for median, label, style in zip(medians, labels, styles, strict=True)
        if not np.isnan(median)
    ]
    # The leftmost line is the tallest, and labels are right of their lines: no line crosses a label.
    for position, (median, label, style) in enumerate(sorted(known, key=lambda entry: entry[0])):
        height = top * (1.1 + 0.1 * (len(known) - 1 - position))
        figure.add_shape(
            type="line",
            x0=median,
            x1=median,
            y0=0,
            y1=height,
            line={"color": PALETTES[theme].ink, "width": 1.5, "dash": style.dash if several else "solid"},
        )
        figure.add_annotation(
            x=median,
            y=height,
            text=f"{escape(label) + ': ' if several else ''}median {median:.3f}",
            xanchor="left",
            yanchor="top",
            xshift=4,
            showarrow=False,
        )
    return len(known)


def peak_label(
    figure: go.Figure,
    bins: Histogram,
    heights: np.ndarray,
    place: int,
    top: float,
    text: str,
    *,
    gap: int,
    colour: str | None = None,
) -> None:
    """Label the peak of a distribution that is cut at `top`, on the side with more room, below labels before it.

    Args:
        figure: with the distributions.
        bins: theirs.
        heights: (S, B) of all of them.
        place: of this one.
        top: where the chart ends.
        text: how high it is.
        gap: pixels between the peak and its label.
        colour: the label's colour; None: that of all text.
    """
    peaks = heights.max(axis=1)
    peak = float(bins.centers[heights[place].argmax()])
    leftwards = peak > (bins.edges[0] + bins.edges[-1]) / 2
    figure.add_annotation(
        x=peak,
        y=top,
        yshift=-15 * int((peaks[:place] > top).sum()),
        text=f"{text} ↑",
        showarrow=False,
        xanchor="right" if leftwards else "left",
        xshift=-gap if leftwards else gap,
        yanchor="top",
        font={} if colour is None else {"color": colour},
    )


def percentile_bands(
    figure: go.Figure, theme: Theme, x: np.ndarray, bands: np.ndarray, median_hover: str
) -> None:
    """Draw the middle 90% and the middle half of all rows as areas, and the median row as a line.

    Args:
        figure: that is drawn into.
        theme: light or dark.
        x: (P,).
        bands: (5, P), percentiles 5, 25, 50, 75 and 95.
        median_hover: what is read out at the line.
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
                x=drawn(x), y=drawn(bands[edge]), mode="lines", line=line, hoverinfo="skip", **look
            )
    figure.add_scatter(
        x=drawn(x),
        y=drawn(bands[2]),
        mode="lines",
        line={"color": palette.muted, "width": 1.5},
        name="median row",
        hovertemplate=median_hover,
    )


def thinned_text(scatter: RowScatter) -> str:
    """Write how many of the rows are drawn, as a sentence after others; nothing where all are."""
    if not scatter.thinned:
        return ""
    return f" {len(scatter.rows):,} of {count_rows(scatter.total_rows)} drawn, extremes among them."
