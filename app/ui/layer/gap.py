"""What TRIM leaves to gain against the optimal allocation of the same layer: two cards."""

from collections.abc import Callable

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from app.services.layer.study import Outcome, Study
from app.ui.common.cards import View, card, theme
from app.ui.common.selection import Source, on_chart, rows_for
from app.ui.layer import gap_words
from diagnostics.figures.gap import gap_loss_figure, gap_quality_figure, gap_scatter_figure, gap_share_figure
from diagnostics.gap import GapCurve, gap_scatter


def gap_section(study: Study, outcome: Outcome, rows: list[int], layer_name: str, file_name: str) -> None:
    """How much of the possible improvement TRIM captures, and where it does not.

    Args:
        study, outcome: of the layer, with all allocations.
        rows: the selected ones.
        layer_name, file_name: of the downloads, without and with the target.
    """
    left, right = st.columns(2)
    with right:
        _rows_card(study, outcome, rows, file_name)
    with left:
        _curve_card(study.gap_curve(outcome), layer_name)


def _curve_card(curve: GapCurve, file_name: str) -> None:
    def numbers() -> dict[str, np.ndarray]:
        return {
            "layer_target": curve.targets,
            "uniform_quality": curve.uniform,
            "trim_quality": curve.reached,
            "optimal_quality": curve.best,
            "trim_error_of_uniforms": curve.reached_loss,
            "optimal_error_of_uniforms": curve.best_loss,
            "captured": curve.captured,
            "captured_of_the_error": curve.loss_captured,
        }

    def view(draw: Callable[..., go.Figure], alt: str, seen: Callable[[GapCurve], str]) -> View:
        return View(draw(curve, theme()), seen(curve), gap_words.GAP_FORMULA, alt, numbers)

    card(
        "gap_curve",
        {
            "Layer quality": lambda: view(
                gap_quality_figure,
                "Layer quality of uniform, TRIM and optimal at targets from 30%",
                gap_words.gap_curve_seen,
            ),
            "Error": lambda: view(
                gap_loss_figure,
                "Error under TRIM and optimal as a share of uniform's, at targets from 30%",
                gap_words.gap_loss_seen,
            ),
            "Share captured": lambda: view(
                gap_share_figure,
                "Share of the possible improvement that TRIM captures at targets from 30%",
                gap_words.gap_curve_seen,
            ),
        },
        file_name=file_name,
    )


def _rows_card(study: Study, outcome: Outcome, rows: list[int], file_name: str) -> None:
    gap = study.gap(outcome)
    quantities = {
        "Against output size": ("output_norm", study.output_norm),
        "Against Gini": ("gini", study.gini.coefficients[0]),
    }
    if outcome.optimum.sensitivity is not None:
        quantities["Against sensitivity"] = (
            "sensitivity",
            outcome.optimum.sensitivity.double().cpu().numpy(),
        )
    source = Source("gap_rows", (study.key, outcome.result.settings, outcome.optimum.row_weights))
    marked = rows_for(source, rows)

    def view(quantity: str, values: np.ndarray) -> View:
        scatter = gap_scatter(gap, quantity, values, marked)
        return View(
            gap_scatter_figure(scatter, marked, theme()),
            gap_words.gap_rows_seen(gap, scatter),
            gap_words.EXCESS_FORMULA,
            "Row sparsity under TRIM less row sparsity under the optimum, row by row",
            lambda: {
                "row": np.arange(study.rows),
                "trim_row_sparsity": gap.reached.row_sparsity,
                "optimal_row_sparsity": gap.best.row_sparsity,
                "excess": gap.excess,
                quantity: values,
            },
        )

    def rows_of(points: list[dict]) -> np.ndarray:
        return np.unique(
            np.array([int(np.ravel(point["customdata"])[0]) for point in points], dtype=np.int64)
        )

    callback = on_chart(source, marked, rows_of)
    card(
        "gap_rows",
        {name: lambda pair=pair: view(*pair) for name, pair in quantities.items()},
        file_name=file_name,
        on_select=callback,
        selectable=frozenset(quantities),
        clickable=True,
    )
