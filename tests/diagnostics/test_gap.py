import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diagnostics.allocation import row_scatter
from diagnostics.figures.gap import gap_loss_figure, gap_quality_figure, gap_scatter_figure, gap_share_figure
from diagnostics.figures.theme import METHOD_STYLES, PALETTES
from diagnostics.gap import GapCurve, allocation_gap, captured_share
from tests.diagnostics.figure_cases import allocation, subtitle, traces


def gap(reached, best, **more):
    qualities = {"uniform_quality": 0.5, "reached_quality": 0.6, "best_quality": 0.9} | more
    return allocation_gap(allocation(reached), allocation(best, method="optimal"), **qualities)


@pytest.mark.parametrize(
    ("uniform", "reached", "best", "share"),
    [
        (0.5, 0.6, 0.9, 0.25),
        (0.5, 0.5, 0.9, 0.0),
        (0.5, 0.9, 0.9, 1.0),
        (0.5, 0.3, 0.9, -0.5),
        (
            math.log(651),
            math.log(651 / 2),
            math.log(651 / 8),
            1 / 3,
        ),  # perplexities: halved three times, once reached
        (0.5, 0.6, 0.5, None),
        (0.5, 0.6, math.inf, None),
        (math.nan, 0.6, 0.9, None),
    ],
)
def test_captured_share(uniform, reached, best, share):
    found = captured_share(uniform, reached, best)
    assert found is None if share is None else found == pytest.approx(share)


def test_rows_pruned_too_much_and_too_little():
    found = gap([10, 30, 20, 40], [20, 30, 5, 45])
    assert found.captured == pytest.approx(0.25)
    np.testing.assert_allclose(found.excess, [-0.2, 0, 0.3, -0.1])
    assert [(move.row, move.first, move.second) for move in found.over] == [(2, 0.1, 0.4)]
    assert [move.row for move in found.under] == [0, 3]
    assert found.under[0].change == pytest.approx(-0.2)
    assert found.misplaced_share == pytest.approx(0.15)


def test_the_same_allocation_leaves_nothing():
    found = gap([10, 20, 30], [10, 20, 30], reached_quality=0.9)
    assert (found.captured, found.over, found.under, found.misplaced_share) == (1.0, (), (), 0.0)
    assert gap([0, 0], [0, 0]).misplaced_share == 0.0


def test_ties_by_row_and_only_so_many():
    found = gap([5] * 10 + [15] * 10, [10] * 20)
    assert [move.row for move in found.over] == list(range(10, 20))
    assert [move.row for move in found.under] == list(range(10))


@given(st.lists(st.integers(0, 50), min_size=3, max_size=30), st.randoms(use_true_random=False))
def test_misplaced_weights_against_a_count_of_them(counts, random):
    best = list(counts)
    random.shuffle(best)
    found = gap(counts, best)
    taken = sum(max(one - other, 0) for one, other in zip(counts, best, strict=True))
    assert found.misplaced_share == pytest.approx(taken / sum(counts) if sum(counts) else 0)
    assert found.excess.sum() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("reached", "best", "message"),
    [([1, 2], [1, 1, 1], "one layer"), ([1, 2], [1, 1], "prunes 3 weights")],
)
def test_what_does_not_fit_is_refused(reached, best, message):
    with pytest.raises(ValueError, match=message):
        gap(reached, best)


def test_no_share_where_nothing_improves():
    found = gap([10, 30], [20, 20], uniform_quality=0.7, best_quality=0.6, losses=(4.0, 3.0, 2.0))
    assert found.captured is None
    assert found.loss_captured == pytest.approx(0.5)


# ----------------------------------------------------------------------------------------------- figures


def scatter(quantity="gini", values=(0.1, 0.2, 0.9, math.nan), selected=()):
    found = gap([10, 30, 20, 40], [20, 30, 5, 45])
    return row_scatter(found.reached, quantity, np.array(values), selected, found.excess)


