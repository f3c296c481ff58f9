"""The figures of the search: what was tried, what was not, what was chosen."""

import numpy as np
import pytest

from diagnostics.figures.frame import signed
from diagnostics.figures.iterations import iteration_figure, landscape_figure
from diagnostics.figures.learning_rate import PUBLISHED, rate_figure
from diagnostics.figures.theme import PALETTES
from tests.diagnostics.figure_cases import RATES, search_trace, subtitle, traces


def test_an_untried_rate_never_looks_like_a_bad_one():
    figure = rate_figure(search_trace())
    (untried,) = traces(figure, "not tried")
    assert untried.marker.symbol == "circle-open"
    assert len(untried.x) == 6
    (tried,) = traces(figure, "tried, positive")
    assert not tried.marker.symbol.endswith("open")
    assert len(tried.x) == 3
    (hatch,) = traces(landscape_figure(search_trace()), "not tried")
    assert (hatch.marker.pattern.shape, len(hatch.y)) == ("/", 6)
    lines = iteration_figure(search_trace())
    assert {line.line.dash for line in traces(lines, "not tried")} == {"dot"}
    assert {line.line.color for line in traces(lines, "not tried")} == {PALETTES["light"].faint}


def test_rates_that_were_never_computed_are_labels_and_not_points():
    quality = search_trace().quality.copy()
    quality[5:] = np.nan
    trace = search_trace(quality=quality)
    figure = rate_figure(trace)
    assert sum(note.text == "not tried" for note in figure.layout.annotations) == 4
    for other in (iteration_figure(trace), landscape_figure(trace)):
        assert other.to_json()


def test_both_choices_are_marked():
    figure = rate_figure(search_trace())
    assert {trace.name for trace in figure.data} >= {"chosen", "gains more"}
    assert "chose η = +0.02 (positive" in subtitle(figure)
    best = search_trace().best
    assert best != 1
    assert f"Of all rates, {RATES[best]:+g} gains most." in subtitle(figure).replace("−", "-")
    same = rate_figure(search_trace(chosen=best, tried=np.ones(9, bool)))
    assert len(traces(same, "chosen")) == 1


def test_the_published_reading_is_laid_over_the_exact_one():
    trace = search_trace()
    (crosses,) = traces(rate_figure(trace), PUBLISHED)
    kept = trace.published[np.arange(9), trace.kept_iteration][np.argsort(RATES)]
    np.testing.assert_array_equal(crosses.y, kept)
    (tried,) = traces(rate_figure(trace), "tried, positive")
    np.testing.assert_array_equal(tried.y, trace.kept_quality[:3])
    (crosses,) = traces(iteration_figure(trace), PUBLISHED)
    np.testing.assert_array_equal(crosses.y, trace.published[1])
    assert subtitle(rate_figure(trace)).split(". ")[0].endswith("at exact counts")


def test_a_trace_that_holds_only_the_published_reading_says_so():
    trace = search_trace(published=None)
    assert not traces(rate_figure(trace), PUBLISHED) + traces(iteration_figure(trace), PUBLISHED)
    assert "at counts rounded down" in subtitle(rate_figure(trace))


def test_a_chosen_rate_that_loses_at_exact_counts_is_in_the_chart():
    quality = search_trace().quality.copy()
    quality[1, 1:] -= 0.02
    trace = search_trace(quality=quality)
    figure = rate_figure(trace)
    assert trace.kept_gain[1] < 0
    assert f"{signed(trace.kept_gain[1], '.2g')} at exact counts" in subtitle(figure)
    low, high = figure.layout.yaxis.range
    assert low < trace.kept_quality[1] < high


def test_a_layer_that_stays_uniform():
    losses = np.minimum(search_trace().quality, 0.9)
    trace = search_trace(quality=losses, chosen=None)
    assert "stays uniform" in subtitle(rate_figure(trace))
    heat = landscape_figure(trace).data[0]
    assert (heat.zmid, heat.zmin) == (0, -heat.zmax)
    assert list(heat.z[:, 0]) == [0] * 9


@pytest.mark.parametrize("draw", [rate_figure, iteration_figure, landscape_figure])
def test_a_quality_that_is_infinite_has_an_empty_state(draw):
    quality = search_trace().quality.copy()
    quality[:, 0] = np.inf
    figure = draw(search_trace(quality=quality, chosen=None, layer_measure="snr"))
    assert "cannot be beaten" in subtitle(figure)
    assert not figure.data
