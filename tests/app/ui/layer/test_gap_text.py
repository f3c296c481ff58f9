"""The sentences about the gap say what the numbers say, also where the share is odd or none."""

import math

import numpy as np
import pytest

from app.ui.layer.gap import captured_text, gap_curve_finding, gap_loss_finding, gap_rows_finding
from diagnostics.allocation import RowAllocation, RowScatter, row_scatter
from diagnostics.gap import AllocationGap, GapCurve, allocation_gap


def gap(uniform: float, reached: float, best: float, counts=(10, 30, 20, 40), **more) -> AllocationGap:
    return allocation_gap(
        RowAllocation("trim", "TRIM", np.array(counts), 50),
        RowAllocation("optimal", "Optimal", np.array([20, 30, 5, 45]), 50),
        uniform_quality=uniform,
        reached_quality=reached,
        best_quality=best,
        **more,
    )


def scatter(found: AllocationGap, values: np.ndarray) -> RowScatter:
    return row_scatter(found.reached, "gini", values, heights=found.excess)


@pytest.mark.parametrize(
    ("qualities", "message"),
    [
        ((0.5, 0.6, 0.9), "TRIM makes 25.0% of the optimum's gain"),
        (
            (0.5, 0.4, 0.9),
            "TRIM is worse than uniform (0.40000 against 0.50000); the optimum reaches 0.90000",
        ),
        ((0.5, 0.9, 0.7), "TRIM gains 2.00 times what the optimum gains"),
        ((0.5, 0.6, 0.4), "the optimum is not better than uniform"),
        ((0.5, 0.6, math.inf), "not finite"),
    ],
)
def test_captured(qualities, message):
    for row_weights in ("ones", "fisher"):
        assert message in captured_text(gap(*qualities), row_weights)
        assert "saves" not in captured_text(gap(*qualities), row_weights)


def test_captured_of_the_error():
    found = gap(0.5, 0.6, 0.4, losses=(4.0, 3.0, 2.0))
    assert captured_text(found, "ones").endswith("Of the error that the optimum saves, TRIM saves 50.0%.")
    fisher = captured_text(found, "fisher")
    assert "minimises an estimate of the model's loss" in fisher
    assert fisher.endswith("Of the estimated loss that the optimum saves, TRIM saves 50.0%.")


def test_rows():
    found = gap(0.5, 0.6, 0.9)
    finding = gap_rows_finding(found, scatter(found, np.array([0.1, 0.2, 0.9, 0.15])))
    assert finding.startswith("The optimum takes 15.0% of the weights from other rows.")
    assert "Row 2: 40.0%, optimally 10.0%" in finding
    assert "row 0: 20.0%, optimally 40.0%" in finding
    assert "lose too much (Spearman +1)" in finding
    same = gap(0.5, 0.6, 0.9, counts=(20, 30, 5, 45))
    assert "the same number of weights of every row" in gap_rows_finding(same, scatter(same, np.arange(4.0)))


def test_targets():
    curve = GapCurve.of(
        [0.5, 0.6, 0.7], [(0.9, 0.91, 0.95), (0.8, 0.79, 0.9), (0.5, 0.6, 0.4)], [(2, 1, 1)] * 3, "mse"
    )
    finding = gap_curve_finding(curve)
    assert "at most 20.00%, at a layer target of 50%" in finding
    assert finding.endswith("Worse than uniform: at 1.")
    assert "At the others the optimum does not gain." in finding
    assert "At no target" in gap_curve_finding(GapCurve.of([0.7], [(0.5, 0.6, 0.4)], [(2, 1, 1)], "mse"))


def test_what_is_left_of_the_error():
    curve = GapCurve.of([0.5, 0.6], [(0.9, 0.91, 0.95)] * 2, [(4, 3, 2), (5, 5, 3)], "mse")
    assert gap_loss_finding(curve) == (
        "Of uniform's error the optimum leaves 50.0% to 60.0%, TRIM leaves 75.0% to 100.0%."
    )
    assert "Uniform makes no error" in gap_loss_finding(
        GapCurve.of([0.5], [(1.0, 1.0, 1.0)], [(0, 0, 0)], "mse")
    )
