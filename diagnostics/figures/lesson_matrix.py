"""Matrices small enough to read: the origin of scores, the pruned weights, the cosine of each row."""

from collections.abc import Sequence

import numpy as np

from diagnostics.concentration import LorenzCurve
from diagnostics.figures.drawing import HEIGHT, WIDTH, Drawing, Plot
from diagnostics.format import number
from diagnostics.lessons import CurveLesson, PrunedMatrix, ScoreLesson

_LEFT = 44  # room for the indices of rows
DASHES = ("", "dash", "dot", "dashdot")  # of rows 0 to 3, the cue that needs no colour
SHARES = {0.0: "0", 0.25: "0.25", 0.5: "0.5", 0.75: "0.75", 1.0: "1"}
PERCENTS = {0.0: "0%", 0.25: "25%", 0.5: "50%", 0.75: "75%", 1.0: "100%"}


def score_drawing(lessons: Sequence[ScoreLesson]) -> Drawing:
    """Draw weights, the norms of the features, and the scores: their product, pruned ones crossed out."""
    drawing = Drawing(len(lessons))
    rows, columns = lessons[0].weight.shape
    width, cell = WIDTH - _LEFT - 4, 33.0
    weight = lessons[0].weight
    norms = np.stack([lesson.norm for lesson in lessons])
    drawing.text(_LEFT, 16, "weights W", "ink strong")
    drawing.cells(_LEFT, 24, width, rows * cell, np.abs(weight), shown=weight, sign=True)
    drawing.matrix_labels(_LEFT, 24, width, rows * cell, rows, 0)
    below = 24 + rows * cell + 22
    drawing.text(_LEFT, below, "times: feature norms n", "ink strong")
    drawing.cells(_LEFT, below + 6, width, cell, norms[:, None])
    below += cell + 28
    drawing.text(_LEFT, below, "scores |W| · n; the lower half of each row crossed out", "ink strong")
    scores = np.stack([lesson.pruned.score for lesson in lessons])
    keep = np.stack([lesson.pruned.keep for lesson in lessons])
    drawing.cells(_LEFT, below + 6, width, rows * cell, scores, keep=keep)
    drawing.matrix_labels(_LEFT, below + 6, width, rows * cell, rows, columns)
    return drawing


def damage_drawing(matrices: Sequence[PrunedMatrix]) -> Drawing:
    """Draw scores with the pruned ones crossed out, and next to them the cosine of each row's output."""
    drawing = Drawing(len(matrices))
    rows, columns = matrices[0].score.shape
    width, height, top = 390.0, 288.0, 46.0
    drawing.text(_LEFT, 30, "scores; pruned ones crossed out", "ink strong")
    keep = np.stack([matrix.keep for matrix in matrices])
    drawing.cells(_LEFT, top, width, height, matrices[0].score, keep=keep)
    drawing.matrix_labels(_LEFT, top, width, height, rows, columns)
    drawing.text(_LEFT + width, top + height + 34, "input feature", "muted small", "end")
    left = _LEFT + width + 26
    drawing.text(left, 30, "cosine of output", "ink strong")
    plot = Plot(drawing, left, top, WIDTH - left - 14, height, (0, 1), (0, 1))
    plot.axes("1: direction kept", "", {0.0: "0", 0.5: "0.5", 1.0: "1"}, {})
    cosines = np.stack([matrix.cosine for matrix in matrices])
    for row in range(rows):
        middle = top + (row + 0.5) * height / rows
        drawing.rect("fill uniform", left, middle - 18, plot.width * cosines[:, row], 36)
        drawing.text(left + 6, middle + 6, [number(value, 2) for value in cosines[:, row]], "plate strong")
    return drawing


