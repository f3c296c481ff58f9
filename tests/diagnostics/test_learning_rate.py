import numpy as np
import pytest

from diagnostics.learning_rate import LearningRateTrace, rate_summaries

RATES = np.array([0.01, 0.02, -0.01])
QUALITY = np.array([[0.9, 0.93, 0.91], [0.9, 0.92, 0.8], [0.9, 0.95, 0.94]])


def trace(**changes):
    given = {
        "rates": RATES,
        "quality": QUALITY,
        "row_variance": np.full((3, 3), 0.1),
        "tried": np.array([True, True, False]),
        "chosen": 0,
    }
    return LearningRateTrace(**(given | changes))


def test_the_two_choices_are_told_apart():
    result = trace()
    assert (result.outcome, result.best) == ("positive", 2)
    assert trace(chosen=None).outcome == "none"
    assert trace(tried=np.array([True, True, True]), chosen=2).outcome == "negative"
    assert result.uniform_quality == 0.9
    np.testing.assert_allclose(result.gain, QUALITY - 0.9)


def test_the_scale_of_gains():
    assert trace().gain_limit == pytest.approx(0.05)
    losses = np.array([[0.9, 0.8, 0.7]] * 3)
    assert trace(quality=losses, chosen=None).gain_limit == pytest.approx(0.2)
    flat = np.full((3, 3), 0.9)
    flat = trace(quality=flat, chosen=None)
    assert (flat.gain_limit, flat.best) == (1.0, None)


def test_summaries_follow_the_grid():
    first, second, third = rate_summaries(trace())
    assert (first.rate, first.quality, first.iteration, first.chosen) == (0.01, 0.93, 1, True)
    assert first.published is None
    assert (second.tried, second.chosen, second.best) == (True, False, False)
    assert (third.tried, third.best, third.gain) == (False, True, pytest.approx(0.05))


def test_the_search_keeps_by_the_published_reading_and_gains_at_exact_counts():
    published = np.array([[0.9, 0.91, 0.96], [0.9, 0.8, 0.8], [0.9, 0.94, 0.95]])
    result = trace(published=published)
    assert result.kept_iteration.tolist() == [2, 0, 2]
    np.testing.assert_array_equal(result.kept_quality, [0.91, 0.9, 0.94])
    np.testing.assert_allclose(result.kept_gain, [0.01, 0, 0.04])
    assert result.best == 2
    first, second, _ = rate_summaries(result)
    assert (first.quality, first.published, first.iteration) == (0.91, 0.96, 2)
    assert (second.gain, second.published, second.iteration) == (0, 0.9, 0)


@pytest.mark.parametrize("begins_at_uniform", [True, False])
def test_a_rate_never_computed_has_no_numbers(begins_at_uniform):
    quality = QUALITY.copy()
    quality[2, int(begins_at_uniform) :] = np.nan
    result = trace(quality=quality)
    summary = rate_summaries(result)[2]
    assert (summary.quality, summary.gain, summary.iteration, summary.tried) == (None, None, None, False)
    assert result.best is None


def test_infinite_quality_has_no_gain():
    """Signal to noise is infinite where pruning changed nothing."""
    quality = np.where(QUALITY == 0.93, np.inf, QUALITY)
    result = trace(quality=quality)
    assert np.isnan(result.gain[0, 1])
    assert rate_summaries(result)[0].quality == np.inf


NAN_ROW = np.where(QUALITY == 0.92, np.nan, QUALITY)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rates": np.array([0.01, 0.0, -0.01])}, "rates"),
        ({"rates": np.array([0.01, 0.01, -0.01])}, "rates"),
        ({"quality": QUALITY[:2]}, "quality"),
        ({"quality": NAN_ROW}, "NaN"),
        ({"quality": QUALITY + np.arange(3)[:, None]}, "column 0"),
        ({"row_variance": np.ones((3, 2))}, "row_variance"),
        ({"tried": np.array([1, 1, 0])}, "tried"),
        ({"tried": np.zeros(3, bool)}, "tried"),
        ({"chosen": 2}, "chosen"),
        ({"chosen": 3}, "chosen"),
        ({"published": QUALITY[:2]}, "published"),
    ],
)
def test_a_trace_that_contradicts_itself_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        trace(**changes)
