"""Whether an expert's scores look more or less concentrated because few tokens reached it."""

import plotly.graph_objects as go

from diagnostics.figures.frame import frame
from diagnostics.figures.lines import points
from diagnostics.figures.model_map import LAYERS_TRACE
from diagnostics.figures.theme import PALETTES, Theme
from diagnostics.model_map import ModelMap


def tokens_gini_figure(shown: ModelMap, theme: Theme = "light") -> go.Figure:
    """Draw a mark for each expert of a map, its median Gini over the tokens that it saw. Customdata: layers' names."""
    figure = frame(
        theme,
        title="Does the Gini depend on how many tokens an expert saw?",
        subtitle="A mark for each expert of each block.",
        x_title="tokens seen",
        y_title="median Gini",
        plot_height=280,
    )
    tokens, gini = ([getattr(each, name) for each in shown.layers] for name in ("tokens", "median_gini"))
    hover = "<b>%{customdata}</b><br>%{x:,} tokens seen<br>median Gini %{y:.3f}<extra></extra>"
    marker = {"size": 6, "opacity": 0.6, "color": PALETTES[theme].gain}
    names = [facts.name for facts in shown.layers]
    points(figure, LAYERS_TRACE, tokens, gini, hover, marker, customdata=names)
    return figure
