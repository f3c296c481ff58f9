"""Rows over repeated draws: what a selected row shows."""

import numpy as np
import pytest

from diagnostics.figures.signal import row_signal_figure


def test_a_selected_row_has_its_mean_and_deviation_on_hover():
    draws = np.array([[0.5, 0.25], [0.5, 0.75]])
    marks = row_signal_figure(draws, "row sparsity", [1]).data[-1]
    assert (marks.name, list(marks.customdata), list(marks.y)) == ("selected rows", [1], [0.5])
    assert marks.hovertemplate.startswith("<b>row %{customdata}</b><br>row sparsity %{y:.1%} ± %{text}")
    assert float(marks.text[0].rstrip("%")) == pytest.approx(100 * draws[:, 1].std(ddof=1), abs=0.05)
