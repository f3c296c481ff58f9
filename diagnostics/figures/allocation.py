"""Row sparsities of allocations: histogram, sorted curve, ECDF."""

from collections.abc import Iterable

import numpy as np
import plotly.graph_objects as go

from diagnostics.allocation import RowSparsityStatistics
from diagnostics.figures.frame import PERCENT, float32, frame, histogram_axes
from diagnostics.figures.lines import series_line
from diagnostics.figures.marks import ecdf_steps, histogram_bars, peak_label
from diagnostics.figures.row_marks import mark_rows, number_rows, selected_ticks
from diagnostics.figures.theme import Style, Theme, escape, series_styles
from diagnostics.format import count_rows
from diagnostics.numeric import row_indices

ROW_SPARSITY = "row sparsity (share of the row's weights pruned)"
ROW_SPARSITY_UPRIGHT = "row sparsity<br>(share of the row's weights pruned)"


def _styles(statistics: RowSparsityStatistics) -> list[Style]:
    return series_styles([allocation.method for allocation in statistics.allocations])


def row_sparsity_histogram(
    statistics: RowSparsityStatistics, selected_rows: Iterable[int] = (), theme: Theme = "light"
) -> go.Figure:
    """Draw histograms in shared bins, selected rows as rugs below; a spike that dwarfs the rest is cut and labelled."""
    bins, styles = statistics.histogram, _styles(statistics)
    selected = list(selected_rows)
    peaks = bins.counts.max(axis=1)
    # Uniform pruning puts all rows into one bin: at full height, nothing of the other allocations is visible.
    top = 1.2 * float(peaks[peaks <= 4 * peaks.min()].max())
    labels = [allocation.label for allocation in statistics.allocations]
    figure = frame(
        theme,
        title="How much of each row is pruned?",
        subtitle=_means(statistics) + (" Ticks below the bars: selected rows." if selected else ""),
        x_title=ROW_SPARSITY,
        y_title="rows (count)",
        legend=len(statistics.allocations) > 1,
    )
    # All bars first: a bar's curve number is its allocation's place.
    histogram_bars(figure, theme, bins, labels, styles, "row sparsity", ".1%")
    for position, (allocation, style) in enumerate(zip(statistics.allocations, styles, strict=True)):
        label = escape(allocation.label)
        if peaks[position] > top:
            text = f"{label}: {count_rows(int(peaks[position]))}"
            peak_label(figure, bins, bins.counts, position, top, text, gap=10)
        look = {"colour": style.colour, "label": label, "hover": "row sparsity %{x:.2%}"}
        selected_ticks(figure, selected, allocation.row_sparsity, position=position, top=top, **look)
    below = -(0.03 + 0.07 * len(statistics.allocations)) * top if selected else 0
    histogram_axes(figure, theme, bins, below, top)
    figure.update_xaxes(tickformat=PERCENT)
    return figure


def _means(statistics: RowSparsityStatistics) -> str:
    parts = [
        f"{escape(allocation.label)} {allocation.row_sparsity.min():.1%} to "
        f"{allocation.row_sparsity.max():.1%}"
        f" (layer sparsity {allocation.layer_sparsity:.2%})"
        for allocation in statistics.allocations
    ]
    return "Row sparsity by allocation: " + "; ".join(parts) + "."


def sorted_row_sparsity(
    statistics: RowSparsityStatistics, selected_rows: Iterable[int] = (), theme: Theme = "light"
) -> go.Figure:
    """Draw rows by ascending sparsity, one curve per allocation; selected rows as marks on their own rank."""
    figure = frame(
        theme,
        title="How far apart are the rows' sparsities?",
        subtitle="Rows in ascending order of row sparsity. A flat line prunes the same share of every row.",
        x_title="rows, sparsest last (share of all rows)",
        y_title=ROW_SPARSITY_UPRIGHT,
        legend=True,
    )
    selected = list(selected_rows)
    parts = zip(statistics.allocations, statistics.ranked, _styles(statistics), strict=True)
    for allocation, ranked, style in parts:
        label = escape(allocation.label)
        hover = f"<b>row %{{customdata}}</b> under {label}<br>row sparsity %{{y:.2%}}<extra></extra>"
        x, y, rows = float32(ranked.rank_fraction), float32(ranked.row_sparsity), ranked.rows.astype(np.int32)
        series_line(figure, label, x, y, style, hover, customdata=rows)
        rows = row_indices(selected, len(allocation.counts))
        x, y = ranked.all_rank_fraction[rows], allocation.row_sparsity[rows]
        mark_rows(figure, theme, rows, x, y, style, label)
    # Numbers on the last allocation only: on a uniform one, ranks among equals say nothing.
    number_rows(figure, theme, rows, x, y)
    figure.update_xaxes(range=[-0.03, 1.03], tickformat=".0%", nticks=6)
    figure.update_yaxes(tickformat=PERCENT, nticks=6)
    return figure


def row_sparsity_ecdf(statistics: RowSparsityStatistics, theme: Theme = "light") -> go.Figure:
    """Draw empirical distribution functions of the row sparsities, as steps on shared axes."""
    figure = frame(
        theme,
        title="How are the rows' sparsities distributed?",
        subtitle="A vertical step gathers many rows at one row sparsity; a slope spreads them.",
        x_title=ROW_SPARSITY,
        y_title="share of rows at or below",
        legend=True,
    )
    low = min(float(allocation.row_sparsity.min()) for allocation in statistics.allocations)
    high = max(float(allocation.row_sparsity.max()) for allocation in statistics.allocations)
    margin = max(0.05 * (high - low), 0.005)
    for allocation, steps, style in zip(
        statistics.allocations, statistics.ecdfs, _styles(statistics), strict=True
    ):
        label = escape(allocation.label)
        ecdf_steps(figure, steps, (low - margin, high + margin), style, label, "row sparsity %{x:.2%}")
    figure.update_xaxes(range=[low - margin, high + margin], tickformat=PERCENT, nticks=8)
    figure.update_yaxes(range=[0, 1.02], tickformat=".0%", nticks=6)
    return figure
