"""Distributions of compared layers: step outlines, distribution functions, ridges; looks belong to slots."""

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import plotly.graph_objects as go

from diagnostics.allocation import ecdf
from diagnostics.distributions import Distributions
from diagnostics.figures.frame import PERCENT, float32, frame, note, slot_letter
from diagnostics.figures.lines import points
from diagnostics.figures.marks import bin_texts, ecdf_steps, peak_label
from diagnostics.figures.row_marks import selected_ticks
from diagnostics.figures.theme import PALETTES, Theme, escape, faded, slot_style

Unit = Literal["share", "count"]
RIDGES_FROM = 5  # more than four outlines on one axis hide each other
_POINT_MASS = 0.6  # a set with more than this share in one bin is cut at the height of the others
_LABEL_CHARACTERS = (26, 36)  # in a line of a ridge's label; the second if the first would need three lines
_LINE_PIXELS = 17  # height of a line of a label
_RIDGE_PIXELS = 18  # from one ridge's baseline to the next, if not every ridge has a label
_MAX_PIXELS = 720  # height of all ridges; further ones make them denser
_RIDGE_HEIGHTS = (0.92, 1.8)  # height of the tallest in units of the distance: few do not overlap, many do
_FEW_RIDGES = 8  # up to here each has a label and the larger distance


@dataclass(frozen=True)
class RowQuantity:
    """A quantity that rows have: its question, its axis, and the format of its numbers."""

    name: str
    question: str
    axis: str
    tick_format: str

    def format(self, value: float) -> str:
        """Format one number of a row."""
        return f"{value:.2%}" if "%" in self.tick_format else f"{value:.4f}"


ROW_SPARSITY = RowQuantity(
    "row sparsity",
    "How much of each row is pruned?",
    "row sparsity (share of the row's weights pruned)",
    PERCENT,
)
GINI = RowQuantity(
    "Gini",
    "How concentrated is each row's score?",
    "Gini of the row's scores (0 = spread evenly)",
    ".3~f",
)
COSINE = RowQuantity(
    "cosine",
    "How much of its output does each row keep?",
    "cosine of the row's output to the dense one",
    ".4~f",
)
# Quantities of changed kept weights.
MASK_ERROR = RowQuantity(
    "mask's error",
    "How much of its output would each row lose by the mask alone?",
    "output error of the mask alone (share of the output, squared)",
    ".3~f",
)
ERROR = RowQuantity(
    "error",
    "How much of its output does each row lose with its weights changed?",
    "output error with changed weights (share of the output, squared)",
    ".3~f",
)
ANY_ERROR = RowQuantity(
    "row error",
    "How much of its output does each row lose?",
    "output error (share of the output, squared)",
    ".3~f",
)
MOVED = RowQuantity(
    "move",
    "How far did the kept weights of each row move?",
    "move of the row's kept weights (share of their norm)",
    ".3~f",
)


