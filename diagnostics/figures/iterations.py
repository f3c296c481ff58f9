"""TRIM's search, iteration by iteration: lines per learning rate, and the landscape of both."""

import numpy as np
import plotly.graph_objects as go

from diagnostics.figures.frame import float32, frame
from diagnostics.figures.learning_rate import PUBLISHED, nothing_to_gain, published_marker
from diagnostics.figures.theme import PALETTES, Theme, diverging
from diagnostics.format import change, rate_label
from diagnostics.learning_rate import LAYER_UNITS, LearningRateTrace

_ROW_UNITS = {"cosim": "cosine²", "mse": "error²", "psnr": "dB²"}
ITERATION_TITLE = "What does each iteration bring?"
LANDSCAPE_TITLE = "Where in the search is there a gain?"
ITERATION = "iteration (count; 0 = uniform)"


def iteration_figure(trace: LearningRateTrace, theme: Theme = "light") -> go.Figure:
    """Draw layer quality, and below it the variance of row quality, against iteration, one line per rate."""
    if not np.isfinite(trace.uniform_quality):
        return nothing_to_gain(theme, ITERATION_TITLE)
    palette = PALETTES[theme]
    figure = frame(
        theme,
        title=ITERATION_TITLE,
        subtitle="Top: quality; losses beyond four times the best gain run off the chart. "
        "Below: how unequal the rows still are. Dotted: not tried by the search.",
        x_title=ITERATION,
        plot_height=460,
        legend=True,
    )
    # Tried rates are drawn after the others and stronger, the chosen rate last.
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
                y=float32(values[index]) if axis == "y2" else values[index],
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
    top, readings = uniform + 1.6 * limit, [trace.quality]
    if trace.chosen is not None and trace.published is not None:
        published = trace.published[trace.chosen]
        readings.append(trace.published)
        top = max(top, float(published.max()) + 0.4 * limit)
        figure.add_scatter(
            x=iterations,
            y=published,
            mode="markers",
            name=PUBLISHED,
            marker=published_marker(theme),
            hovertemplate=f"{PUBLISHED} of the chosen rate, iteration %{{x}}: %{{y:.6g}}<extra></extra>",
        )
    if trace.chosen is not None:
        best = int(trace.kept_iteration[trace.chosen])
        figure.add_annotation(
            x=best,
            y=float(max(reading[trace.chosen, best] for reading in readings)),
            text=f"kept: η = {rate_label(float(trace.rates[trace.chosen]))}, iteration {best}",
            showarrow=False,
            yanchor="bottom",
            yshift=6,
            xanchor="left" if best < len(iterations) / 2 else "right",
        )
    figure.update_layout(
        xaxis={
            "anchor": "y2",
            "dtick": 1 if len(iterations) <= 21 else None,
            "range": [-0.2, iterations[-1] + 0.2],
        },
        yaxis={
            "domain": [0.5, 1],
            "title": {"text": f"layer quality<br>({LAYER_UNITS[trace.layer_measure]})"},
            "range": [uniform - 4 * limit, top],
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
    """Draw the gain over uniform for every rate and iteration; untried rates are hatched and labelled."""
    if not np.isfinite(trace.uniform_quality):
        return nothing_to_gain(theme, LANDSCAPE_TITLE)
    palette = PALETTES[theme]
    figure = frame(
        theme,
        title=LANDSCAPE_TITLE,
        subtitle="Layer quality minus uniform quality: teal gains, brown loses. "
        "Hatched: rates the published search never tried.",
        x_title=ITERATION,
        y_title="learning rate η (dimensionless)",
        legend=True,
    )
    order = np.argsort(trace.rates)
    rates = [float(rate) for rate in trace.rates[order]]
    tried = np.asarray(trace.tried)[order]
    iterations = trace.quality.shape[1] - 1
    limit = trace.gain_limit
    figure.add_heatmap(
        z=float32(trace.gain[order]),
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
            "tickvals": [-limit, 0, limit],
            "ticktext": [f"≤ {change(-limit)}", "0", change(limit)],
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
    for index, label, symbol in (
        (trace.best, "gains most", "square"),
        (trace.chosen, "chosen", "circle"),
    ):
        if index is None:
            continue
        figure.add_scatter(
            x=[int(trace.kept_iteration[index])],
            y=[int(np.flatnonzero(order == index)[0])],
            mode="markers",
            marker={
                "symbol": symbol,
                "size": 15 if symbol == "square" else 9,
                "color": palette.surface,
                "line": {"width": 2.5, "color": palette.ink},
            },
            name=label,
            hoverinfo="skip",
        )
    figure.update_xaxes(range=[-0.5, iterations + 0.5], dtick=1 if iterations <= 20 else None)
    figure.update_yaxes(
        tickvals=list(range(len(rates))),
        ticktext=[rate_label(rate) for rate in rates],
        range=[-0.5, len(rates) - 0.5],
        showgrid=False,
    )
    return figure
