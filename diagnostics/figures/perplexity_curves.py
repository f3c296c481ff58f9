"""Perplexity against model sparsity, one curve per method (figure 2 of arXiv 2505.16743)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from diagnostics.figures.frame import frame
from diagnostics.figures.theme import PALETTES, Theme, escape, series_styles


@dataclass(frozen=True)
class PerplexityCurve:
    """One method: its name, the allocation that decides its colour, model sparsities, and the perplexity at each.

    least, most: over seeds; equal to the perplexity where there was one seed.
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
    """Curves on a logarithmic axis, the dense model as a line below them; perplexities without a value are left out."""
    palette = PALETTES[theme]
    figure = go.Figure()
    left_out = 0
    for curve, style in zip(curves, series_styles([curve.method for curve in curves]), strict=True):
        known = [place for place, value in enumerate(curve.perplexity) if math.isfinite(value)]
        left_out += len(curve.perplexity) - len(known)
        value, least, most = (
            np.array([line[place] for place in known]) for line in (curve.perplexity, curve.least, curve.most)
        )
        spread = bool((most > least).any())
        label = escape(curve.label)
        figure.add_scatter(
            x=[curve.sparsity[place] for place in known],
            y=value,
            mode="lines+markers",
            name=label,
            line={"color": style.colour, "width": 2, "dash": style.dash},
            marker={"symbol": style.symbol, "size": 9},
            error_y={"type": "data", "array": most - value, "arrayminus": value - least} if spread else None,
            hovertemplate=f"<b>{label}</b><br>model sparsity %{{x:.0%}}: perplexity %{{y:,.4g}}<extra></extra>",
        )
    if dense is not None:
        figure.add_hline(y=dense, line={"color": palette.muted, "width": 1.5, "dash": "dot"}, layer="below")
        figure.add_annotation(
            x=1,
            xref="paper",
            y=math.log10(dense),
            text=f"dense: {dense:,.4g}",
            xanchor="right",
            yanchor="bottom",
            showarrow=False,
            font={"size": 11, "color": palette.muted},
        )
    sentence = (
        f"{escape(text)}. Among how many next tokens the model wavers; lower is better; logarithmic axis."
    )
    if left_out:
        sentence += f" {left_out} without a finite value left out."
    frame(
        figure,
        theme,
        title="What does sparsity cost the model?",
        subtitle=sentence,
        x_title="model sparsity (share of weights pruned)",
        y_title="perplexity (log scale)",
        plot_height=330,
        legend=True,
    )
    figure.update_yaxes(type="log", tickformat=",~g", dtick=1)
    figure.update_xaxes(tickformat=".0%", tickvals=sorted({s for curve in curves for s in curve.sparsity}))
    return figure
