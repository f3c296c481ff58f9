"""Two cards on the gap between TRIM and the optimal allocation of the same layer."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from app.ui.common.cards import View, card, theme
from app.ui.common.selection import SelectionSource, chosen_data, on_chart, rows_for
from diagnostics.allocation import RowScatter, row_scatter
from diagnostics.figures.gap import gap_loss_figure, gap_quality_figure, gap_scatter_figure, gap_share_figure
from diagnostics.format import change, number, percent
from diagnostics.gap import AllocationGap, GapCurve

if TYPE_CHECKING:  # it computes, and imports torch
    from app.services.layer.study import Outcome, Study


def gap_section(study: "Study", outcome: "Outcome", rows: list[int], layer_name: str, file_name: str) -> None:
    """Show how much of the possible improvement TRIM captures, and where it does not.

    Args:
        study: the layer's study.
        outcome: its outcome at the chosen target.
        rows: the selected ones.
        layer_name: the downloads' name without the target.
        file_name: the downloads' name, with the target.
    """
    left, right = st.columns(2)
    with right:
        _rows_card(study, outcome, rows, file_name)
    with left:
        _curve_card(study.all_targets(outcome).curve, layer_name)


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

    def view(draw: Callable[..., go.Figure], alt: str, finding: Callable[[GapCurve], str]) -> View:
        return View(draw(curve, theme()), finding(curve), GAP_FORMULA, alt, numbers)

    card(
        "gap_curve",
        {
            "Layer quality": lambda: view(
                gap_quality_figure,
                "Layer quality of uniform, TRIM and optimal at targets from 30%",
                gap_curve_finding,
            ),
            "Error": lambda: view(
                gap_loss_figure,
                "Error under TRIM and optimal as a share of uniform's, at targets from 30%",
                gap_loss_finding,
            ),
            "Share captured": lambda: view(
                gap_share_figure,
                "Share of the possible improvement that TRIM captures at targets from 30%",
                gap_curve_finding,
            ),
        },
        file_name=file_name,
        brief=True,
    )


def _rows_card(study: "Study", outcome: "Outcome", rows: list[int], file_name: str) -> None:
    gap, layer = study.gap(outcome), outcome.view
    quantities = {
        "Against output size": ("output_norm", study.layer.output_norm),
        "Against Gini": ("gini", layer.coefficients),
    }
    if layer.sensitivity is not None:
        quantities["Against sensitivity"] = ("sensitivity", layer.sensitivity)
    source = SelectionSource("gap_rows", layer.key)
    marked = rows_for(source, rows)

    def view(quantity: str, values: np.ndarray) -> View:
        scatter = row_scatter(gap.reached, quantity, values, marked, gap.excess)
        return View(
            gap_scatter_figure(scatter, marked, theme()),
            gap_rows_finding(gap, scatter),
            EXCESS_FORMULA,
            "Row sparsity under TRIM less row sparsity under the optimum, row by row",
            lambda: {
                "row": np.arange(layer.rows),
                "trim_row_sparsity": gap.reached.row_sparsity,
                "optimal_row_sparsity": gap.best.row_sparsity,
                "excess": gap.excess,
                quantity: values,
            },
        )

    card(
        "gap_rows",
        {name: partial(view, *pair) for name, pair in quantities.items()},
        file_name=file_name,
        brief=True,
        on_select=on_chart(source, marked, chosen_data),
        selectable=frozenset(quantities),
        clickable=True,
    )


GAP_FORMULA = r"""
$$
\text{captured} = \frac{q_{\mathrm{TRIM}} - q_{\mathrm{uniform}}}{q_{\mathrm{optimal}} - q_{\mathrm{uniform}}}
$$

$q$ is the layer's quality at exact counts. 0: TRIM gains nothing over uniform; 1: as much as the optimum; below 0: TRIM
is worse than uniform. The optimum minimises an error, $\sum_i f_i\, e_i(k_i)$, and not $q$ itself: in another measure,
such as the cosine, TRIM can come out above 1, and where the optimum does not beat uniform there is no share. In the
error itself (the other line, with minus the error as $q$) no allocation under the same cap captures more than all.
TRIM's rows may lose as much as its row cap allows (95% by default), the optimum's 99%.
"""


EXCESS_FORMULA = r"""
$$
s_i^{\mathrm{TRIM}} - s_i^{\mathrm{optimal}}
$$

