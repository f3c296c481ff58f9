"""The drawings of the lessons, by their marks."""

import json
import math
import re

import numpy as np
import pytest

from diagnostics.concentration import lorenz_curves
from diagnostics.figures.drawing import HEIGHT, WIDTH, Drawing, Plot
from diagnostics.figures.frame import enlarged
from diagnostics.figures.lesson_matrix import (
    curve_drawing,
    damage_drawing,
    lorenz_drawing,
    masks_drawing,
    score_drawing,
)
from diagnostics.figures.lesson_model import perplexity_drawing, rows_drawing
from diagnostics.figures.lesson_search import budget_drawing, path_drawing, sign_drawing, update_drawing
from diagnostics.figures.masks import masks_figure
from diagnostics.lessons import (
    BudgetLesson,
    CurveLesson,
    PathLesson,
    PerplexityLesson,
    PrunedMatrix,
    RowsLesson,
    ScoreLesson,
    SignLesson,
    UpdateLesson,
)
from tests.diagnostics.figure_cases import search_trace

RNG = np.random.default_rng(0)
SCORE = RNG.random((3, 5))
KEEP = np.array([[True] * 5, [False] * 2 + [True] * 3, [False] * 5])


def matrix(method="uniform", label="Uniform", keep=KEEP):
    return PrunedMatrix(method, label, SCORE, keep, np.array([1.0, 0.5, 0.0]), 0.75)


def update():
    change = np.array([0.1, -0.1])
    quality, share = np.array([0.5, 1.0]), np.array([0.0, 1.0])
    return UpdateLesson(0.5, 8, quality, share, change, 0.5 + change, np.array([5, 3]), 0.9, 0.95)


def path():
    x = np.linspace(0.7, [0.6, 0.8], 5)
    quality = np.array([0.9, 0.92, 0.95, 0.945, 0.94])
    return PathLesson(0.7, np.arange(5) / 2, x, 1 - x, quality, 1)


def sign(**changes):
    loud, quiet = np.sort(RNG.random((2, 10)))[:, ::-1]
    return SignLesson(loud, quiet, 7, 0.9, 0.8, 0.02, 0.01, search_trace(**changes))


def rows(points=4):
    gini = np.linspace(0.31, 0.52, points)
    return RowsLesson("3.mlp.down_proj", 9, 40, 0.7, -0.01, gini, 0.5 + gini, -0.5, 0.001, 2, 30)


DRAWINGS = {
    "scores": lambda: score_drawing(
        [ScoreLesson(SCORE - 0.5, np.full(5, norm), matrix()) for norm in (1.0, 2.0)]
    ),
    "damage": lambda: damage_drawing([matrix(keep=np.ones_like(KEEP)), matrix()]),
    "curves": lambda: curve_drawing(CurveLesson(("a", "b"), np.sort(SCORE[:2]), np.linspace(1, [0, 0], 6).T)),
    "lorenz": lambda: lorenz_drawing(
        [lorenz_curves(np.array([[1, 1.0], [1, top]]), (0, 1)) for top in (1.0, 2.0)]
    ),
    "masks": lambda: masks_drawing([[matrix(), matrix("trim", "TRIM"), matrix("optimal", "<b>x")]]),
    "update": lambda: update_drawing([update(), update()]),
    "path": lambda: path_drawing(path()),
    "sign": lambda: sign_drawing([sign(), sign(chosen=None)]),
    "budget": lambda: budget_drawing([BudgetLesson(0.7, np.array([0.0, 0.01]), np.array([0.8, 0.6]))]),
    "rows": lambda: rows_drawing([rows(4), rows(2)]),
    "perplexity": lambda: perplexity_drawing(
        [PerplexityLesson(0.7, (("Dense", "dense", 27.5), ("TRIM", "trim", 1234.5)))]
    ),
}


def marks(drawing, tag, css=""):
    """Return the marks of a tag whose class, in any frame, begins like this."""
    return [
        mark
        for mark in drawing.marks
        if mark["tag"] == tag
        and any(
            each.startswith(css)
            for each in ([mark["class"]] if isinstance(mark["class"], str) else mark["class"])
        )
    ]


def texts(drawing):
    return [text for mark in marks(drawing, "text") for text in each_frame(mark["text"])]


def each_frame(value):
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize("name", DRAWINGS)
def test_every_drawing_is_on_its_sheet_in_every_frame(name):
    drawing = DRAWINGS[name]()
    assert drawing.marks
    assert texts(drawing)
    for mark in drawing.marks:
        for attribute, value in mark.items():
            found = each_frame(value)
            assert len(found) in (1, drawing.frames), (name, mark)
            if attribute in ("x", "y", "x1", "y1", "x2", "y2", "cx", "cy"):
                limit = WIDTH if "x" in attribute else HEIGHT
                assert all(0 <= number <= limit for number in found), (name, mark)
            if attribute in ("width", "height", "r"):
                assert all(number >= 0 for number in found), (name, mark)
            assert not any(isinstance(number, float) and math.isnan(number) for number in found)


def test_every_sparsity_says_what_it_is_of():
    for name, make in DRAWINGS.items():
        for text in texts(make()):
            for match in re.finditer(r"([\w']+)\s+sparsit", text):
                assert match.group(1).lower() in {"row", "layer", "model"}, (name, text)


def test_an_attribute_has_one_value_or_one_for_each_frame():
    drawing = Drawing(3)
    drawing.circle("fill ink", np.array([1.04, 2.0, 3.0]), 5, 2)
    assert drawing.marks == [{"tag": "circle", "class": "fill ink", "cx": [1, 2, 3], "cy": 5, "r": 2}]
    with pytest.raises(ValueError, match="2 values; the drawing has 3 frames"):
        drawing.circle("fill ink", np.array([1.0, 2.0]), 5, 2)


