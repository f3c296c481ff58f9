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
        "exhaustive": 2,
    }
    return LearningRateTrace(**(given | changes))


def test_the_two_choices_are_told_apart():
    result = trace()
    assert (result.outcome, result.exhaustive_outcome) == ("positive", "negative")
    assert trace(chosen=None, exhaustive=None).outcome == "none"
    assert trace(tried=np.array([True, True, True]), chosen=2).outcome == "negative"
    assert result.uniform_quality == 0.9
    np.testing.assert_allclose(result.gain, QUALITY - 0.9)


def test_the_scale_of_gains():
    assert trace().gain_limit == pytest.approx(0.05)
    losses = np.array([[0.9, 0.8, 0.7]] * 3)
    assert trace(quality=losses, chosen=None, exhaustive=None).gain_limit == pytest.approx(0.2)
    flat = np.full((3, 3), 0.9)
    assert trace(quality=flat, chosen=None, exhaustive=None).gain_limit == 1.0


def test_summaries_follow_the_grid():
    first, second, third = rate_summaries(trace())
    assert (first.rate, first.best_quality, first.best_iteration, first.chosen) == (0.01, 0.93, 1, True)
    assert (second.tried, second.chosen, second.exhaustive) == (True, False, False)
    assert (third.tried, third.exhaustive, third.gain) == (False, True, pytest.approx(0.05))


def test_a_rate_never_computed_has_no_numbers():
    quality = QUALITY.copy()
    quality[2] = np.nan
    summary = rate_summaries(trace(quality=quality, exhaustive=0))[2]
    assert (summary.best_quality, summary.gain, summary.best_iteration, summary.tried) == (
        None,
        None,
        None,
        False,
    )


def test_infinite_quality_has_no_gain():
    """Signal to noise is infinite where pruning changed nothing."""
    quality = np.where(QUALITY == 0.93, np.inf, QUALITY)
    result = trace(quality=quality)
    assert np.isnan(result.gain[0, 1])
    assert rate_summaries(result)[0].best_quality == np.inf


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
        ({"exhaustive": 3}, "exhaustive"),
    ],
)
def test_a_trace_that_contradicts_itself_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        trace(**changes)
