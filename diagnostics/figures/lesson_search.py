"""TRIM's search in lessons: one update, a path of updates, the sign of the rate, and budgets of layers."""

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from diagnostics.figures.frame import PERCENT, drawn, frame, signed
from diagnostics.figures.learning_rate import rate_label
from diagnostics.figures.theme import METHOD_STYLES, PALETTES, Theme, hatching
from diagnostics.lessons import BudgetLesson, PathLesson, SignLesson, UpdateLesson

_UNIFORM, _TRIM = METHOD_STYLES["uniform"], METHOD_STYLES["trim"]


def update_figure(lesson: UpdateLesson, theme: Theme = "light") -> go.Figure:
    """Each row's sparsity before and after one update, rows from top to bottom."""
    palette = PALETTES[theme]
    figure = go.Figure()
    rows = np.arange(len(lesson.quality))
    for row, x in zip(rows, lesson.row_sparsity, strict=True):
        figure.add_scatter(
            x=[lesson.target, x],
            y=[row, row],
            mode="lines",
            line={"width": 4, "color": palette.faint},
            hoverinfo="skip",
            showlegend=False,
            name=f"move of row {row}",
        )
    for values, style, name in (
        (np.full(len(rows), lesson.target), _UNIFORM, "before: uniform"),
        (lesson.row_sparsity, _TRIM, "after one update: x"),
    ):
        figure.add_scatter(
            x=drawn(values),
            y=rows,
            mode="markers",
            name=name,
            marker={"symbol": style.symbol, "size": 14, "color": style.colour},
            hovertemplate=f"<b>row %{{y}}</b>, {name}<br>row sparsity %{{x:.2%}}<extra></extra>",
        )
    for place, (x, change, cosine) in enumerate(
        zip(lesson.row_sparsity, lesson.change, lesson.quality, strict=True)
    ):
        figure.add_annotation(
            x=float(max(x, lesson.target)),
            y=place,
            text=f"{signed(100 * change, '.1f')} points<br>cosine was {cosine:.2f}",
            xanchor="left",
            xshift=14,
            align="left",
            showarrow=False,
        )
    frame(
        figure,
        theme,
        title="Who gives, and who gets?",
        subtitle=f"Learning rate {rate_label(lesson.rate)}, layer target {lesson.target:.0%}. Right: pruned more.",
        x_title="row sparsity (share of the row's weights pruned)",
        y_title="row (index)",
        plot_height=260,
        legend=True,
    )
    figure.update_xaxes(range=[0.1, 1.02], tickformat=".0%", nticks=6)
    figure.update_yaxes(range=[len(rows) - 0.4, -0.6], dtick=1, showgrid=False)
    return figure


