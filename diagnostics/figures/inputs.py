"""Input features as points: how much of each column is kept, against the feature's size and between layers."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

from diagnostics.allocation import thin_rows
from diagnostics.figures.frame import PERCENT, float32, frame, log_axis
from diagnostics.figures.lines import row_points, series_line
from diagnostics.figures.row_marks import number_rows
from diagnostics.figures.theme import OTHER_STYLES, Theme, escape, series_styles
from diagnostics.inputs import FeatureStatistics
from diagnostics.numeric import spread_indices

_LINE_POINTS = 1024
KEPT = "column kept<br>(share of the column's weights)"
FEATURE = "<b>feature %{customdata}</b>"


def features_by_norm_figure(
    found: Sequence[FeatureStatistics], input_norm: np.ndarray, outliers: np.ndarray, theme: Theme = "light"
) -> go.Figure:
    """Draw a point for each input feature: its norm, and the share of its column that each method keeps."""
    figure = frame(
        theme,
        title="Are the weights of large input features kept?",
        subtitle="Each point is an input feature; numbers name the largest outliers.",
        x_title="norm of the input feature (logarithmic)",
        y_title=KEPT,
        legend=len(found) > 1,
    )
    positive = np.where(input_norm > 0, input_norm, np.nan)
    for each, style in zip(found, series_styles([each.method for each in found]), strict=True):
        label = escape(each.label)
        hover = f"{FEATURE}: %{{y:.1%}} kept<br>norm %{{x:.3g}}<extra>{label}</extra>"
        shown, _ = thin_rows(positive, each.share, outliers)
        row_points(figure, label, shown, positive[shown], each.share[shown], style, hover)
    named = outliers[:8]
    number_rows(figure, theme, named, positive[named], found[-1].share[named], log_x=True)
    log_axis(figure, positive[np.isfinite(positive)])
    figure.update_yaxes(tickformat=PERCENT, nticks=6)
    return figure


def features_sorted_figure(found: Sequence[FeatureStatistics], theme: Theme = "light") -> go.Figure:
    """Draw the kept share of each column, the fullest columns first."""
    figure = frame(
        theme,
        title="Do few input features hold the kept weights?",
        subtitle="Columns by how much of them is kept, the fullest first.",
        x_title="share of the input features, fullest columns first",
        y_title=KEPT,
        legend=len(found) > 1,
    )
    for each, style in zip(found, series_styles([each.method for each in found]), strict=True):
        order = np.argsort(-each.kept, kind="stable")
        points = spread_indices(len(order), _LINE_POINTS)
        label = escape(each.label)
        x, y = float32((points + 1) / len(order)), float32(each.share[order[points]])
        hover = f"{FEATURE}: %{{y:.1%}} kept,<br>in the first %{{x:.1%}} of features<extra>{label}</extra>"
        series_line(figure, label, x, y, style, hover, customdata=order[points].astype(np.int32))
    figure.update_xaxes(range=[0, 1], tickformat=".0%", nticks=6)
    figure.update_yaxes(tickformat=PERCENT, rangemode="tozero", nticks=6)
    return figure


def shared_features_figure(
    own: np.ndarray, others: Mapping[str, np.ndarray], name: str, theme: Theme = "light"
) -> go.Figure:
    """Draw the kept share of each column against that of the same input feature in other layers.

    Args:
        own: (N,), the kept shares in the layer `name`.
        others: (N,) each, the kept shares in other layers, by name.
        name: the layer's name.
        theme: light or dark.
    """
    figure = frame(
        theme,
        title="Do layers that share an input keep the same features?",
        subtitle="Each point is an input feature: how much of its column each layer keeps.",
        x_title=f"column kept in {escape(name)}",
        y_title="column kept in the other layer",
        legend=True,
    )
    for index, (other, share) in enumerate(others.items()):
        style, label = OTHER_STYLES[index % len(OTHER_STYLES)], escape(other)
        hover = f"{FEATURE}: %{{x:.1%}} kept here,<br>%{{y:.1%}} in {label}<extra></extra>"
        shown, _ = thin_rows(own, share, np.array([], dtype=np.int64))
        row_points(figure, label, shown, own[shown], share[shown], style, hover)
    figure.update_xaxes(tickformat=PERCENT, nticks=8)
    figure.update_yaxes(tickformat=PERCENT, nticks=6)
    return figure
