"""A study hands on what the library says, in the form that figures take; it keeps few outcomes."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import trim
from app.services.layer.keep import keep
from app.services.layer.study import OUTCOME_CACHE_SIZE, Study
from app.services.runs.layer import LayerView
from diagnostics.concentration import gini
from tests.app.small import layer_sample, study


@pytest.fixture(scope="module", params=["wanda", "magnitude"])
def studied(request) -> Study:
    return study(request.param)


@pytest.fixture
def searches(monkeypatch) -> list[trim.SearchSettings]:
    """The settings of every search that the library receives."""
    asked, search = [], trim.search

    def counted(curves, settings, **options):
        asked.append(settings)
        return search(curves, settings, **options)

    monkeypatch.setattr(trim, "search", counted)
    return asked


def library_curves(study: Study) -> tuple[torch.Tensor, trim.RetentionCurves]:
    sample = layer_sample()
    score = {
        "wanda": lambda: trim.wanda_score(sample.weight, sample.input_norm),
        "magnitude": lambda: trim.magnitude_score(sample.weight),
    }[study.key.score]()
    return score, trim.retention_curves(sample.weight, sample.inputs, score)


def test_statistics_are_those_of_the_score_and_the_curves(studied):
    score, curves = library_curves(studied)
    assert (studied.rows, studied.columns) == score.shape
    np.testing.assert_array_equal(studied.layer.score, score.numpy())
    np.testing.assert_array_equal(studied.gini.coefficients[0], gini(score.numpy()))
    assert studied.gini.labels == (studied.key.score,)
    np.testing.assert_allclose(studied.layer.weight_norm, layer_sample().weight.norm(dim=1).numpy())
    assert studied.grid[[0, -1]].tolist() == [0, studied.columns]
    for place, count in enumerate(studied.grid):
        at_count = curves.at(torch.full((studied.rows,), int(count))).cosine.numpy()
        np.testing.assert_allclose(studied.cosine[:, place], at_count, rtol=1e-12)
    assert not studied.layer.dead_rows.any()


def optimal_counts(
    curves: trim.RetentionCurves, target: float, sensitivity: torch.Tensor | None = None
) -> torch.Tensor:
    total = round(target * curves.rows * curves.columns)
    hull = trim.lower_hull(curves.error, int(0.99 * curves.columns))
    return trim.optimal_counts(hull, total, sensitivity)


@pytest.mark.parametrize("layer_quality", ["cosim_flat", "mse", "cosim_sample"])
def test_an_outcome_is_what_the_library_finds(studied, layer_quality):
    settings = trim.SearchSettings(0.5, layer_quality=layer_quality)
    outcome = studied.outcome(settings)
    _, curves = library_curves(studied)
    expected = trim.search(curves, settings)
    assert outcome.result.settings == settings
    assert outcome.result.learning_rate == expected.learning_rate
    assert outcome.result.tried == expected.tried
    assert outcome.result.realised_quality == expected.realised_quality
    best = optimal_counts(curves, 0.5)
    for allocation, cosine, counts in zip(
        outcome.view.allocations,
        outcome.view.cosines,
        (expected.uniform_counts, expected.counts, best),
        strict=True,
    ):
        assert allocation.counts.tolist() == counts.tolist()
        assert sum(allocation.counts) == round(0.5 * studied.rows * studied.columns)
        np.testing.assert_array_equal(cosine.cosine, curves.at(counts).cosine.numpy())
        np.testing.assert_array_equal(cosine.row_sparsity, counts.numpy() / studied.columns)
    assert [allocation.method for allocation in outcome.view.allocations] == ["uniform", "trim", "optimal"]
    assert outcome.optimum.quality == float(trim.layer_quality(curves.at(best), layer_quality))


def test_the_trace_tells_tried_from_untried(studied):
    settings = trim.SearchSettings(0.6)
    outcome = studied.outcome(settings)
    trace, result = outcome.view.search.trace, outcome.result
    assert tuple(trace.rates) == settings.learning_rates + settings.negative_learning_rates
    assert {rate for rate, tried in zip(trace.rates, trace.tried, strict=True) if tried} == {
        rate for rate, _ in result.tried
    }
    # The curves make the untried rates free, so all of them are known.
    assert np.isfinite(trace.quality).all()
    for rate, quality in result.tried:
        assert trace.published[list(trace.rates).index(rate)].max() == pytest.approx(quality, rel=1e-12)
    chosen = None if trace.chosen is None else trace.rates[trace.chosen]
    assert chosen == result.learning_rate
    assert trace.uniform_quality == result.uniform_realised_quality == outcome.view.qualities["uniform"]
    reached = trace.uniform_quality if trace.chosen is None else trace.kept_quality[trace.chosen]
    assert reached == result.realised_quality == outcome.view.qualities["trim"]
    if trace.best is not None:
        assert trace.kept_quality[trace.best] == trace.kept_quality.max() > trace.uniform_quality
    assert (trace.layer_measure, trace.row_measure) == ("cosim_flat", "cosim")


def test_a_direct_quality_evaluates_only_what_was_tried(studied):
    outcome = studied.outcome(trim.SearchSettings(0.6, layer_quality="mae"))
    known = np.isfinite(outcome.view.search.trace.quality[:, -1])
    np.testing.assert_array_equal(known, outcome.view.search.trace.tried)


def test_equal_settings_are_searched_once(searches):
    studied = study()
    first = studied.outcome(trim.SearchSettings(0.5))
    assert studied.outcome(trim.SearchSettings(0.5)) is first
    assert studied.outcome(trim.SearchSettings(0.5, iterations=9)) is not first
    assert len(searches) == 2


def test_few_outcomes_are_kept(searches):
    studied = study()
    targets = [(10 + index) / 100 for index in range(OUTCOME_CACHE_SIZE)]
    for target in targets:
        studied.outcome(trim.SearchSettings(target))
    studied.outcome(trim.SearchSettings(targets[0]))  # used last, so it stays
    studied.outcome(trim.SearchSettings(0.9))
    assert len(searches) == OUTCOME_CACHE_SIZE + 1
    studied.outcome(trim.SearchSettings(targets[0]))
    assert len(searches) == OUTCOME_CACHE_SIZE + 1
    studied.outcome(trim.SearchSettings(targets[1]))
    assert len(searches) == OUTCOME_CACHE_SIZE + 2


def test_the_latest_outcome_survives_a_search_that_cannot_be():
    studied = study()
    assert studied.latest is None
    first = studied.outcome(trim.SearchSettings(0.5))
    second = studied.outcome(trim.SearchSettings(0.6))
    assert studied.latest is second
    studied.outcome(trim.SearchSettings(0.5))
    assert studied.latest is first
    # 20 weights a row: a cap of 0.93 lets 18 of them go, and 0.92 would need more.
    with pytest.raises(trim.SparsityError):
        studied.outcome(trim.SearchSettings(0.92, max_row_sparsity=0.93))
    assert studied.latest is first


def test_threads_share_one_search(searches):
    studied = study()
    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(studied.outcome, [trim.SearchSettings(0.5)] * 6))
    assert len({id(outcome) for outcome in outcomes}) == 1
    assert len(searches) == 1


# ------------------------------------------------------------------------------------------- the optimum


@pytest.fixture(params=[None, "fisher"])
def sensitivity(request) -> torch.Tensor | None:
    return None if request.param is None else torch.linspace(0, 2, 12) ** 2


def test_the_optimum_loses_least(studied, sensitivity):
    outcome = studied.outcome(trim.SearchSettings(0.6), None if sensitivity is None else sensitivity.numpy())
    _, curves = library_curves(studied)
    expected = optimal_counts(curves, 0.6, sensitivity)
    assert outcome.view.allocation("optimal").counts.tolist() == expected.tolist()
    assert outcome.optimum.row_weights == ("ones" if sensitivity is None else "fisher")
    weights = torch.ones(12) if sensitivity is None else sensitivity
    for counts, loss in zip(
        (outcome.result.uniform_counts, outcome.result.counts, expected.numpy()),
        outcome.optimum.losses,
        strict=True,
    ):
        assert loss == pytest.approx(
            float((weights * curves.at(torch.from_numpy(counts)).error).sum()), rel=1e-5
        )
    assert outcome.optimum.losses[2] <= min(outcome.optimum.losses)
    gap = studied.gap(outcome)
    assert gap.loss_captured <= 1


def test_row_weights_have_outcomes_of_their_own(searches):
    studied, settings = study(), trim.SearchSettings(0.5)
    alike, weighed = studied.outcome(settings), studied.outcome(settings, np.arange(12.0))
    assert alike is not weighed
    assert studied.outcome(settings) is alike
    assert studied.outcome(settings, np.arange(12.0)) is weighed
    assert alike.view.allocation("trim").counts.tolist() == weighed.view.allocation("trim").counts.tolist()


def test_the_optimum_reaches_whatever_trim_reaches():
    # Under the optimum's own cap of 0.99 a row of 20 weights keeps one; TRIM's cap of 1 leaves none.
    outcome = study().outcome(trim.SearchSettings(0.98, max_row_sparsity=1.0))
    assert outcome.view.allocation("optimal").counts.sum() == outcome.view.allocation("trim").counts.sum()
    assert outcome.optimum.cap == 1.0
    assert study().outcome(trim.SearchSettings(0.5)).optimum.cap == 0.99


def test_a_view_holds_what_the_library_found(studied):
    outcome = studied.outcome(trim.SearchSettings(0.6))
    view, result = outcome.view, outcome.result
    np.testing.assert_allclose(view.search.kept_x, result.row_sparsity, rtol=1e-12)
    assert view.search.learning_rate == result.learning_rate
    assert list(view.qualities.values()) == [
        result.uniform_realised_quality,
        result.realised_quality,
        outcome.optimum.quality,
    ]
    assert view.caps == {"trim": 0.95, "optimal": 0.99}
    for allocation in view.allocations:
        np.testing.assert_array_equal(
            (~view.masks[allocation.method]()).sum(axis=1), np.asarray(allocation.counts)
        )
    assert view.prices(3).pruned == view.allocation("optimal").counts[3]
    assert view.score is studied.layer.score


def test_a_stored_layer_has_the_view_of_the_live_one(studied, tmp_path, monkeypatch):
    monkeypatch.setenv("TRIM_RUNS", str(tmp_path))
    outcome = studied.outcome(trim.SearchSettings(0.6))
    run = trim.open_run(keep(studied, outcome, "trim", "kept"))
    live = outcome.view.showing({"uniform", "trim"})
    stored = LayerView.of(run, run.layer(studied.key.layer))
    for one, other in zip(stored.allocations, live.allocations, strict=True):
        assert (one.method, one.label) == (other.method, other.label)
        np.testing.assert_array_equal(one.counts, other.counts)
    for one, other in zip(stored.cosines, live.cosines, strict=True):
        np.testing.assert_allclose(one.cosine, other.cosine, rtol=1e-6)
    for method, quality in stored.qualities.items():
        assert live.qualities[method] == pytest.approx(quality, rel=1e-6)
    np.testing.assert_allclose(stored.coefficients, live.coefficients, rtol=1e-6)
    np.testing.assert_allclose(stored.search.x, live.search.x, rtol=1e-6)
    assert stored.search.kept_iteration == live.search.kept_iteration
    np.testing.assert_array_equal(stored.masks["trim"](), live.masks["trim"]())
    assert stored.caps["trim"] == live.caps["trim"]
    assert (stored.name, stored.columns, stored.vectors) == (live.name, live.columns, live.vectors)


def test_the_gap_at_other_targets(searches):
    studied = study()
    settings = trim.SearchSettings(0.5, layer_quality="mse")
    found = studied.all_targets(studied.outcome(settings))
    curve = found.curve
    asked = len(searches)
    # 20 weights a row: a cap of 95% lets 19 of them go.
    np.testing.assert_allclose(curve.targets, np.arange(30, 100, 5) / 100)
    elsewhere = studied.outcome(trim.SearchSettings(0.6, layer_quality="mse"))
    place = curve.targets.tolist().index(0.6)
    assert curve.uniform[place] == elsewhere.result.uniform_realised_quality
    assert curve.reached[place] == elsewhere.result.realised_quality
    assert curve.best[place] == elsewhere.optimum.quality
    np.testing.assert_array_equal(found.counts["trim"][place], elsewhere.result.counts)
    np.testing.assert_array_equal(found.counts["optimal"][place], elsewhere.optimum.counts)
    gap = studied.gap(elsewhere)
    assert curve.captured[place] == pytest.approx(gap.captured)
    assert curve.loss_captured[place] == pytest.approx(gap.loss_captured)
    assert studied.all_targets(elsewhere).curve is curve, "the target does not matter"
    assert len(searches) == asked + 1
    capped = studied.outcome(trim.SearchSettings(0.5, max_row_sparsity=0.72))
    assert studied.all_targets(capped).curve.targets.max() == pytest.approx(0.7)