Row sparsity under TRIM less row sparsity under the optimum, in percentage points. Above 0 TRIM prunes more of the row
than the optimum does, below 0 less; over all rows it adds up to 0. TRIM goes by the cosine of a row's output, which is
blind to how large that output is; the optimum goes by the error, which is not.
"""


def captured_text(gap: AllocationGap, row_weights: str) -> str:
    """Describe how much of the possible improvement TRIM captures, in a sentence.

    Args:
        gap: between TRIM and the optimum.
        row_weights: the optimum's row weights, "ones" or "fisher".
    """
    error = "the error"
    minimised = "the error of the layer's output"
    if row_weights == "fisher":
        error = "the estimated loss"
        minimised = "an estimate of the model's loss, and gives up what the loss does not mind"
    uniform, reached, best = gap.uniform_quality, gap.reached_quality, gap.best_quality
    if gap.captured is None:
        sentence = (
            "In this layer quality the optimum is not better than uniform, so TRIM's share is not defined: it "
            f"minimises {minimised}."
            if best <= uniform
            else "One of the qualities is not finite, so TRIM's share is not defined."
        )
    elif gap.captured < 0:
        sentence = (
            f"TRIM is worse than uniform ({number(reached, 5)} against {number(uniform, 5)}); the optimum reaches "
            f"{number(best, 5)}."
        )
    elif gap.captured > 1:
        sentence = (
            f"TRIM gains {number(gap.captured, 3)} times what the optimum gains: the optimum minimises {error} and not "
            "this layer quality."
        )
    else:
        sentence = f"TRIM makes {percent(gap.captured)} of the optimum's gain over uniform."
    if gap.loss_captured is not None:
        sentence += f" Of {error} that the optimum saves, TRIM saves {percent(gap.loss_captured)}."
    return sentence


def gap_rows_finding(gap: AllocationGap, scatter: RowScatter) -> str:
    """Describe which rows TRIM prunes too much or too little."""
    if not gap.over:
        return "TRIM and the optimum prune the same number of weights of every row."
    over, under = gap.over[0], gap.under[0]
    sentence = (
        f"The optimum takes {percent(gap.misplaced_share)} of the weights from other rows. Row {over.row}: "
        f"{percent(over.second)}, optimally {percent(over.first)}; row {under.row}: {percent(under.second)}, optimally "
        f"{percent(under.first)}."
    )
    found = scatter.correlation
    if found is not None and abs(found.coefficient) >= 0.2:
        side = "too much" if found.coefficient > 0 else "too little"
        sentence += f" Rows further right lose {side} (Spearman {change(found.coefficient)})."
    return sentence


def gap_curve_finding(curve: GapCurve) -> str:
    """Describe what TRIM captures at several targets."""
    defined = np.isfinite(curve.captured)
    if not defined.any():
        return "At no target is the optimum better than uniform in this layer quality."
    captured, targets = curve.captured[defined], curve.targets[defined]
    best = int(captured.argmax())
    below = int((captured < 0).sum())
    sentence = (
        f"TRIM's share: at most {percent(captured[best], 2)}, at a layer target of {percent(targets[best], 0)}; median "
        f"of {len(captured)} targets {percent(np.median(captured), 2)}."
    )
    if len(captured) < len(defined):
        sentence += " At the others the optimum does not gain."
    if below:
        sentence += f" Worse than uniform: at {below}."
    return sentence


def gap_loss_finding(curve: GapCurve) -> str:
    """Describe the share of uniform's error that is left at several targets."""
    parts = [
        f"{label} leaves {percent(np.nanmin(shares))} to {percent(np.nanmax(shares))}"
        for label, shares in (("the optimum", curve.best_loss), ("TRIM", curve.reached_loss))
        if np.isfinite(shares).any()
    ]
    return (
        f"Of uniform's error {', '.join(parts)}."
        if parts
        else "Uniform makes no error at these targets, so none is left to save."
    )
