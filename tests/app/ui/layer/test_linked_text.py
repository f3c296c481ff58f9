"""The words around the linked charts agree with what these mark, and names every symbol in them."""

import dataclasses

import numpy as np
import pytest

from app.services.runs.layer import SearchView
from app.ui.layer.linked_text import legend
from app.ui.layer.text import rate_finding
from diagnostics.learning_rate import LearningRateTrace
from diagnostics.panel_parts import Axis, Mark, Panel

RATES, QUALITY = np.array([0.02, 0.04, -0.01]), np.array([[0.9, 0.93], [0.9, 0.95], [0.9, 0.89]])


def search(tried: list[bool], chosen: int | None, quality: np.ndarray = QUALITY) -> SearchView:
    trace = LearningRateTrace(
        RATES, quality, np.ones_like(quality), np.array(tried), chosen, published=QUALITY
    )
    return SearchView(trace, 1, np.zeros((1, 2)), np.zeros((3, 1)))


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (search([True, True, False], 1), "η = +0.04 wins: rows that keep their output are pruned harder."),
        (
            search([True, False, True], 0),
            "TRIM chose η = +0.02; η = +0.04, not tried, would gain more.",
        ),
        (
            search([True, True, True], 0),
            "η = +0.02 wins by rounded counts (×), η = +0.04 by exact ones.",
        ),
        (
            search([True, True, True], None),
            "Uniform wins by rounded counts (×), η = +0.04 by exact ones.",
        ),
        (search([True, True, True], None, 0 * QUALITY), "None of the 3 rates tried beats uniform."),
    ],
)
def test_the_finding_says_which_rate_wins_and_why_another_does_not(search, message):
    assert rate_finding(search) == message


def test_the_legend_explains_each_symbol_that_is_drawn():
    marks = (Mark("points", "gain", symbol="triangle-up"), Mark("points", "ink", symbol="cross"))
    axis = Axis("", 0, 1, ())
    panel = Panel("rate", "", axis, axis, marks)
    assert [(symbol, style) for symbol, style, _ in legend(panel)] == [
        ("triangle-up", "gain"),
        ("cross", "ink"),
    ]
    (words,) = legend(dataclasses.replace(panel, name="gini"))
    assert words[:2] == ("", "")
    assert "Gini" in words[2]