def test_rows_on_either_side():
    figure = gap_scatter_figure(scatter(), [0, 3])
    (over,), (under,) = traces(figure, "too much"), traces(figure, "too little")
    assert (list(over.customdata), list(under.customdata)) == ([2], [0])
    assert over.y[0] == pytest.approx(30)
    assert under.y[0] == pytest.approx(-20)
    assert over.marker.color != under.marker.color
    assert over.marker.symbol != under.marker.symbol
    assert list(traces(figure, "as much")[0].customdata) == [1]
    assert list(traces(figure, "selected rows")[0].customdata) == [0], "row 3 has no Gini"
    assert "over 3 rows" in subtitle(figure)
    assert [note.text for note in figure.layout.annotations] == ["0"]


@pytest.mark.parametrize("quantity", ["output_norm", "sensitivity"])
def test_sizes_are_on_a_logarithmic_axis(quantity):
    figure = gap_scatter_figure(scatter(quantity, [0.0, 10.0, 100.0, 1.0]), [0, 2], "dark")
    assert figure.layout.xaxis.type == "log"
    assert list(traces(figure, "selected rows")[0].customdata) == [2], "0 has no place on it"
    assert traces(figure, "selected rows")[0].marker.color == PALETTES["dark"].ink
    assert figure.layout.annotations[0].x == pytest.approx(2), "labels stand at logarithms"


def test_a_wide_layer_is_thinned():
    rows = 14_000
    counts = np.random.default_rng(0).integers(0, 51, rows)
    wide = gap(counts, counts[::-1].copy())
    found = row_scatter(wide.reached, "gini", np.linspace(0, 1, rows), [7, 9_999], wide.excess)
    assert {7, 9_999} <= set(found.rows.tolist())
    figure = gap_scatter_figure(found, [7, 9_999])
    assert "4,000 of 14,000 rows drawn" in subtitle(figure)
    assert len(figure.to_json()) < 500_000


def curve():
    qualities = [(0.9, 0.91, 0.95), (0.8, 0.79, 0.9), (0.5, 0.6, 0.4)]
    return GapCurve.of([0.5, 0.6, 0.7], qualities, [(5, 4.5, 0), (5, 6, 0), (0, 0, 0)], "cosim_flat")


def test_shares_over_targets():
    np.testing.assert_allclose(curve().captured, [0.2, -0.1, np.nan])
    np.testing.assert_allclose(curve().loss_captured, [0.1, -0.2, np.nan])
    figure = gap_share_figure(curve())
    np.testing.assert_allclose(
        traces(figure, "of the layer quality (cosine over the layer)")[0].y, [0.2, -0.1, np.nan], rtol=1e-6
    )
    np.testing.assert_allclose(
        traces(figure, "of the error that the optimum minimises")[0].y, [0.1, -0.2, np.nan], rtol=1e-6
    )


def test_losses_over_targets():
    figure = gap_loss_figure(curve())
    np.testing.assert_allclose(traces(figure, "TRIM")[0].y, [0.9, 1.2, np.nan], rtol=1e-6)
    np.testing.assert_allclose(traces(figure, "Optimal")[0].y, [0, 0, np.nan])
    assert [note.text for note in figure.layout.annotations] == ["Uniform"]


def test_qualities_over_targets():
    figure = gap_quality_figure(curve())
    for method, label, values in (
        ("uniform", "Uniform", [0.9, 0.8, 0.5]),
        ("trim", "TRIM", [0.91, 0.79, 0.6]),
        ("optimal", "Optimal", [0.95, 0.9, 0.4]),
    ):
        (line,) = traces(figure, label)
        assert list(line.y) == values
        assert (line.line.color, line.marker.symbol) == (
            METHOD_STYLES[method].colour,
            METHOD_STYLES[method].symbol,
        )
    assert "cosine over the layer" in figure.layout.yaxis.title.text