def curve_drawing(lesson: CurveLesson) -> Drawing:
    """Draw a few rows that get sparser: their weights, lowest score first, and the cosine at every number pruned."""
    columns = lesson.score.shape[1]
    pruned = np.arange(columns + 1)
    drawing = Drawing(columns + 1)
    left, width, height = 92.0, WIDTH - 92 - 24, 44.0
    drawing.text(left, 16, "weights by score, lowest first; grey: pruned", "ink strong")
    for row, (name, score) in enumerate(zip(lesson.names, lesson.score, strict=True)):
        base = 24 + (row + 1) * (height + 6)
        tops = base - height * np.sqrt(score / lesson.score.max())
        edges = left + width * np.repeat(np.arange(columns + 1), 2)[1:-1] / columns
        outline = np.append(np.repeat(tops, 2), [base, base])
        drawing.curve("fill muted", np.append(edges, [left + width, left]), outline)
        drawing.line("stroke faint thin", left, base, left + width, base)
        drawing.text(left - 8, base - 14, name, "muted", "end")
        drawing.rect("veil", left, base - height - 1, width * pruned / columns, height + 1)
    plot = Plot(drawing, left, 206, width, 152, (0, 1), (0, 1.02))
    plot.axes(
        "row sparsity",
        "retention curve: cosine of the row's output",
        PERCENTS,
        {0.0: "0", 0.5: "0.5", 1.0: "1"},
    )
    across = plot.x(pruned / columns)
    drawing.line("stroke uniform", across, plot.top, across, plot.bottom)
    for row, cosine in enumerate(lesson.cosine):
        plot.curve("stroke ink " + DASHES[row], pruned / columns, cosine)
        drawing.circle("fill uniform", across, plot.y(cosine), 6)
    late = pruned > 0.7 * columns
    for row, cosine in enumerate(lesson.cosine):
        drawing.text(
            np.where(late, across - 10, across + 10),
            plot.bottom - 12 - 20 * (len(lesson.names) - 1 - row),
            [f"{lesson.names[row]} {number(value, 2)}" for value in cosine],
            ["plate end" if here else "plate" for here in late],
        )
    return drawing


def lorenz_drawing(lessons: Sequence[Sequence[LorenzCurve]]) -> Drawing:
    """Draw the Lorenz curves of a few rows, and their Gini."""
    drawing = Drawing(len(lessons))
    plot = Plot(drawing, 60, 30, 380, HEIGHT - 30 - 40, (0, 1), (0, 1))
    plot.axes(
        "share of the row's weights, lowest score first",
        "share of the row's score that they hold",
        PERCENTS,
        PERCENTS,
    )
    plot.curve("stroke faint thin", np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    drawing.text(472, 48, "Gini", "ink strong")
    for row in range(len(lessons[0])):
        curves = [lesson[row] for lesson in lessons]
        moves = any(curve.gini != curves[0].gini for curve in curves)
        shares = np.stack([curve.share for curve in curves])
        css = f"stroke {'trim bold' if moves else 'ink'} {DASHES[row]}"
        plot.curve(css, curves[0].population, shares if moves else shares[0])
        drawing.line(css, 472, 72 + 30 * row, 512, 72 + 30 * row)
        gini = [curve.gini for curve in curves]
        drawing.text(
            520,
            77 + 30 * row,
            [f"row {row}: {value:.2f}" for value in gini],
            "ink strong" if moves else "ink",
        )
    return drawing


def masks_drawing(lessons: Sequence[Sequence[PrunedMatrix]]) -> Drawing:
    """Draw the scores under several allocations, one matrix below the other."""
    drawing = Drawing(len(lessons))
    rows, columns = lessons[0][0].score.shape
    width, height = WIDTH - _LEFT - 200, 102.0
    for index in range(len(lessons[0])):
        matrices = [lesson[index] for lesson in lessons]
        top = 8 + index * (height + 24)
        keep = np.stack([matrix.keep for matrix in matrices])
        drawing.cells(_LEFT, top, width, height, matrices[0].score, keep=keep)
        drawing.matrix_labels(_LEFT, top, width, height, rows, columns)
        aside = _LEFT + width + 16
        drawing.text(aside, top + 24, matrices[0].label, f"{matrices[0].method} big")
        counts = [", ".join(map(str, matrix.counts)) for matrix in matrices]
        drawing.text(aside, top + 52, [f"rows lose {each}" for each in counts], "ink")
        drawing.text(
            aside, top + 76, [f"cosine {number(matrix.layer_cosine, 3)}" for matrix in matrices], "ink strong"
        )
    return drawing
