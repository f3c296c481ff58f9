"""TRIM's search over learning rates: what was tried, what it brought, what the full grid would choose."""

import numpy as np
import plotly.graph_objects as go

from diagnostics.figures.frame import drawn, frame, signed
from diagnostics.figures.theme import PALETTES, Theme, diverging
from diagnostics.learning_rate import LearningRateTrace, RateSummary, rate_summaries

_UNITS = {
    "cosim_flat": "cosine over the layer",
    "cosim_dim": "mean cosine of rows",
    "cosim_sample": "mean cosine of vectors",
    "mse": "−mean squared error",
    "mse_dim": "−mean squared error",
    "mae": "−mean absolute error",
    "snr": "signal to noise, dB",
    "psnr_flat": "peak signal to noise, dB",
    "psnr_dim": "mean row PSNR, dB",
    "psnr_sample": "mean vector PSNR, dB",
}
_ROW_UNITS = {"cosim": "cosine²", "mse": "error²", "psnr": "dB²"}
RATE = "learning rate η (dimensionless; grid values, evenly spaced)"
ITERATION = "iteration (count; 0 = uniform)"


def rate_label(rate: float) -> str:
    """A rate as printed everywhere: its sign always there."""
    return signed(rate, "g")


def rate_figure(trace: LearningRateTrace, theme: Theme = "light") -> go.Figure:
    """Best quality of each rate, both signs on one axis; rates that the search never tried are hollow."""
    palette = PALETTES[theme]
    figure = go.Figure()
    order = np.argsort(trace.rates)
    summaries = [rate_summaries(trace)[index] for index in order]
    uniform = trace.uniform_quality
    figure.add_hline(y=uniform, line={"color": palette.muted, "width": 1.5, "dash": "dash"}, layer="below")
    stems = [(place, s) for place, s in enumerate(summaries) if s.tried]
    figure.add_scatter(
        x=[x for place, _ in stems for x in (place, place, None)],
        y=[y for _, s in stems for y in (uniform, s.best_quality, None)],
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
    untried = [place for place, s in enumerate(summaries) if not s.tried and s.best_quality is not None]
    _points(figure, trace, untried, summaries, "not tried", "circle-open", palette.faint)
    uncomputed = [place for place, s in enumerate(summaries) if s.best_quality is None]
    for place in uncomputed:
        figure.add_annotation(
            x=place,
            y=uniform,
            text="not<br>tried",
            showarrow=False,
            yanchor="bottom",
            font={"size": 11, "color": palette.muted},
        )
    _choices(figure, summaries, theme)
    frame(
        figure,
        theme,
        title="Which learning rates beat uniform pruning?",
        subtitle=_outcome_sentence(trace),
        x_title=RATE,
        y_title=f"best layer quality<br>({_UNITS[trace.layer_measure]})",
        legend=True,
        right=60,
    )
    best = [s.best_quality for s in summaries if s.best_quality is not None and np.isfinite(s.best_quality)]
    # Without any gain there is no scale in the data: a thousandth of the quality keeps the ticks readable.
    span = (max(best, default=uniform) - uniform) or 1e-3 * (abs(uniform) or 1.0)
    figure.update_yaxes(range=[uniform - 0.14 * span, uniform + 1.3 * span], nticks=6)
    figure.update_xaxes(
        tickvals=list(range(len(summaries))),
        ticktext=[rate_label(s.rate) for s in summaries],
        range=[-0.6, len(summaries) - 0.4],
    )
    figure.add_annotation(
        x=1,
        xref="paper",
        y=uniform,
        text="uniform",
        xanchor="left",
        xshift=4,
        showarrow=False,
        font={"size": 11, "color": palette.muted},
    )
    negatives = sum(s.rate < 0 for s in summaries)
    if 0 < negatives < len(summaries):
        figure.add_vline(x=negatives - 0.5, line={"color": palette.grid, "width": 1}, layer="below")
    return figure


def _points(
    figure: go.Figure,
    trace: LearningRateTrace,
    places: list[int],
    summaries: list[RateSummary],
    name: str,
    symbol: str,
    colour: str,
) -> None:
    if not places:
        return
    shown = [summaries[place] for place in places]
    figure.add_scatter(
        x=places,
        y=[s.best_quality for s in shown],
        mode="markers",
        name=name,
        marker={"symbol": symbol, "size": 12, "color": colour, "line": {"width": 1.5, "color": colour}},
        customdata=[[rate_label(s.rate), signed(s.gain, ".3g"), s.best_iteration] for s in shown],
        hovertemplate=(
            "<b>η = %{customdata[0]}</b><br>best quality %{y:.6g}, %{customdata[1]} over uniform"
            f"<br>at iteration %{{customdata[2]}} of {trace.quality.shape[1] - 1}<extra>{name}</extra>"
        ),
    )


def _choices(figure: go.Figure, summaries: list[RateSummary], theme: Theme) -> None:
    """A ring and a word around the published choice and the best of the full grid; one word if they agree."""
    palette = PALETTES[theme]
    for place, summary in enumerate(summaries):
        words = []
        if summary.chosen:
            words.append("chosen")
        if summary.exhaustive:
            words.append("best of grid")
        if not words:
            continue
        figure.add_scatter(
            x=[place],
            y=[summary.best_quality],
            mode="markers+text",
            name=", ".join(words),
            showlegend=False,
            hoverinfo="skip",
            marker={
                "symbol": "circle-open" if summary.chosen else "square-open",
                "size": 22,
                "color": palette.ink,
                "line": {"width": 1.8},
            },
            text=["<br>".join(words)],
            textposition="top center",
            textfont={"color": palette.ink, "size": 12},
        )


def _outcome_sentence(trace: LearningRateTrace) -> str:
    tried = f"{int(trace.tried.sum())} of {len(trace.rates)} rates tried"
    if trace.chosen is None:
        sentence = f"{tried}: none beat uniform, the layer stays uniform."
    else:
        gain = float(np.nanmax(trace.gain[trace.chosen]))
        direction = "from rows that keep" if trace.outcome == "positive" else "from rows that lose"
        sentence = (
            f"{tried}; the search chose η = {rate_label(float(trace.rates[trace.chosen]))} "
            f"({trace.outcome}: takes weights {direction} their quality), {signed(gain, '.2g')}."
        )
    if trace.exhaustive is not None and trace.exhaustive != trace.chosen:
        rate = rate_label(float(trace.rates[trace.exhaustive]))
        sentence += f" The full grid would have chosen {rate}."
    return sentence


def iteration_figure(trace: LearningRateTrace, theme: Theme = "light") -> go.Figure:
    """Layer quality, and below it the variance of row quality, against iteration, one line per rate."""
    palette = PALETTES[theme]
    figure = go.Figure()
    # Drawn last and strongest: what was tried, and above all what was chosen.
    indices = sorted(range(len(trace.rates)), key=lambda i: (bool(trace.tried[i]), i == trace.chosen))
    iterations = np.arange(trace.quality.shape[1])
    for index in indices:
        rate, tried = float(trace.rates[index]), bool(trace.tried[index])
        colour = (palette.gain if rate > 0 else palette.loss) if tried else palette.faint
        name = f"η = {rate_label(rate)}" + ("" if tried else " (not tried)")
        line = {
            "color": colour,
            "width": 3 if index == trace.chosen else 1.6 if tried else 1,
            "dash": "dot" if not tried else "solid" if rate > 0 else "dash",
        }
        for values, axis, what in ((trace.quality, "y", "quality"), (trace.row_variance, "y2", "variance")):
            figure.add_scatter(
                x=iterations,
                y=drawn(values[index]) if axis == "y2" else values[index],
                yaxis=axis,
                mode="lines+markers" if tried else "lines",
                marker={"size": 6 if index == trace.chosen else 4},
                line=line,
                name=name if tried else "not tried",
                legendgroup=name if tried else "not tried",
                showlegend=axis == "y" and (tried or index == indices[0]),
                hovertemplate=f"<b>{name}</b><br>iteration %{{x}}: {what} %{{y:.6g}}<extra></extra>",
            )
    uniform, limit = trace.uniform_quality, trace.gain_limit
    figure.add_hline(y=uniform, line={"color": palette.muted, "width": 1.5, "dash": "dash"}, layer="below")
    if trace.chosen is not None:
        best = int(np.argmax(trace.quality[trace.chosen]))
        figure.add_annotation(
            x=best,
            y=float(trace.quality[trace.chosen, best]),
            text=f"kept: η = {rate_label(float(trace.rates[trace.chosen]))}, iteration {best}",
            showarrow=False,
            yanchor="bottom",
            yshift=6,
            xanchor="left" if best < len(iterations) / 2 else "right",
        )
    frame(
        figure,
        theme,
        title="What does each iteration bring?",
        subtitle="Top: quality; losses beyond four times the best gain run off the chart. "
        "Below: how unequal the rows still are. Dotted: not tried by the search.",
        x_title=ITERATION,
        plot_height=460,
        legend=True,
    )
    figure.update_layout(
        xaxis={
            "anchor": "y2",
            "dtick": 1 if len(iterations) <= 21 else None,
            "range": [-0.2, iterations[-1] + 0.2],
        },
        yaxis={
            "domain": [0.5, 1],
            "title": {"text": f"layer quality<br>({_UNITS[trace.layer_measure]})"},
            "range": [uniform - 4 * limit, uniform + 1.6 * limit],
            "nticks": 6,
        },
        yaxis2={
            "domain": [0, 0.42],
            "title": {"text": f"variance of row quality<br>({_ROW_UNITS[trace.row_measure]}, log scale)"},
            "type": "log",
            "exponentformat": "power",
            "dtick": 1,
        },
    )
    return figure


def landscape_figure(trace: LearningRateTrace, theme: Theme = "light") -> go.Figure:
    """Gain over uniform for every rate and iteration; untried rates are hatched and say so."""
    palette = PALETTES[theme]
    figure = go.Figure()
    order = np.argsort(trace.rates)
    rates = [float(rate) for rate in trace.rates[order]]
    tried = np.asarray(trace.tried)[order]
    iterations = trace.quality.shape[1] - 1
    limit = trace.gain_limit
    figure.add_heatmap(
        z=drawn(trace.gain[order]),
        x=np.arange(iterations + 1, dtype=np.int32),
        y=np.arange(len(rates), dtype=np.int32),
        customdata=np.array([[rate_label(rate)] * (iterations + 1) for rate in rates]),
        colorscale=diverging(theme),
        zmid=0,
        zmin=-limit,
        zmax=limit,
        xgap=1,
        ygap=1,
        name="gain over uniform",
        hovertemplate="<b>η = %{customdata}</b>, iteration %{x}<br>gain %{z:+.3g}<extra></extra>",
        colorbar={
            "title": {"text": "gain", "side": "top"},
            "thickness": 10,
            "outlinewidth": 0,
            "tickvals": [-limit, 0, limit],
            "ticktext": [f"≤ {signed(-limit, '.1e')}", "0", signed(limit, ".1e")],
            "tickfont": {"size": 11, "color": palette.muted},
            "len": 0.7,
        },
    )
    hatched = np.flatnonzero(~tried).tolist()
    if hatched:
        figure.add_bar(
            orientation="h",
            x=[iterations + 1] * len(hatched),
            base=[-0.5] * len(hatched),
            y=hatched,
            width=0.96,
            name="not tried",
            hoverinfo="skip",
            marker={
                # Faded as well as hatched: on the strongest colours of the scale a hatch alone is lost.
                "color": palette.veil,
                "pattern": {
                    "shape": "/",
                    "size": 7,
                    "solidity": 0.22,
                    "fgcolor": palette.muted,
                    "bgcolor": palette.veil,
                },
            },
        )
    for index, words, symbol in (
        (trace.exhaustive, "best of the full grid", "square"),
        (trace.chosen, "published choice", "circle"),
    ):
        if index is None:
            continue
        figure.add_scatter(
            x=[int(np.nanargmax(trace.quality[index]))],
            y=[int(np.flatnonzero(order == index)[0])],
            mode="markers",
            marker={
                "symbol": symbol,
                "size": 15 if symbol == "square" else 9,
                "color": palette.surface,
                "line": {"width": 2.5, "color": palette.ink},
            },
            name=words,
            hoverinfo="skip",
        )
    frame(
        figure,
        theme,
        title="Where in the search is there a gain?",
        subtitle="Layer quality minus uniform quality: teal gains, brown loses. "
        "Hatched: rates the published search never tried.",
        x_title=ITERATION,
        y_title="learning rate η (dimensionless)",
        legend=True,
    )
    figure.update_xaxes(range=[-0.5, iterations + 0.5], dtick=1 if iterations <= 20 else None)
    figure.update_yaxes(
        tickvals=list(range(len(rates))),
        ticktext=[rate_label(rate) for rate in rates],
        range=[-0.5, len(rates) - 0.5],
        showgrid=False,
    )
    return figure
