"""A layer at several targets, against loops in float64; the figure."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from diagnostics.figures.targets import target_paths_figure
from diagnostics.figures.theme import METHOD_STYLES
from diagnostics.targets import target_paths
from tests.diagnostics.figure_cases import traces

TARGETS = np.array([0.3, 0.5, 0.7])
COUNTS = np.array([[2, 3, 4, 3], [6, 4, 5, 5], [5, 8, 7, 8]])


def test_rows_are_followed_through_targets():
    paths = target_paths("trim", "TRIM <b>", TARGETS, COUNTS, 10)
    back = sum(any(COUNTS[p + 1][r] < COUNTS[p][r] for p in range(2)) for r in range(4)) / 4
    assert paths.given_back == back == 0.25
    expected = [spearmanr(each, COUNTS[-1]).statistic for each in COUNTS]
    np.testing.assert_allclose(paths.order, expected)
    assert paths.order[-1] == pytest.approx(1)
    np.testing.assert_allclose(paths.bands[2], [np.median(each) / 10 for each in COUNTS])
    figure = target_paths_figure(paths, [3, 0])
    (row,) = traces(figure, "row 3")
    np.testing.assert_allclose(row.y, [0.3, 0.5, 0.8], rtol=1e-6)
    assert row.line.color == METHOD_STYLES["trim"].colour
    assert "TRIM &lt;b&gt;" in figure.layout.title.text


def test_counts_and_targets_must_fit():
    alike = target_paths("optimal", "Optimal", TARGETS[:1], np.full((1, 4), 3), 10)
    assert np.isnan(alike.order).all()
    assert alike.given_back == 0
    for targets, counts in ((TARGETS[:2], COUNTS), (TARGETS[::-1], COUNTS), (TARGETS, COUNTS[0])):
        with pytest.raises(ValueError, match="do not fit together"):
            target_paths("trim", "TRIM", targets, counts, 10)
