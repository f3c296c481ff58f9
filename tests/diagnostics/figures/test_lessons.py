"""The figures of the lessons, by their traces."""

import json
import re

import numpy as np
import pytest

from diagnostics.figures.frame import enlarged
from diagnostics.figures.lesson_matrix import damage_figure, masks_figure, score_figure
from diagnostics.figures.lesson_search import budget_figure, path_figure, sign_figure, update_figure
from diagnostics.figures.theme import METHOD_STYLES, PALETTES
from diagnostics.lessons import (
    BudgetLesson,
    PathLesson,
    PrunedMatrix,
    ScoreLesson,
    SignLesson,
    UpdateLesson,
)
from tests.diagnostics.figure_cases import search_trace, subtitle, traces, visible_texts

RNG = np.random.default_rng(0)
SCORE = RNG.random((3, 5))
KEEP = np.array([[True] * 5, [False] * 2 + [True] * 3, [False] * 5])


def matrix(method="uniform", label="Uniform"):
    return PrunedMatrix(method, label, SCORE, KEEP, np.array([1.0, 0.5, 0.0]), 0.75)


def figures(theme="light"):
    return {
        "scores": score_figure(ScoreLesson(SCORE - 0.5, np.ones(5), matrix()), theme),
        "damage": damage_figure(matrix(), theme),
        "masks": masks_figure([matrix(), matrix("trim", "TRIM"), matrix("optimal", "<b>x")], theme),
        "update": update_figure(update(), theme),
        "path": path_figure(path(), 2, theme),
        "sign": sign_figure(sign(), theme),
        "budget": budget_figure(BudgetLesson(0.1, 0.7, np.array([0.0, 0.01]), np.array([0.8, 0.6])), theme),
    }


def update():
    change = np.array([0.1, -0.1])
    return UpdateLesson(
        -0.1,
        0.5,
        8,
        np.array([0.5, 1.0]),
        np.array([0.0, 1.0]),
        change,
        0.5 + change,
        np.array([5, 3]),
        0.9,
        0.95,
    )


def path():
    x = np.linspace(0.7, [0.6, 0.8], 4)
    return PathLesson(0.02, 0.7, np.array([0.3, 0.6]), x, 1 - x, np.array([0.9, 0.92, 0.95, 0.94]), 2)


def sign(**changes):
    loud, quiet = np.sort(RNG.random((2, 10)))[:, ::-1]
    return SignLesson(loud, quiet, 0.5, 0.4, 0.9, 0.8, 0.02, 0.01, 0.7, search_trace(**changes))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_figure_asks_and_names_its_axes(theme):
    for name, figure in figures(theme).items():
        assert figure.layout.title.text.endswith("?</b>"), name
        assert len(figure.layout.title.text) <= 7 + 48, name
        assert subtitle(figure), name
        assert figure.layout.template.layout.font.color == PALETTES[theme].ink
        axes = [value for key, value in figure.layout.to_plotly_json().items() if re.match("[xy]axis", key)]
        named = [axis for axis in axes if axis.get("title", {}).get("text")]
        assert len(named) >= 2, name


def test_every_sparsity_says_what_it_is_of():
    for name, figure in figures().items():
        for text in visible_texts(figure):
            for match in re.finditer(r"([\w']+)(?:\s|<br>)+sparsit", text):
                assert match.group(1).lower() in {"row", "layer", "model"}, (name, text)


def test_pruned_cells_are_empty_and_crossed():
    figure = damage_figure(matrix())
    (cells,) = traces(figure, "score")
    assert np.isnan(np.asarray(cells.z)[~KEEP]).all()
    np.testing.assert_allclose(np.asarray(cells.z)[KEEP], SCORE[KEEP], rtol=1e-6)
    (crossed,) = traces(figure, "score, pruned")
    assert sorted(zip(crossed.y, crossed.x, strict=True)) == [tuple(at) for at in np.argwhere(~KEEP).tolist()]
    (written,) = traces(figure, "score, numbers")
    assert list(written.text) == [f"{value:.1f}" for value in SCORE.ravel()]
    assert list(traces(figure, "row cosine")[0].x) == [1.0, 0.5, 0.0]


