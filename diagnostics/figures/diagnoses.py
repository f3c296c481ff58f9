"""Figures of what pruning did to a model: layers' costs, errors by block, losses of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import plotly.graph_objects as go

from diagnostics.allocation import SCATTER_POINTS
from diagnostics.figures.frame import float32, frame, note, signed
from diagnostics.figures.lines import points, reference_line, series_line
from diagnostics.figures.marks import spread_band
from diagnostics.figures.theme import PALETTES, Theme, escape, faded, series_styles
from diagnostics.numeric import rank_correlation, spread_indices

_LABELLED = 3  # number of the most expensive layers to label


def cost_scatter_figure(
    names: Sequence[str],
    values: np.ndarray,
    costs: np.ndarray,
    errors: np.ndarray,
    quantity: str,
    theme: Theme = "light",
) -> go.Figure:
    """Draw what each layer costs against another of its numbers, a point per layer.

    Args:
        names: the layers' names.
        values: (M,) their other number; layers with NaN are left out.
        costs: (M,) added loss in nats per token.
        errors: (M,) standard errors of the costs; NaN: not known.
        quantity: name of the values, such as "median Gini".
        theme: light or dark.
    """
    palette = PALETTES[theme]
    finite = np.flatnonzero(np.isfinite(values) & np.isfinite(costs))
    x, y, spread = values[finite], costs[finite], np.nan_to_num(errors[finite])
    labels = [escape(names[index]) for index in finite.tolist()]
    correlation = rank_correlation(x, y) if len(x) else None
    sentence = (
        "One of the two is not defined, or does not vary."
        if correlation is None
        else f"Spearman rank correlation {signed(correlation.coefficient, '.2f')} over {len(finite):,} layers."
    )
    figure = frame(
        theme,
        title="What goes with a layer's cost?",
        subtitle=f"{sentence} Bars: one standard error over windows.",
        x_title=quantity,
        y_title="loss added (nats per token)",
    )
    marker = {"color": palette.ink, "size": 6, "opacity": 0.6}
    errors_y = {"type": "data", "array": float32(spread), "color": palette.faint, "thickness": 1, "width": 0}
    hover = f"<b>%{{customdata}}</b><br>{escape(quantity)} %{{x:.4g}}<br>%{{y:+.3g}} nats per token<extra></extra>"
    points(figure, "layers", x, y, hover, marker, customdata=labels, error_y=errors_y)
    min_gap = 0.06 * float(np.ptp(y)) if len(y) else 0.0
    most_expensive = np.argsort(y)[::-1][:_LABELLED]
    for rank, index in enumerate(most_expensive):
        if rank and y[most_expensive[rank - 1]] - y[index] < min_gap:
            break  # it and those below would be written over each other
        leftwards = x[index] > (x.min() + x.max()) / 2
        side = {"xanchor": "right", "xshift": -8} if leftwards else {"xanchor": "left", "xshift": 8}
        note(figure, theme, labels[index], x=float(x[index]), y=float(y[index]), **side)
    figure.add_hline(y=0, line={"color": palette.faint, "width": 1}, layer="below")
    return figure


@dataclass(frozen=True, eq=False)
class BlockErrorLine:
    """The errors of one run after each block, (B,) each, as `trim.BlockError`; `method` decides the colour."""

    label: str
    method: str
    blocks: np.ndarray
    error: np.ndarray
    low: np.ndarray
    high: np.ndarray
    cosine: np.ndarray
    carried: np.ndarray
    added: np.ndarray


BlockQuantity = Literal["error", "cosine", "added"]
_BLOCK_WORDS: dict[BlockQuantity, tuple[str, str, str]] = {
    "error": (
        "Where does error build up?",
        "Distance from the dense hidden state over its size, after each block: median of tokens; the band holds half.",
        "relative error",
    ),
    "cosine": (
        "How far did the hidden states turn?",
        "Cosine between dense and pruned hidden state after each block, median of tokens.",
        "cosine",
    ),
    "added": (
        "Which block adds error itself?",
        "What the block's own pruning adds (line), and what the errors of the blocks before it have become (dots).",
        "share of the hidden state",
    ),
}


def block_error_figure(
    lines: Sequence[BlockErrorLine], quantity: BlockQuantity, theme: Theme = "light"
) -> go.Figure:
    """Draw one number after each block, a line for each run."""
    title, subtitle, axis = _BLOCK_WORDS[quantity]
    figure = frame(
        theme,
        title=title,
        subtitle=subtitle,
        x_title="block (index, first to last)",
        y_title=axis,
        plot_height=330,
        legend=len(lines) > 1,
    )
    for line, style in zip(lines, series_styles([line.method for line in lines]), strict=True):
        label = escape(line.label)
        if quantity == "error":
            colour, name = faded(style.colour, 0.15), f"half of the tokens under {label}"
            spread_band(figure, line.blocks, line.low, line.high, colour, name)
            figure.data[-1].showlegend = False
        if quantity == "added":
            marker = {"color": style.colour, "symbol": "circle-open", "size": 5}
            hover = f"<b>{label}</b>, block %{{x}}: %{{y:.2%}} carried on<extra></extra>"
            name = f"{label}: carried on"
            points(figure, name, line.blocks, line.carried, hover, marker, showlegend=False)
        form = ".4f" if quantity == "cosine" else ".2%"
        x, y = line.blocks.astype(np.int32), float32(getattr(line, quantity))
        hover = f"<b>{label}</b>, block %{{x}}: %{{y:{form}}}<extra></extra>"
        series_line(figure, label, x, y, style, hover, marker=6)
    if quantity != "cosine":
        figure.update_yaxes(tickformat=".0%", rangemode="tozero")
    figure.update_xaxes(gridcolor=PALETTES[theme].grid)
    return figure


def token_scatter_figure(
    dense: np.ndarray, pruned: np.ndarray, texts: Sequence[str], theme: Theme = "light"
) -> go.Figure:
    """Draw each token's loss under the pruned model against that under the dense one.

    Args:
        dense: (T,) losses in nats.
        pruned: (T,) losses of the same tokens.
        texts: the tokens, with a little of what is before them.
        theme: light or dark.
    """
    palette = PALETTES[theme]
    finite = np.flatnonzero(np.isfinite(dense) & np.isfinite(pruned))
    order = finite[np.argsort(pruned[finite] - dense[finite])]
    order = order[spread_indices(len(order), SCATTER_POINTS)]  # both ends are among them
    x, y = dense[order], pruned[order]
    highest = float(max(x.max(initial=1.0), y.max(initial=1.0)))
    figure = frame(
        theme,
        title="Which tokens suffer?",
        subtitle="Each token's loss under the pruned model against that under the dense one; on the line nothing "
        "changed.",
        x_title="loss under the dense model (nats)",
        y_title="loss under the pruned model (nats)",
        plot_height=330,
        legend=True,
    )
    reference_line(figure, "as before", [0, highest], [0, highest], palette.muted, showlegend=False)
    hover = "%{customdata}<br>loss %{x:.2f} dense, %{y:.2f} pruned<extra></extra>"
    for name, chosen, colour, symbol in (
        ("predicted worse", y > x, palette.loss, "triangle-up"),
        ("predicted better", y <= x, palette.gain, "circle"),
    ):
        marker = {"color": colour, "symbol": symbol, "size": 6, "opacity": 0.5}
        tokens = [escape(texts[index]) for index in order[chosen]]
        points(figure, name, x[chosen], y[chosen], hover, marker, customdata=tokens)
    return figure