def test_a_plot_puts_its_ranges_on_its_edges():
    plot = Plot(Drawing(), 10, 20, 100, 50, (0, 1), (0.5, 1))
    assert plot.x(np.array([0, 0.5, 1])).tolist() == [10, 60, 110]
    assert plot.y(np.array([0.5, 1])).tolist() == [70, 20]


def test_pruned_cells_are_empty_and_crossed():
    drawing = DRAWINGS["damage"]()
    cells = marks(drawing, "rect", "cell")
    assert len(cells) == KEEP.size
    for cell, kept in zip(cells, KEEP.ravel(), strict=True):
        first, last = (each_frame(cell["fill"]) * 2)[:2] if isinstance(cell["fill"], str) else cell["fill"]
        assert first.startswith("#")
        assert (last != "none") == kept
    crosses = marks(drawing, "line", "stroke faint thin")
    crosses = [mark for mark in crosses if "stroke-opacity" in mark]
    assert [mark["stroke-opacity"] for mark in crosses] == [[0, 1]] * int((~KEEP).sum())
    assert [mark["text"] for mark in marks(drawing, "text", "plate")] == ["1", "0.50", "0"]


def test_three_masks_are_below_each_other():
    drawing = DRAWINGS["masks"]()
    labels = [mark for mark in marks(drawing, "text") if mark["class"].endswith("big")]
    assert [mark["text"] for mark in labels] == ["Uniform", "TRIM", "<b>x"]
    assert labels[0]["y"] < labels[1]["y"] < labels[2]["y"]
    assert texts(drawing).count("rows lose 0, 2, 5") == 3


def test_an_update_goes_from_the_target_to_x():
    drawing = DRAWINGS["update"]()
    moves = marks(drawing, "line", "stroke trim")
    assert [mark["x1"] < mark["x2"] for mark in moves] == [True, False]
    assert {"+0.100", "−0.100", "5 of 8", "3 of 8", "0.600"} <= set(texts(drawing))


def test_a_path_marks_the_kept_update_once_it_is_reached():
    drawing = DRAWINGS["path"]()
    (kept,) = [mark for mark in marks(drawing, "text") if mark["text"] == "best: kept"]
    assert kept["opacity"] == [0, 0, 1, 1, 1]
    bars = marks(drawing, "rect", "fill trim")
    tops = np.array([bar["y"] for bar in bars])
    assert (np.diff(tops[0]) > 0).all(), "row 0 gets weights back"
    assert (np.diff(tops[1]) < 0).all()


def test_gains_tell_tried_from_untried_and_mark_the_choice():
    drawing = DRAWINGS["sign"]()
    tried = [
        mark["class"] for mark in marks(drawing, "rect", "fill gain") + marks(drawing, "rect", "fill loss")
    ]
    assert len(tried) == 3
    assert len(marks(drawing, "rect", "outline")) == 6
    chosen = [mark["opacity"] for mark in marks(drawing, "text") if mark["text"] == "chosen"]
    assert sorted(map(str, chosen)) == ["0"] * 8 + ["[1, 0]"]


def test_layers_of_fewer_rows_leave_points_out():
    circles = marks(DRAWINGS["rows"](), "circle")
    assert [mark["r"] for mark in circles] == [4, 4, [4, 0], [4, 0]]
    assert "η = −0.01; Spearman −0.50" in texts(DRAWINGS["rows"]())


def test_perplexities_grow_by_their_logarithm():
    dense, pruned = marks(DRAWINGS["perplexity"](), "rect", "fill")
    assert dense["class"] == "fill muted"
    assert pruned["class"] == "fill trim"
    assert pruned["width"] / dense["width"] == pytest.approx(math.log(1234.5) / math.log(27.5), rel=1e-3)
    assert {"27.5", "1,234"} <= set(texts(DRAWINGS["perplexity"]()))


def test_the_papers_small_layer():
    figure = masks_figure([matrix(), matrix("trim", "<b>x")])
    assert [note.text for note in figure.layout.annotations] == [
        "Uniform: loses 0, 2, 5; cosine 0.750",
        "&lt;b&gt;x: loses 0, 2, 5; cosine 0.750",
    ]
    crossed = next(trace for trace in figure.data if trace.name == "Uniform score, pruned")
    assert sorted(zip(crossed.y, crossed.x, strict=True)) == [tuple(at) for at in np.argwhere(~KEEP).tolist()]


def test_enlarged_letters_and_height_grow_and_numbers_stay():
    figure = masks_figure([matrix()])
    large = enlarged(figure, 2)
    assert large.layout.height == 2 * figure.layout.height
    assert large.layout.template.layout.font.size == 2 * figure.layout.template.layout.font.size
    assert figure.layout.template.layout.font.size == 12, "templates are shared: they must not change"
    for one, other in zip(*(json.loads(each.to_json())["data"] for each in (figure, large)), strict=True):
        assert [one.get(axis) for axis in "xyz"] == [other.get(axis) for axis in "xyz"]


def test_shapes_must_fit():
    with pytest.raises(ValueError, match="keep"):
        PrunedMatrix("trim", "TRIM", SCORE, KEEP[:2], np.ones(3), 1.0)
    with pytest.raises(ValueError, match="norm"):
        ScoreLesson(SCORE, np.ones(4), matrix())
    with pytest.raises(ValueError, match="cosine"):
        CurveLesson(("a",), SCORE[:1], np.ones((1, 5)))