def outlines_figure(
    found: Distributions,
    quantity: RowQuantity,
    unit: Unit = "share",
    selected_rows: Iterable[int] = (),
    theme: Theme = "light",
) -> go.Figure:
    """Draw a step outline per set in shared bins; a set that is one spike is cut where the others are lower.

    Invisible bars under each outline carry hover and selection: bar traces come first, in the order of the sets.
    Selected rows are ticks below.
    """
    bins, shares, selected = found.histogram, found.shares, list(selected_rows)
    heights = shares if unit == "share" else bins.counts
    peaks = heights.max(axis=1)
    top = 1.12 * (_highest(heights, shares) or 1)
    shown = ".1%" if unit == "share" else ",d"
    limits = bin_texts(bins, quantity.format)
    figure = frame(
        theme,
        title=quantity.question,
        subtitle=f"{_medians(found, quantity)} Bins of {quantity.format(found.bin_width)}."
        + (" Ticks below: selected rows." if selected else ""),
        x_title=quantity.axis,
        y_title="share of rows" if unit == "share" else "rows (count)",
        legend=len(found.sets) > 1,
    )
    for each, height in zip(found.sets, heights, strict=True):
        figure.add_bar(
            x=float32(bins.centers),
            y=float32(height),
            width=float32(np.diff(bins.edges)),
            name=f"bars of {escape(each.label)}",
            showlegend=False,
            opacity=0,
            customdata=np.arange(len(bins.centers), dtype=np.int32),
            text=limits,
            textposition="none",
            hovertemplate=f"<b>%{{y:{shown}}} of the rows</b>: %{{text}}<extra>{escape(each.label)}</extra>",
        )
    edges = np.repeat(bins.edges, 2)
    for index, (each, height) in enumerate(zip(found.sets, heights, strict=True)):
        style, label = slot_style(each.slot, theme), escape(each.label)
        inside = np.flatnonzero(height)
        first, last = (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)
        figure.add_scatter(
            x=float32(edges[2 * first : 2 * last + 2]),
            y=float32([0, *np.repeat(height[first:last], 2), 0]),
            mode="lines",
            name=label,
            line={"color": style.colour, "width": 2, "dash": style.dash},
            hoverinfo="skip",
        )
        if peaks[index] > top:
            text = f"{slot_letter(label)}: {format(peaks[index], shown)}"
            peak_label(figure, bins, heights, index, top, text, gap=6)
    for index, each in enumerate(found.sets):
        colour, label = slot_style(each.slot, theme).colour, escape(each.label)
        look = {"colour": colour, "label": label, "hover": f"{quantity.name} %{{x}}"}
        selected_ticks(figure, selected, each.values, position=index, top=top, **look)
    below = -(0.03 + 0.07 * len(found.sets)) * top if selected else 0
    figure.update_yaxes(zeroline=True, zerolinecolor=PALETTES[theme].faint, nticks=6, tick0=0)
    figure.update_yaxes(range=[below, top], tickformat=".0%" if unit == "share" else ",d")
    _x_axis(figure, found, quantity)
    return figure


def _highest(heights: np.ndarray, shares: np.ndarray) -> float:
    """Return the highest peak (S, B) of the sets without a point mass, or of all if every set has one."""
    peaks = heights.max(axis=1)
    spread = peaks[shares.max(axis=1) <= _POINT_MASS]
    return float((spread if spread.size else peaks).max())


def _x_axis(figure: go.Figure, found: Distributions, quantity: RowQuantity) -> None:
    edges = found.histogram.edges
    margin = 0.03 * float(edges[-1] - edges[0])
    figure.update_xaxes(
        range=[edges[0] - margin, edges[-1] + margin], tickformat=quantity.tick_format, nticks=8
    )
    if quantity.tick_format.endswith("%") and 0.15 <= edges[-1] - edges[0] <= 0.7:
        figure.update_xaxes(dtick=0.1)  # where targets are


def _medians(found: Distributions, quantity: RowQuantity) -> str:
    parts = [
        f"{escape(slot_letter(each.label))} {quantity.format(middle)}"
        for each, (_, middle, _) in zip(found.sets, found.quartiles, strict=True)
        if np.isfinite(middle)
    ]
    return f"Medians: {'; '.join(parts)}." if parts else "No row has this number."


def ecdf_figure(found: Distributions, quantity: RowQuantity, theme: Theme = "light") -> go.Figure:
    """Draw the empirical distribution functions as steps on shared axes."""
    figure = frame(
        theme,
        title=quantity.question,
        subtitle=_medians(found, quantity),
        x_title=quantity.axis,
        y_title="share of rows at or below",
        legend=len(found.sets) > 1,
    )
    low, high = found.histogram.edges[0], found.histogram.edges[-1]
    for each in found.sets:
        style, label = slot_style(each.slot, theme), escape(each.label)
        if (finite := each.values[np.isfinite(each.values)]).size:
            ecdf_steps(figure, ecdf(finite), (low, high), style, label, "%{x}")
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%", nticks=6)
    _x_axis(figure, found, quantity)
    return figure