def test_three_masks_stand_below_each_other_and_labels_are_escaped():
    figure = masks_figure([matrix(), matrix("trim", "TRIM"), matrix("optimal", "<b>x")])
    titles = [note.text for note in figure.layout.annotations]
    assert titles[1] == "TRIM: loses 0, 2, 5; cosine 0.750"
    assert titles[2].startswith("&lt;b&gt;x")
    domains = [figure.layout[axis].domain for axis in ("yaxis", "yaxis2", "yaxis3")]
    assert domains[0][0] > domains[1][1] > domains[2][1]


def test_an_update_goes_from_the_target_to_x():
    figure = update_figure(update())
    (before,), (after,) = traces(figure, "before: uniform"), traces(figure, "after one update: x")
    assert list(before.x) == [0.5, 0.5]
    np.testing.assert_allclose(after.x, [0.6, 0.4])
    assert after.marker.color == METHOD_STYLES["trim"].colour
    assert before.marker.symbol != after.marker.symbol
    assert "−0.1" in subtitle(figure)
    assert [note.text.split("<br>")[0] for note in figure.layout.annotations] == [
        "+10.0 points",
        "−10.0 points",
    ]


def test_a_path_shows_the_iteration_and_marks_the_kept_one_once_reached():
    for iteration in range(4):
        figure = path_figure(path(), iteration)
        np.testing.assert_allclose(
            traces(figure, "row sparsity")[0].y, path().row_sparsity[iteration], rtol=1e-6
        )
        assert len(traces(figure, "layer quality so far")[0].x) == iteration + 1
        kept = [note for note in figure.layout.annotations if "kept" in note.text]
        assert len(kept) == (iteration >= 2)


def test_gains_tell_tried_from_untried_and_mark_the_choice():
    figure = sign_figure(sign())
    (bars,) = traces(figure, "gain")
    assert list(bars.x) == ["−0.04", "−0.02", "−0.01", "+0.01", "+0.02", "+0.04", "+0.08", "+0.12", "+0.16"]
    assert min(bars.y) >= 0
    assert list(bars.customdata) == ["not tried"] * 3 + ["tried"] * 3 + ["not tried"] * 3
    assert [bool(shape) for shape in bars.marker.pattern.shape] == [
        word == "not tried" for word in bars.customdata
    ]
    assert [note.x for note in figure.layout.annotations if note.text == "chosen"] == [4]
    nothing = sign_figure(sign(chosen=None))
    assert not [note for note in nothing.layout.annotations if note.text == "chosen"]


def test_a_budgets_bars():
    figure = figures()["budget"]
    np.testing.assert_allclose(traces(figure, "layer sparsity")[0].y, [0.8, 0.6], rtol=1e-6)
    assert list(figure.layout.xaxis.ticktext) == ["0<br>0.0%", "1<br>1.0%"]


def test_shapes_must_fit():
    with pytest.raises(ValueError, match="keep"):
        PrunedMatrix("trim", "TRIM", SCORE, KEEP[:2], np.ones(3), 1.0)
    with pytest.raises(ValueError, match="norm"):
        ScoreLesson(SCORE, np.ones(4), matrix())


def test_enlarged_letters_and_height_grow_and_numbers_stay():
    for name, figure in figures().items():
        large = enlarged(figure, 2)
        assert large.layout.height == 2 * figure.layout.height, name
        assert large.layout.template.layout.font.size == 2 * figure.layout.template.layout.font.size
        assert figure.layout.template.layout.font.size == 12, "templates are shared: they must not change"
        for one, other in zip(*(json.loads(each.to_json())["data"] for each in (figure, large)), strict=True):
            assert [one.get(axis) for axis in "xyz"] == [other.get(axis) for axis in "xyz"], name
            assert one.get("marker", {}).get("pattern") == other.get("marker", {}).get("pattern"), name
