"""TRIM's learning rates: the tried ones, the gain of each, and the choice of the full grid."""

import numpy as np
import plotly.graph_objects as go

from diagnostics.figures.frame import frame, note, signed
from diagnostics.figures.theme import PALETTES, Theme
from diagnostics.format import rate_label
from diagnostics.learning_rate import LAYER_UNITS, LearningRateTrace, RateSummary, rate_summaries

RATE = "learning rate η (dimensionless; grid values)"
PUBLISHED = "published quality"  # at counts rounded down
RATE_TITLE = "Which learning rates beat uniform pruning?"


def nothing_to_gain(theme: Theme, title: str) -> go.Figure:
    """Draw the note that replaces a view of gains if the uniform quality is infinite, without any noise."""
    figure = frame(
        theme,
        title=title,
        subtitle="Uniform pruning has no measurable loss here: its quality is infinite and cannot be beaten. "
        "Raise the layer's target T, or choose another quality.",
        x_title=RATE,
        y_title="gain in layer quality",
    )
    figure.update_xaxes(showticklabels=False)
    figure.update_yaxes(showticklabels=False)
    return figure


def rate_figure(trace: LearningRateTrace, theme: Theme = "light") -> go.Figure:
    """Draw the quality of each rate, both signs on one axis; rates that the search never tried are hollow."""
    if not np.isfinite(trace.uniform_quality):
        return nothing_to_gain(theme, RATE_TITLE)
    palette = PALETTES[theme]
    figure = frame(
        theme,
        title=RATE_TITLE,
        subtitle=_outcome_sentence(trace),
        x_title=RATE,
        y_title=f"layer quality<br>({LAYER_UNITS[trace.layer_measure]})",
        legend=True,
        right=60,
    )
    order = np.argsort(trace.rates)
    summaries = [rate_summaries(trace)[each] for each in order]
    uniform = trace.uniform_quality
    figure.add_hline(y=uniform, line={"color": palette.muted, "width": 1.5, "dash": "dash"}, layer="below")
    stems = [(index, s) for index, s in enumerate(summaries) if s.tried]
    figure.add_scatter(
        x=[x for index, _ in stems for x in (index, index, None)],
        y=[y for _, s in stems for y in (uniform, s.quality, None)],
        mode="lines",
        line={"color": palette.faint, "width": 2},
        hoverinfo="skip",
        showlegend=False,
        name="gain over uniform",
    )
    for name, sign, colour, symbol in (
        ("tried, positive", 1, palette.gain, "triangle-up"),
        ("tried, negative", -1, palette.loss, "triangle-down"),
    ):
        _points(figure, trace, [p for p, s in stems if s.rate * sign > 0], summaries, name, symbol, colour)
    untried = [index for index, s in enumerate(summaries) if s.drawn and not s.tried]
    _points(figure, trace, untried, summaries, "not tried", "circle-open", palette.faint)
    _published(figure, summaries, theme)
    uncomputed = [index for index, s in enumerate(summaries) if s.quality is None]
    for index in uncomputed:
        # Vertical, because a narrow chart has several side by side.
        note(figure, theme, "not tried", x=index, y=uniform, textangle=-90, yanchor="bottom")
    _choices(figure, summaries, theme)
    drawn = [y for s in summaries for y in (s.quality, s.published) if y is not None and np.isfinite(y)]
    low, high = min(drawn, default=uniform), max(drawn, default=uniform)
    # Without any gain there is no scale in the data: a thousandth of the quality keeps the ticks readable.
    span = (high - low) or 1e-3 * (abs(uniform) or 1.0)
    figure.update_yaxes(range=[low - 0.14 * span, high + 0.3 * span], nticks=6)
    figure.update_xaxes(
        tickvals=list(range(len(summaries))),
        ticktext=[rate_label(s.rate) for s in summaries],
        range=[-0.6, len(summaries) - 0.4],
        autotickangles=[0, 90],
    )
    note(figure, theme, "uniform", x=1, xref="paper", y=uniform, xanchor="left", xshift=4)
    negatives = sum(s.rate < 0 for s in summaries)
    if 0 < negatives < len(summaries):
        figure.add_vline(x=negatives - 0.5, line={"color": palette.grid, "width": 1}, layer="below")
    return figure