def ridges_figure(
    found: Distributions,
    quantity: RowQuantity,
    theme: Theme = "light",
    *,
    title: str | None = None,
    colour: str | None = None,
) -> go.Figure:
    """Draw the distributions one above the other, the first at the top; a tick at each median.

    Heights are shares of rows on one scale.

    Args:
        found: the distributions.
        quantity: what is distributed.
        theme: light or dark.
        title: the figure's question; None: the quantity's.
        colour: the colour of all; None: each has its slot's.
    """
    palette = PALETTES[theme]
    bins, shares = found.histogram, found.shares
    tallest = _highest(shares, shares) or 1.0
    labels = [escape(each.label) for each in found.sets]
    few = len(labels) <= _FEW_RIDGES
    close = min(_RIDGE_PIXELS, _MAX_PIXELS / max(1, len(labels)))
    heights = _RIDGE_HEIGHTS[not few] * np.minimum(shares, tallest) / tallest
    cut = " Spikes are cut." if shares.max() > tallest else ""
    every = max(1, round(len(labels) / 15))
    shown = range(0, len(labels), every)
    # No line break after the letter of the slot.
    shown_labels = [found.sets[index].label.replace(" · ", "\u00a0· ") for index in shown]
    lines = [textwrap.wrap(each, _LABEL_CHARACTERS[0]) for each in shown_labels]
    x_title = quantity.axis.replace(" (", "<br>(")  # labels leave less room
    if max(map(len, lines), default=1) > 2:
        lines, x_title = [textwrap.wrap(each, _LABEL_CHARACTERS[1]) for each in shown_labels], quantity.name
    ridge = max(44, 8 + _LINE_PIXELS * max(map(len, lines), default=1)) if few else close
    figure = frame(
        theme,
        title=title or quantity.question,
        subtitle=f"As high as the share of rows; ticks at the medians.{cut}",
        x_title=x_title,
        plot_height=round(ridge * (len(labels) + (0.5 if few else 2))),
    )
    edges = np.repeat(bins.edges, 2)
    for index, (height, (_, middle, _)) in enumerate(zip(heights, found.quartiles, strict=True)):
        ground = float(len(labels) - 1 - index)
        hue = colour or slot_style(found.sets[index].slot, theme).colour
        figure.add_scatter(
            x=[bins.edges[0], bins.edges[-1]],
            y=[ground, ground],
            mode="lines",
            line={"width": 0.5, "color": palette.faint},
            hoverinfo="skip",
            name=f"ground of {labels[index]}",
        )
        figure.add_scatter(
            x=float32(edges),
            y=float32(ground + np.array([0.0, *np.repeat(height, 2), 0.0])),
            mode="lines",
            fill="tonexty",
            fillcolor=faded(hue, 0.45),
            line={"width": 1, "color": hue},
            name=labels[index],
            hoverinfo="skip",
        )
        if not np.isnan(middle):
            tick = {"symbol": "line-ns", "size": min(9, close), "line": {"width": 2, "color": palette.ink}}
            hover = f"<b>{labels[index]}</b><br>median {quantity.format(middle)}<extra></extra>"
            points(figure, f"median of {labels[index]}", [middle], [ground + 0.22], hover, tick)
    figure.update_yaxes(
        tickvals=[len(labels) - 1 - index for index in shown],
        ticktext=["<br>".join(map(escape, each)) for each in lines],
        range=[-0.5, float((len(labels) - np.arange(len(labels)) - 1 + heights.max(axis=1)).max()) + 0.3],
        showgrid=False,
    )
    _x_axis(figure, found, quantity)
    return figure


def agreement_figure(
    found: Distributions, expected: float, theme: Theme = "light", *, of: Literal["row", "column"]
) -> go.Figure:
    """Draw the agreement of two masks by row or by column, with a line at chance."""
    palette = PALETTES[theme]
    quantity = RowQuantity(
        "IoU",
        "Do the masks keep the same weights?",
        f"share of the {of}'s kept weights that both keep (IoU)",
        ".0%",
    )
    figure = outlines_figure(found, quantity, "share", (), theme)
    figure.update_yaxes(title_text=f"share of {of}s")
    figure.update_traces(line={"color": palette.ink, "dash": "solid"}, selector={"type": "scatter"})
    title = figure.layout.title
    title.subtitle.text = f"IoU of the masks by {of}; the dotted line is what masks at random would share."
    for bars in figure.data[: len(found.sets)]:
        bars.hovertemplate = f"<b>%{{y:.1%}} of the {of}s</b>: %{{text}}<extra></extra>"
    figure.add_vline(x=expected, line={"color": palette.muted, "width": 1.5, "dash": "dot"})
    at_random = {"x": expected, "y": 1, "yref": "paper", "yanchor": "top", "xanchor": "left", "xshift": 4}
    note(figure, theme, f"at random {expected:.0%}", **at_random)
    low, high = found.histogram.edges[0], found.histogram.edges[-1]
    margin = 0.03 * max(high - low, abs(expected - low))
    figure.update_xaxes(range=[min(low, expected) - margin, max(high, expected) + 4 * margin])
    return figure
