"""The figures of the search: what was tried, what was not, what was chosen."""

import numpy as np
import pytest

from diagnostics.figures.iterations import iteration_figure, landscape_figure
from diagnostics.figures.learning_rate import rate_figure
from diagnostics.figures.theme import PALETTES
from tests.diagnostics.figure_cases import search_trace, subtitle, traces


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


def test_rates_that_were_never_computed_are_words_not_points():
    quality = search_trace().quality.copy()
    quality[5:] = np.nan
    trace = search_trace(quality=quality)
    figure = rate_figure(trace)
    assert sum(note.text == "not tried" for note in figure.layout.annotations) == 4
    for other in (iteration_figure(trace), landscape_figure(trace)):
        assert other.to_json()


def test_both_choices_are_marked():
    figure = rate_figure(search_trace())
    assert [trace.name for trace in figure.data if trace.name in ("chosen", "best of grid")] == [
        "chosen",
        "best of grid",
    ]
    assert "chose η = +0.02 (positive" in subtitle(figure)
    assert "would have chosen +0.12" in subtitle(figure)
    same = rate_figure(search_trace(exhaustive=1))
    assert len(traces(same, "chosen, best of grid")) == 1


def test_a_layer_that_stays_uniform():
    losses = np.minimum(search_trace().quality, 0.9)
    trace = search_trace(quality=losses, chosen=None, exhaustive=None)
    assert "stays uniform" in subtitle(rate_figure(trace))
    heat = landscape_figure(trace).data[0]
    assert (heat.zmid, heat.zmin) == (0, -heat.zmax)


@pytest.mark.parametrize("draw", [rate_figure, iteration_figure, landscape_figure])
def test_a_quality_that_is_infinite_has_an_empty_state(draw):
    quality = search_trace().quality.copy()
    quality[:, 0] = np.inf
    figure = draw(search_trace(quality=quality, chosen=None, exhaustive=None, layer_measure="snr"))
    assert "cannot be beaten" in subtitle(figure)
    assert not figure.data


def test_the_landscape_is_centred_at_no_gain():
    heat = landscape_figure(search_trace()).data[0]
    assert heat.zmid == 0
    assert heat.zmin == -heat.zmax
    assert list(heat.z[:, 0]) == [0] * 9
