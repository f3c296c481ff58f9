"""Sensitivity against Gini of all rows of a model."""

import numpy as np
import plotly.graph_objects as go

from diagnostics.figures.frame import float32, frame
from diagnostics.figures.theme import SEQUENTIAL, Theme
from diagnostics.format import count_rows
from diagnostics.sensitivity import SensitivityStatistics


def sensitivity_density_figure(found: SensitivityStatistics, theme: Theme = "light") -> go.Figure:
    """Draw the density of rows over Gini and sensitivity."""
    counts = found.density
    middles = [(edges[:-1] + edges[1:]) / 2 for edges in (found.gini_edges, found.sensitivity_edges)]
    highest = max(1.0, float(counts.max()))
    ticks = [float(tick) for tick in 10.0 ** np.arange(0, np.ceil(np.log10(highest)) + 1) if tick <= highest]
    figure = frame(
        theme,
        title="Is a row with concentrated scores one that matters?",
        subtitle=f"{count_rows(int(counts.sum()))} of {len(found.names):,} layers, by Gini and sensitivity.",
        x_title="Gini of the row's scores (0 = spread evenly)",
        y_title="sensitivity (logarithmic)",
        right=8,
    )
    figure.add_heatmap(
        x=float32(middles[0]),
        y=float32(middles[1]),
        z=float32(np.log10(counts, where=counts > 0, out=np.full_like(counts, np.nan))),
        customdata=counts.astype(np.int32),
        colorscale=SEQUENTIAL,
        zmin=0.0,
        zmax=max(float(np.log10(highest)), 0.5),
        hoverongaps=False,
        colorbar={
            "tickvals": np.log10(ticks).tolist(),
            "ticktext": [f"{tick:,.0f}" for tick in ticks],
            "title_text": "rows",
        },
        hovertemplate="<b>%{customdata:,} rows</b><br>Gini %{x:.3f}, sensitivity 10<sup>%{y:.2f}</sup><extra></extra>",
    )
    low, high = found.sensitivity_edges[0], found.sensitivity_edges[-1]
    step = max(1, int(np.ceil((high - low) / 6)))
    powers = np.arange(np.ceil(low), high + 1e-9, step)
    figure.update_yaxes(
        tickvals=powers.tolist(), ticktext=[f"10<sup>{power:.0f}</sup>".replace("-", "−") for power in powers]
    )
    return figure
