"""Whether an expert's scores look more or less concentrated because few tokens reached it."""

import numpy as np
import plotly.graph_objects as go

from diagnostics.figures.frame import drawn, frame
from diagnostics.figures.model_map import LAYERS_TRACE
from diagnostics.figures.theme import PALETTES, Theme
from diagnostics.model_map import ModelMap


def tokens_gini_figure(shown: ModelMap, theme: Theme = "light") -> go.Figure:
    """Draw a mark for each expert of a map, its median Gini over the tokens that it saw. Customdata: layers' names."""
    figure = go.Figure()
    figure.add_scatter(
        x=drawn(np.array([facts.tokens for facts in shown.layers])),
        y=drawn(np.array([facts.median_gini for facts in shown.layers])),
        mode="markers",
        name=LAYERS_TRACE,
        customdata=[facts.name for facts in shown.layers],
        marker={"size": 6, "opacity": 0.6, "color": PALETTES[theme].gain},
        hovertemplate="<b>%{customdata}</b><br>%{x:,} tokens seen<br>median Gini %{y:.3f}<extra></extra>",
        showlegend=False,
    )
    frame(
        figure,
        theme,
        title="Does the Gini depend on how many tokens an expert saw?",
        subtitle="A mark for each expert of each block.",
        x_title="tokens seen",
        y_title="median Gini",
        plot_height=280,
        legend=False,
    )
    return figure
