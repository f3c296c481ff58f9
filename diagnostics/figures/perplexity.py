"""Perplexities of a dense model and of runs of it, side by side."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from diagnostics.figures.frame import clipped, frame, note
from diagnostics.figures.lines import series_line
from diagnostics.figures.theme import PALETTES, Style, Theme, escape, hatching, series_styles

_LOG_FROM = 8  # bars get a logarithmic axis if the highest is this many times the lowest


@dataclass(frozen=True)
class PerplexityBar:
    """One bar: a label, the method ("dense" for the unpruned model), and the perplexity."""

    label: str
    method: str
    perplexity: float


def perplexity_figure(bars: Sequence[PerplexityBar], text: str, theme: Theme = "light") -> go.Figure:
    """Draw one horizontal bar for each; `text` names what was predicted."""
    palette = PALETTES[theme]
    dense = Style(palette.muted, "solid", "circle", "")
    pruned = iter(series_styles([bar.method for bar in bars if bar.method != "dense"]))
    values = [bar.perplexity for bar in bars]
    logarithmic = len(values) > 1 and max(values) > _LOG_FROM * min(values)
    base = 1 if logarithmic else 0
    figure = frame(
        theme,
        title="How well does the model still predict?",
        subtitle=f"{escape(text)}. Lower is better."
        + (" The axis is logarithmic: bars begin at 1, a perfect prediction." if logarithmic else ""),
        x_title="perplexity" + (" (log scale)" if logarithmic else ""),
        y_title="model",
        plot_height=max(4, len(bars)) * 46,
        right=60,
    )
    for index, bar in enumerate(bars):
        style = dense if bar.method == "dense" else next(pruned)
        figure.add_bar(
            orientation="h",
            x=[bar.perplexity - base],
            base=base,
            y=[index],
            customdata=[bar.perplexity],
            width=0.62,
            name=escape(bar.label),
            text=[f"{bar.perplexity:,.4g}" if bar.perplexity < 1e4 else f"{bar.perplexity:,.0f}"],
            textposition="outside",
            cliponaxis=False,
            marker={
                "color": style.colour,
                "opacity": 0.85,
                "pattern": hatching(style, palette),
            },
            hovertemplate=f"<b>{escape(bar.label)}</b><br>perplexity %{{customdata:,.5g}}<extra></extra>",
        )
    figure.update_xaxes(showgrid=True)
    if logarithmic:
        decades = math.log10(max(values))
        ticks = [
            10**power for power in range(0, math.floor(decades) + 1, math.ceil(decades / 3))
        ]  # on a phone few fit
        figure.update_xaxes(
            type="log", tickvals=ticks, ticktext=[f"{tick:,}" for tick in ticks], range=[0, decades * 1.1]
        )
    else:
        figure.update_xaxes(range=[0, 1.15 * max(values, default=1.0)])
    figure.update_yaxes(
        tickvals=list(range(len(bars))),
        ticktext=[clipped(bar.label, 26) for bar in bars],
        range=[len(bars) - 0.5, -0.5],
        showgrid=False,
    )
    return figure


@dataclass(frozen=True)
class PerplexityCurve:
    """One method: its name, the allocation that decides its colour, model sparsities, and the perplexity at each.

    Attributes:
        least, most: minimum and maximum over seeds; equal to the perplexity for a single seed.
    """

    label: str
    method: str
    sparsity: tuple[float, ...]
    perplexity: tuple[float, ...]
    least: tuple[float, ...]
    most: tuple[float, ...]


def perplexity_curves_figure(
    curves: Sequence[PerplexityCurve], dense: float | None, text: str, theme: Theme = "light"
) -> go.Figure:
    """Draw curves on a logarithmic axis, the dense model as a line below; missing perplexities are left out."""
    left_out = sum(not math.isfinite(value) for curve in curves for value in curve.perplexity)
    sentence = (
        f"{escape(text)}. Among how many next tokens the model wavers; lower is better; logarithmic axis."
    )
    if left_out:
        sentence += f" {left_out} without a finite value left out."
    figure = frame(
        theme,
        title="What does sparsity cost the model?",
        subtitle=sentence,
        x_title="model sparsity (share of weights pruned)",
        y_title="perplexity (log scale)",
        plot_height=330,
        legend=True,
    )
    for curve, style in zip(curves, series_styles([curve.method for curve in curves]), strict=True):
        columns = np.array([curve.sparsity, curve.perplexity, curve.least, curve.most])
        x, value, least, most = columns[:, np.isfinite(columns[1])]
        spread = bool((most > least).any())
        label = escape(curve.label)
        hover = f"<b>{label}</b><br>model sparsity %{{x:.0%}}: perplexity %{{y:,.4g}}<extra></extra>"
        error = {"type": "data", "array": most - value, "arrayminus": value - least} if spread else None
        series_line(figure, label, x.tolist(), value, style, hover, marker=9, error_y=error)
    if dense is not None:
        line = {"color": PALETTES[theme].muted, "width": 1.5, "dash": "dot"}
        figure.add_hline(y=dense, line=line, layer="below")
        at_the_line = {"xref": "paper", "y": math.log10(dense), "xanchor": "right", "yanchor": "bottom"}
        note(figure, theme, f"dense: {dense:,.4g}", x=1, **at_the_line)
    figure.update_yaxes(type="log", tickformat=",~g", dtick=1)
    figure.update_xaxes(tickformat=".0%", tickvals=sorted({s for curve in curves for s in curve.sparsity}))
    return figure