def _points(
    figure: go.Figure,
    trace: LearningRateTrace,
    indices: list[int],
    summaries: list[RateSummary],
    name: str,
    symbol: str,
    colour: str,
) -> None:
    if not indices:
        return
    shown = [summaries[index] for index in indices]
    figure.add_scatter(
        x=indices,
        y=[s.quality for s in shown],
        mode="markers",
        name=name,
        marker={"symbol": symbol, "size": 12, "color": colour, "line": {"width": 1.5, "color": colour}},
        customdata=[
            [rate_label(s.rate), "" if s.gain is None else signed(s.gain, ".3g"), s.iteration] for s in shown
        ],
        hovertemplate=(
            "<b>η = %{customdata[0]}</b><br>layer quality %{y:.6g}, %{customdata[1]} over uniform"
            f"<br>at iteration %{{customdata[2]}} of {trace.quality.shape[1] - 1}<extra>{name}</extra>"
        ),
    )


def _published(figure: go.Figure, summaries: list[RateSummary], theme: Theme) -> None:
    """Draw the published quality of each rate over the chart."""
    read = [(index, s.published) for index, s in enumerate(summaries) if s.published is not None]
    if read:
        figure.add_scatter(
            x=[index for index, _ in read],
            y=[published for _, published in read],
            mode="markers",
            name=PUBLISHED,
            marker=published_marker(theme),
            hovertemplate=f"{PUBLISHED}: %{{y:.6g}}<extra></extra>",
        )


def published_marker(theme: Theme) -> dict[str, object]:
    """Return the marker of the published quality, the same in every chart."""
    return {"symbol": "x-thin", "size": 8, "line": {"width": 1.5, "color": PALETTES[theme].ink}}


def _choices(figure: go.Figure, summaries: list[RateSummary], theme: Theme) -> None:
    """Draw a ring and a word around the rate that was chosen, and a box around another that gains more."""
    palette = PALETTES[theme]
    chosen = next((index for index, summary in enumerate(summaries) if summary.chosen), -1)
    for index, summary in enumerate(summaries):
        if not summary.label:
            continue
        figure.add_scatter(
            x=[index, index],
            # The words are above the cross of the published quality.
            y=[summary.quality, max(y for y in (summary.quality, summary.published) if y is not None)],
            mode="markers+text",
            name=summary.label,
            showlegend=False,
            hoverinfo="skip",
            marker={
                "symbol": "circle-open" if summary.chosen else "square-open",
                "size": [22, 12],
                "opacity": [1, 0],
                "color": palette.ink,
                "line": {"width": 1.8},
            },
            text=["", summary.label.replace(", ", "<br>")],
            textposition=_label_position(index, chosen, len(summaries)),
            cliponaxis=False,
            textfont={"color": palette.ink, "size": 12},
        )


def _label_position(index: int, chosen: int, rates: int) -> str:
    """Place a label above the chosen rate; elsewhere away from it, but never out of the chart."""
    if index == chosen:
        return "top center"
    if index == rates - 1 or (index < chosen and index > 0):
        return "top left"
    return "top right"


def _outcome_sentence(trace: LearningRateTrace) -> str:
    tried = f"{int(trace.tried.sum())} of {len(trace.rates)} rates tried"
    if trace.chosen is None:
        sentence = f"{tried}: none beat uniform, the layer stays uniform."
    else:
        gain = float(trace.kept_gain[trace.chosen])
        direction = "from rows that keep" if trace.outcome == "positive" else "from rows that lose"
        sentence = (
            f"{tried}; the search chose η = {rate_label(float(trace.rates[trace.chosen]))} "
            f"({trace.outcome}: takes weights {direction} their quality), {signed(gain, '.2g')} at "
            f"{'counts rounded down' if trace.published is None else 'exact counts'}."
        )
    if trace.best is not None and trace.best != trace.chosen:
        rate = rate_label(float(trace.rates[trace.best]))
        sentence += f" Of all rates, {rate} gains most."
    return sentence
