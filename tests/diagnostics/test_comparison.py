"""Distances against scipy and against known distributions; pairs of rows; the figures of comparisons."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp, spearmanr, wasserstein_distance

from diagnostics.allocation import RowAllocation
from diagnostics.comparison import compare_allocations
from diagnostics.figures.perplexity import PerplexityCurve, perplexity_curves_figure
from diagnostics.figures.scatter import pair_figure
from diagnostics.figures.theme import METHOD_STYLES
from tests.diagnostics.figure_cases import subtitle, traces

COLUMNS = 50


def allocation(counts, method="trim", label="A · TRIM", columns=COLUMNS):
    return RowAllocation(method, label, np.asarray(counts), columns)


@given(
    st.lists(st.integers(0, COLUMNS), min_size=1, max_size=40),
    st.lists(st.integers(0, COLUMNS), min_size=1, max_size=40),
)
def test_distances_are_scipys(first, second):
    found = compare_allocations(allocation(first), allocation(second))
    a, b = np.array(first) / COLUMNS, np.array(second) / COLUMNS
    with warnings.catch_warnings(action="ignore"):  # about the p-value, which is not compared
        assert found.ks_distance == pytest.approx(ks_2samp(a, b).statistic, abs=1e-12)
    assert found.wasserstein_distance == pytest.approx(wasserstein_distance(a, b), abs=1e-12)
    assert (found.why_unpaired is None) == (len(first) == len(second))
    if found.correlation is not None:
        assert found.correlation.coefficient == pytest.approx(spearmanr(a, b).statistic)


def test_rows_known_to_be_others_are_not_paired():
    found = compare_allocations(
        allocation([1, 2, 3]), allocation([3, 2, 1]), why_unpaired="they are of two layers"
    )
    assert found.why_unpaired == "they are of two layers"
    assert found.correlation is None
    assert found.moved == ()
    with pytest.raises(ValueError, match="two layers"):
        pair_figure(found)
    widths = compare_allocations(allocation([1, 2]), allocation([1, 2], columns=60), why_unpaired="x")
    assert "weights" in widths.why_unpaired


def test_a_pair_draws_every_row_and_the_diagonal():
    found = compare_allocations(allocation([10, 20, 30]), allocation([12, 20, 25], "optimal", "B · <b>"))
    figure = pair_figure(found, [1])
    (rows,) = traces(figure, "rows")
    np.testing.assert_allclose(rows.x, [0.2, 0.4, 0.6], rtol=1e-6)
    np.testing.assert_allclose(rows.y, [0.24, 0.4, 0.5], rtol=1e-6)
    assert list(rows.customdata) == [0, 1, 2]
    assert rows.marker.color == METHOD_STYLES["optimal"].colour
    assert list(traces(figure, "selected rows")[0].customdata) == [1]
    assert figure.layout.yaxis.title.text == "row sparsity under B · &lt;b&gt;"
    (line,) = traces(figure, "same row sparsity")
    assert list(line.x) == list(line.y)


def test_many_rows_are_thinned_but_not_those_that_moved_most():
    rng = np.random.default_rng(0)
    before = rng.integers(20, 22, 10_000)
    after = before.copy()
    after[7777] = 50
    figure = pair_figure(compare_allocations(allocation(before), allocation(after)))
    drawn = list(traces(figure, "rows")[0].customdata)
    assert 7777 in drawn
    assert len(drawn) <= 4011


def curve(label="TRIM <i>", method="trim", values=(50.0, math.nan, math.inf), **spread):
    values = tuple(values)
    return PerplexityCurve(
        label,
        method,
        (0.5, 0.6, 0.7)[: len(values)],
        values,
        spread.get("least", values),
        spread.get("most", values),
    )


def test_curves_leave_out_what_has_no_value_and_say_so():
    figure = perplexity_curves_figure(
        [curve(), curve("Uniform", "uniform", (60, 70, 80))], 27.0, "demo & more"
    )
    (trim,) = traces(figure, "TRIM &lt;i&gt;")
    assert (list(trim.x), list(trim.y)) == ([0.5], [50.0])
    assert trim.error_y.array is None
    assert "2 without a finite value" in subtitle(figure)
    assert "demo &amp; more" in subtitle(figure)
    assert figure.layout.yaxis.type == "log"
    (dense,) = [note for note in figure.layout.annotations if note.text.startswith("dense")]
    assert dense.y == pytest.approx(math.log10(27))
    assert list(figure.layout.xaxis.tickvals) == [0.5, 0.6, 0.7]


def test_seeds_are_error_bars():
    figure = perplexity_curves_figure(
        [curve(values=(10, 20, 30), least=(9, 20, 30), most=(12, 21, 30))], None, "t"
    )
    bars = figure.data[0].error_y
    np.testing.assert_allclose(bars.array, [2, 1, 0])
    np.testing.assert_allclose(bars.arrayminus, [1, 0, 0])
