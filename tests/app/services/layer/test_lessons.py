"""The lessons' numbers: against arithmetic done here by hand, and against what the pages say of them."""

import numpy as np
import pytest
import torch

import trim
from app.services.layer import lessons
from diagnostics.concentration import gini
from diagnostics.gap import captured_share


def cosine(kept: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return the cosine of each row whose features never act together: √(kept scores² / all scores²)."""
    return np.sqrt((score**2 * kept).sum(axis=1) / (score**2).sum(axis=1))


def test_scores_follow_the_loud_feature():
    for loudness in (0.0, 0.5, 3.0, 6.0):
        lesson = lessons.scores(loudness)
        norm = lessons.NORM.numpy().copy()
        norm[lessons.LOUD_FEATURE] = loudness
        np.testing.assert_allclose(lesson.pruned.score, np.abs(lessons.WEIGHT.numpy()) * norm, rtol=1e-6)
        assert lesson.pruned.counts.tolist() == [4] * 4
    # What the page says to try: at 3 row 2 keeps its weight there, at 0.5 it does not, and no weight changes.
    assert lessons.scores(3.0).pruned.keep[2, 3]
    assert not lessons.scores(0.5).pruned.keep[2, 3]
    assert (lessons.scores(0.5).weight == lessons.scores(3.0).weight).all()


@pytest.mark.parametrize("pruned", range(9))
def test_damage_can_be_checked_by_hand(pruned):
    matrix = lessons.damage(pruned)
    ascending = np.sort(matrix.score, axis=1)
    kept = np.arange(8) >= pruned
    np.testing.assert_allclose(matrix.cosine, cosine(kept, ascending), atol=1e-6)
    total = np.sqrt((ascending**2 * kept).sum() / (ascending**2).sum())
    assert matrix.layer_cosine == pytest.approx(total, abs=1e-6)


def test_half_of_row_0_is_not_missed():
    matrix = lessons.damage(4)
    assert f"{matrix.cosine[0]:.2f}" == "1.00"
    assert matrix.cosine.argmin() == 1


def test_one_weight_made_larger_concentrates_its_row_alone():
    before, after = lessons.concentration(1), lessons.concentration(20)
    assert before[1].gini < 0.1
    assert after[1].gini > 0.6
    for row in (0, 2, 3):
        assert before[row].gini == after[row].gini


@pytest.mark.parametrize("rate", [-0.16, -0.01, 0.01, 0.08, 0.16])
def test_the_arithmetic_is_the_librarys(rate):
    lesson = lessons.one_update(rate)
    assert lesson.change.sum() == pytest.approx(0, abs=1e-9)
    np.testing.assert_allclose(lesson.target + lesson.change, lesson.row_sparsity, atol=1e-9)
    assert lesson.counts.sum() == 16
    # x is the search's own first update.
    curves, _ = lessons.curves_of(lessons.WEIGHT, lessons.NORM)
    x = trim.full_trace(curves, trim.SearchSettings(0.5, iterations=1)).updates
    if rate in x:
        np.testing.assert_allclose(lesson.row_sparsity, x[rate][1].numpy())


def test_at_a_rate_of_008_row_1_gets_weights_back():
    lesson = lessons.one_update(0.08)
    assert lesson.quality.argmin() == 1
    assert f"{lesson.quality[1]:.3f}" == "0.806"
    assert lesson.counts[1] < 4
    assert lesson.layer_quality > lesson.uniform_quality


def test_a_row_that_gets_sparser():
    lesson = lessons.retention()
    assert (np.diff(gini(lesson.score)) > 0.05).all()
    kept = np.arange(lessons.WIDE_COLUMNS) >= 72
    np.testing.assert_allclose(lesson.cosine[:, 72], cosine(kept, lesson.score), atol=1e-6)
    assert [f"{value:.2f}" for value in lesson.cosine[:, 72]] == [
        "0.84",
        "0.93",
        "1.00",
    ]  # the page quotes them
    assert (np.diff(lesson.cosine) <= 1e-12).all()


WHOLE = slice(None, None, lessons.FRAMES_PER_UPDATE)  # the search's own states, without the pictures between


def test_between_two_updates_rows_are_on_their_way():
    path = lessons.path()
    assert path.update[WHOLE].tolist() == list(range(11))
    half = lessons.FRAMES_PER_UPDATE // 2
    np.testing.assert_allclose(path.row_sparsity[half], path.row_sparsity[:: 2 * half][:2].mean(axis=0))
    assert len(np.unique(path.row_sparsity, axis=0)) == len(path.update), "every picture differs"


def test_the_path_rises_and_then_wavers():
    path = lessons.path()
    quality, x = path.quality[WHOLE], path.row_sparsity[WHOLE]
    rows = lessons.wide_layer(lessons.PATH_SHARES, (1.0,) * len(lessons.PATH_SHARES))
    assert (np.diff(gini(rows.abs().numpy())) > 0).all()
    np.testing.assert_allclose(path.row_sparsity.mean(axis=1), lessons.PATH_TARGET)
    assert quality.argmax() == path.kept == 6, "what TRIM keeps is the best at exact counts too"
    assert (np.diff(quality[:4]) > 0.001).all()
    assert np.ptp(quality[3:]) < 0.0003
    assert (np.diff(x[path.kept]) > 0).all(), "the more concentrated, the more it gives"


def test_the_updates_bring_the_rows_cosines_together():
    path = lessons.path()
    spread = np.ptp(path.cosine, axis=1)[WHOLE]
    assert path.cosine.shape == path.row_sparsity.shape
    assert spread[3:].max() < 0.3 * spread[0]


def test_the_sign_turns_once_and_for_the_reason_given():
    """At equal counts the loud rows have the higher cosine throughout, and rows give where a weight costs less."""
    outcomes = []
    for percent in range(10, 100, 5):
        lesson = lessons.sign(percent / 100)
        assert lesson.pruned == 67
        assert lesson.loud_cosine > lesson.quiet_cosine
        gives = "positive" if lesson.loud_loss < lesson.quiet_loss else "negative"
        assert lesson.trace.outcome == gives, percent
        outcomes.append(lesson.trace.outcome)
    turn = outcomes.index("positive")
    assert 10 + 5 * turn == 65
    assert outcomes == ["negative"] * turn + ["positive"] * (len(outcomes) - turn)


def test_what_the_seminar_says_of_the_sign():
    lesson = lessons.sign(0.4)
    assert [f"{value:.3f}" for value in (lesson.loud_cosine, lesson.quiet_cosine)] == ["0.922", "0.874"]
    assert [f"{value:.4f}" for value in (lesson.loud_loss, lesson.quiet_loss)] == ["0.0183", "0.0108"]


def test_loss_is_what_one_more_weight_costs():
    lesson = lessons.sign(0.4)
    assert lesson.loud_loss == pytest.approx(float(lesson.loud[::-1][lesson.pruned]) ** 2, rel=1e-5)


def test_budgets_keep_the_models_sparsity_and_spare_outliers():
    for width in (0.0, 0.08, 0.2):
        lesson = lessons.budgets(width)
        assert lesson.sparsity.mean() == pytest.approx(lessons.TARGET, abs=1e-4)
        assert np.ptp(lesson.sparsity) == pytest.approx(2 * width, abs=1e-3)
    assert (np.argsort(lesson.outliers) == np.argsort(-lesson.sparsity)).all()
    assert len(set(lesson.outliers)) == len(lesson.outliers)


@pytest.mark.parametrize("target", [0.25, 0.375, 0.5, 0.625, 0.75])
def test_the_optimum_takes_the_lowest_scores_of_the_layer(target):
    uniform, trim_, optimal = lessons.three_allocations(target)
    assert uniform.layer_cosine < trim_.layer_cosine <= optimal.layer_cosine
    assert {matrix.counts.sum() for matrix in (uniform, trim_, optimal)} == {round(32 * target)}
    lost = optimal.score[~optimal.keep]
    assert lost.max() <= optimal.score[optimal.keep].min() + 1e-6
    share = captured_share(uniform.layer_cosine, trim_.layer_cosine, optimal.layer_cosine)
    assert 0 < share < 1


def test_at_three_quarters_the_optimum_gives_row_1_up():
    _, trim_, optimal = lessons.three_allocations(0.75)
    assert optimal.counts[1] == 7
    assert trim_.counts[1] == 5
    energy = (lessons.WEIGHT * lessons.NORM).square().sum(dim=1)
    assert float(energy[1]) == pytest.approx(7.8, abs=0.05)


def test_wide_rows_hold_what_was_asked():
    weight = lessons.wide_layer((0.25, 0.9), (1.0, 2.0))
    assert weight.norm(dim=1).tolist() == pytest.approx([1, 2])
    largest = weight.square().sort(dim=1, descending=True).values[:, :4].sum(dim=1) / weight.square().sum(
        dim=1
    )
    assert float(largest[1]) == pytest.approx(0.9)
    assert torch.equal(weight, lessons.wide_layer((0.25, 0.9), (1.0, 2.0)))
