"""Learning-rate outcome against how concentrated the score is (figure 3c of arXiv 2505.16743)."""

import math
import textwrap
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from diagnostics.figures.frame import frame
from diagnostics.figures.lines import points
from diagnostics.figures.model_map import OUTCOME_SYMBOLS
from diagnostics.figures.theme import PALETTES, Theme, escape
from diagnostics.model_map import OutcomeLane

TITLE = "Does the Gini decide the learning rate's sign?"
_LANE = 44  # pixels
_SPREAD = 0.3  # of a lane, above and below its middle


def outcome_gini_figure(lanes: Sequence[OutcomeLane], theme: Theme = "light") -> go.Figure:
    """Draw a lane per run and outcome, a mark per layer, a line at its median. Customdata: the layers' names."""
    palette = PALETTES[theme]
    figure = frame(
        theme,
        title=TITLE,
        subtitle=_sentence(lanes),
        x_title="median Gini of the layer's rows",
        y_title="learning-rate outcome (layers)",
        plot_height=max(5, len(lanes)) * _LANE,
    )
    colours = {"positive": palette.gain, "negative": palette.loss, "none": palette.muted}
    runs = list(dict.fromkeys(lane.run for lane in lanes))
    for index, lane in enumerate(lanes):
        # Marks of equal Gini would hide each other, so they are spread above and below the middle in a fixed order.
        shift = _SPREAD * (2 * ((0.618034 * np.arange(lane.gini.size)) % 1) - 1)
        is_open = lane.run != runs[0] and lane.outcome != "none"
        colour, name = colours[lane.outcome], f"{lane.outcome}, {escape(lane.run)}"
        marker = {
            "symbol": OUTCOME_SYMBOLS[lane.outcome] + "-open" * is_open,
            "size": 8,
            "opacity": 0.75,
            "color": colour,
            "line": {"width": 1.5, "color": colour},
        }
        hover = f"<b>%{{customdata}}</b>, {escape(lane.run)}<br>median Gini %{{x:.3f}}"
        hover += f"<br>learning-rate outcome {lane.outcome}<extra></extra>"
        points(figure, name, lane.gini, index + shift, hover, marker, customdata=list(lane.names))
        if not math.isnan(lane.median):
            figure.add_scatter(
                x=[lane.median] * 2,
                y=[index - 0.42, index + 0.42],
                mode="lines",
                line={"width": 2, "color": palette.ink},
                hoverinfo="skip",
                name=f"median, {lane.outcome}, {escape(lane.run)}",
                showlegend=False,
            )
    labels = []
    for lane in lanes:
        # The end of a name tells runs of one model apart: two lines hold a long one.
        lines = textwrap.wrap(lane.run, 24, max_lines=2, placeholder="…") if len(runs) > 1 else []
        labels.append("<br>".join([*map(escape, lines), f"{lane.outcome}: {lane.gini.size:,}"]))
    figure.update_yaxes(
        tickvals=list(range(len(lanes))), ticktext=labels, range=[-0.6, len(lanes) - 0.4], showgrid=False
    )
    for border in range(3, len(lanes), 3):
        figure.add_hline(y=border - 0.5, line={"color": palette.grid, "width": 1}, layer="below")
    return figure


def _sentence(lanes: Sequence[OutcomeLane]) -> str:
    medians = [f"{lane.outcome} {lane.median:.3f}" for lane in lanes if lane.gini.size]
    if not medians:
        return "No layer was searched yet."
    return "Lines: medians over layers" + (f", {', '.join(medians)}." if len(lanes) <= 3 else ".")