def path_figure(lesson: PathLesson, iteration: int, theme: Theme = "light") -> go.Figure:
    """Every row's sparsity after so many updates, and below it the layer's quality on the way there."""
    palette = PALETTES[theme]
    figure = make_subplots(rows=2, row_heights=[0.6, 0.4], vertical_spacing=0.2)
    figure.add_bar(
        x=np.arange(len(lesson.gini), dtype=np.int32),
        y=drawn(lesson.row_sparsity[iteration]),
        name="row sparsity",
        marker={
            "color": _TRIM.colour,
            "opacity": 0.85,
            "pattern": hatching(_TRIM, palette),
        },
        customdata=drawn(lesson.gini),
        hovertemplate="<b>row %{x}</b>, Gini %{customdata:.3f}<br>row sparsity %{y:.1%}<extra></extra>",
        row=1,
        col=1,
    )
    figure.add_hline(
        y=lesson.target, line={"color": _UNIFORM.colour, "width": 2, "dash": "dash"}, row=1, col=1
    )
    figure.add_annotation(
        x=-0.5,
        y=lesson.target,
        text=f"uniform: {lesson.target:.0%}",
        xanchor="left",
        yanchor="bottom",
        showarrow=False,
        row=1,
        col=1,
    )
    steps = np.arange(len(lesson.quality), dtype=np.int32)
    figure.add_scatter(
        x=steps,
        y=drawn(lesson.quality),
        mode="lines",
        line={"color": palette.faint, "width": 1.5, "dash": "dot"},
        hoverinfo="skip",
        name="all updates",
        row=2,
        col=1,
    )
    figure.add_scatter(
        x=steps[: iteration + 1],
        y=drawn(lesson.quality[: iteration + 1]),
        mode="lines+markers",
        line={"color": _TRIM.colour, "width": 2.5},
        marker={"symbol": _TRIM.symbol, "size": 9},
        name="layer quality so far",
        hovertemplate="iteration %{x}: layer quality %{y:.4f}<extra></extra>",
        row=2,
        col=1,
    )
    if iteration >= lesson.kept:
        figure.add_annotation(
            x=lesson.kept,
            y=float(lesson.quality[lesson.kept]),
            text=f"best so far: kept, {lesson.quality[lesson.kept]:.4f}",
            yanchor="bottom",
            yshift=8,
            showarrow=False,
            row=2,
            col=1,
        )
    frame(
        figure,
        theme,
        title="How do the rows and the layer's quality move?",
        subtitle=f"After {iteration} of {len(steps) - 1} updates with η = {rate_label(lesson.rate)}. Rows by "
        "rising Gini.",
        plot_height=460,
    )
    span = float(np.ptp(lesson.quality))
    figure.update_xaxes(title_text="row (index; by rising Gini)", dtick=1, row=1)
    figure.update_yaxes(title_text="row sparsity", range=[0, 1.05], tickformat=".0%", nticks=5, row=1)
    figure.update_xaxes(
        title_text="iteration (count; 0 = uniform)", dtick=1, range=[-0.3, steps[-1] + 0.3], row=2
    )
    figure.update_yaxes(
        title_text="layer quality<br>(cosine over the layer)",
        range=[float(lesson.quality.min()) - 0.15 * span, float(lesson.quality.max()) + 0.3 * span],
        nticks=4,
        row=2,
    )
    return figure


