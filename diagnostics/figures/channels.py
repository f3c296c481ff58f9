"""The channels of an MLP as points."""

from collections.abc import Iterable

import numpy as np
import plotly.graph_objects as go

from diagnostics.allocation import thin_rows
from diagnostics.channels import ChannelPair
from diagnostics.figures.cells import percent_ticks
from diagnostics.figures.frame import PERCENT, float32, frame
from diagnostics.figures.lines import points
from diagnostics.figures.row_marks import number_rows, ring_rows
from diagnostics.figures.theme import PALETTES, SEQUENTIAL, Theme
from diagnostics.numeric import row_indices


def channels_figure(
    pair: ChannelPair,
    names: tuple[str, str],
    third: tuple[str, np.ndarray] | None = None,
    selected: Iterable[int] = (),
    theme: Theme = "light",
) -> go.Figure:
    """Draw a point for each channel: its pruned share in two parts of an MLP, with that in a third as colour.

    Args:
        pair: the two parts.
        names: their names, such as "gate row".
        third: the third part's name, and its shares (C,); None: not known.
        selected: channels to mark.
        theme: light or dark.
    """
    chosen = row_indices(selected, len(pair.first))
    kept, total = thin_rows(pair.first, pair.second, chosen)
    marker: dict[str, object] = {"size": 5, "opacity": 0.65, "color": PALETTES[theme].muted}
    hover = f"<b>channel %{{customdata}}</b><br>{names[0]}: %{{x:.1%}} pruned<br>{names[1]}: %{{y:.1%}}"
    text = None
    if third is not None:
        ticks, texts = percent_ticks(float(third[1].min()), float(third[1].max()))
        marker |= {
            "color": float32(third[1][kept]),
            "colorscale": SEQUENTIAL,
            "colorbar": {"tickvals": ticks, "ticktext": texts, "title": {"text": third[0]}},
        }
        text = [f"<br>{third[0]}: {share:.1%}" for share in third[1][kept]]
        hover += "%{text}"
    figure = frame(
        theme,
        title="Are the same channels spared?",
        subtitle="Each point is a channel of the MLP; shares of its weights that are pruned."
        + (f" {len(kept):,} of {total:,} drawn." if len(kept) < total else ""),
        x_title=f"{names[0]}, share pruned",
        y_title=f"{names[1]}, share pruned",
        plot_height=340,
        right=8 if third is not None else 16,
    )
    x, y, hover_all = pair.first[kept], pair.second[kept], f"{hover}<extra></extra>"
    points(figure, "channels", x, y, hover_all, marker, customdata=kept.astype(np.int32), text=text)
    x, y = pair.first[chosen], pair.second[chosen]
    ring_rows(figure, theme, chosen, x, y, hover.removesuffix("%{text}"), "selected channels")
    number_rows(figure, theme, chosen, x, y)
    figure.update_xaxes(tickformat=PERCENT, nticks=7)
    figure.update_yaxes(tickformat=PERCENT, nticks=7)
    return figure