def sign_figure(lesson: SignLesson, theme: Theme = "light") -> go.Figure:
    """Draw the scores of a loud and of a quiet row, and what each learning rate gains with them."""
    palette = PALETTES[theme]
    figure = make_subplots(rows=2, row_heights=[0.5, 0.5], vertical_spacing=0.24)
    place = np.arange(1, len(lesson.loud) + 1, dtype=np.int32)
    for values, name, dash, coefficient in (
        (lesson.loud, "loud rows", "solid", lesson.loud_gini),
        (lesson.quiet, "quiet rows", "dot", lesson.quiet_gini),
    ):
        figure.add_scatter(
            x=place,
            y=drawn(values),
            mode="lines",
            name=f"{name} (Gini {coefficient:.2f})",
            line={"color": palette.ink, "width": 2, "dash": dash, "shape": "hvh"},
            hovertemplate=f"{name}: weight %{{x}} of {len(values)} has score %{{y:.3f}}<extra></extra>",
            row=1,
            col=1,
        )
    pruned = round(lesson.target * len(lesson.loud))
    figure.add_vrect(
        x0=len(lesson.loud) - pruned + 0.5,
        x1=len(lesson.loud) + 0.5,
        fillcolor=palette.band[0],
        line_width=0,
        layer="below",
        row=1,
        col=1,
    )
    figure.add_annotation(
        x=len(lesson.loud),
        y=float(max(lesson.loud[0], lesson.quiet[0])),
        text=f"pruned by uniform ({lesson.target:.0%} of a row)",
        xanchor="right",
        yanchor="top",
        showarrow=False,
        font={"size": 11, "color": palette.muted},
        row=1,
        col=1,
    )
    trace = lesson.trace
    order = np.argsort(trace.rates)
    gains = 1000 * np.maximum(trace.kept_gain, 0.0)[order]
    rates = trace.rates[order]
    chosen = None if trace.chosen is None else order.tolist().index(trace.chosen)
    figure.add_bar(
        x=[rate_label(float(rate)) for rate in rates],
        y=drawn(gains),
        name="gain",
        showlegend=False,
        marker={
            "color": [palette.gain if rate > 0 else palette.loss for rate in rates],
            "pattern": {
                "shape": ["" if tried else "/" for tried in np.asarray(trace.tried)[order]],
                "size": 6,
                "solidity": 0.5,
                "fgcolor": palette.surface,
                "fillmode": "overlay",
            },
            "line": {
                "width": [3 if index == chosen else 0 for index in range(len(rates))],
                "color": palette.ink,
            },
        },
        customdata=["tried" if tried else "not tried" for tried in np.asarray(trace.tried)[order]],
        hovertemplate="<b>η = %{x}</b> (%{customdata})<br>gain %{y:.2f} thousandths<extra></extra>",
        row=2,
        col=1,
    )
    if chosen is not None:
        figure.add_annotation(
            x=chosen,
            y=float(gains[chosen]),
            text="chosen",
            yanchor="bottom",
            yshift=3,
            showarrow=False,
            row=2,
            col=1,
        )
    frame(
        figure,
        theme,
        title="Which sign of the learning rate wins?",
        subtitle="Top: scores, largest first. Below: what each rate gains over uniform; no bar: no gain; hatched: TRIM "
        "stopped before trying it.",
        plot_height=470,
        legend=True,
    )
    figure.update_xaxes(title_text="weight of the row (place, highest score first)", nticks=6, row=1)
    figure.update_yaxes(title_text="score", range=[0, None], nticks=4, row=1)
    figure.update_xaxes(
        title_text="learning rate η (dimensionless)", type="category", autotickangles=[0, 90], row=2
    )
    figure.update_yaxes(
        title_text="gain over uniform<br>(thousandths of cosine)",
        range=[0, max(1.25 * float(gains.max()), 1.0)],
        nticks=5,
        row=2,
    )
    return figure


def budget_figure(lesson: BudgetLesson, theme: Theme = "light") -> go.Figure:
    """Draw the layer sparsity of each block's layer, with the outliers that earned it above."""
    palette = PALETTES[theme]
    figure = go.Figure()
    blocks = np.arange(len(lesson.sparsity), dtype=np.int32)
    figure.add_bar(
        x=blocks,
        y=drawn(lesson.sparsity),
        name="layer sparsity",
        text=[f"{value:.0%}" for value in lesson.sparsity],
        textposition="inside",
        insidetextanchor="end",
        textangle=0,
        marker={"color": _TRIM.colour, "opacity": 0.85},
        customdata=drawn(lesson.outliers),
        hovertemplate="<b>block %{x}</b><br>layer sparsity %{y:.1%}<br>outliers %{customdata:.2%}<extra></extra>",
    )
    figure.add_hline(y=lesson.target, line={"color": _UNIFORM.colour, "width": 2, "dash": "dash"})
    figure.add_annotation(
        x=1,
        xref="paper",
        y=lesson.target,
        text="uniform",
        xanchor="left",
        xshift=4,
        showarrow=False,
        font={"size": 11, "color": palette.muted},
    )
    frame(
        figure,
        theme,
        title="How much may each layer lose?",
        subtitle=f"OWL with λ = {lesson.width:.2f}; the mean layer sparsity stays {lesson.target:.0%}.",
        x_title="block (index), and its outliers (share of its scores)",
        y_title="layer sparsity (share of its weights pruned)",
        plot_height=300,
        right=64,
    )
    figure.update_xaxes(
        tickvals=blocks,
        ticktext=[f"{block}<br>{outliers:.1%}" for block, outliers in enumerate(lesson.outliers)],
        tickangle=0,
    )
    figure.update_yaxes(range=[0, 1.02], tickvals=[0, 0.25, 0.5, 0.75, 1], tickformat=PERCENT)
    return figure
