"""TRIM's search in lessons: one update, a path of updates, the sign of the rate, and budgets of layers."""

from collections.abc import Sequence

import numpy as np

from diagnostics.figures.drawing import HEIGHT, WIDTH, Drawing, Plot
from diagnostics.figures.frame import signed
from diagnostics.figures.lesson_matrix import PERCENTS
from diagnostics.format import rate_label
from diagnostics.lessons import BudgetLesson, PathLesson, SignLesson, UpdateLesson


def update_drawing(lessons: Sequence[UpdateLesson]) -> Drawing:
    """Draw each row's sparsity before and after one update, between the terms of its arithmetic."""
    drawing = Drawing(len(lessons))
    rows, target = len(lessons[0].quality), lessons[0].target
    plot = Plot(drawing, 186, 66, 236, 280, (0.25, 0.75), (rows, 0))
    plot.axes("row sparsity x", "", {0.25: "25%", target: f"uniform: {target:.0%}", 0.75: "75%"}, {})
    middle = float(plot.x(target))
    drawing.line("stroke uniform dash", middle, plot.top, middle, plot.bottom)
    share = np.stack([lesson.share for lesson in lessons])
    change = np.stack([lesson.change for lesson in lessons])
    x = np.stack([lesson.row_sparsity for lesson in lessons])
    counts = np.stack([lesson.counts for lesson in lessons])
    columns = {
        30: ("row", [str(row) for row in range(rows)]),
        100: ("cosine", [f"{value:.3f}" for value in lessons[0].quality]),
        164: ("p", [f"{value:.3f}" for value in share[0]]),
    }
    for at, (head, texts) in columns.items():
        drawing.text(at, 46, head, "muted", "end")
        for row, text in enumerate(texts):
            drawing.text(at, float(plot.y(row + 0.5)) + 6, text, "ink", "end")
    for at, head in ((500, "change"), (560, "x"), (628, "pruned")):
        drawing.text(at, 46, head, "muted", "end")
    for row in range(rows):
        level = float(plot.y(row + 0.5))
        moved = plot.x(x[:, row])
        drawing.line("stroke trim bold", middle, level, moved, level)
        drawing.circle("fill uniform", middle, level, 7)
        drawing.rect("fill trim", moved - 7, level - 7, 14, 14)
        drawing.text(500, level + 6, [signed(value, ".3f") for value in change[:, row]], "trim strong", "end")
        drawing.text(560, level + 6, [f"{value:.3f}" for value in x[:, row]], "ink", "end")
        whole = [f"{count} of {lessons[0].columns}" for count in counts[:, row]]
        drawing.text(628, level + 6, whole, "ink strong", "end")
    drawing.text(4, 20, "p: 0 the worst row, 1 the best", "muted small")
    drawing.text(628, 20, f"change = 2η (p − mean); x = {target:g} + change", "muted small", "end")
    return drawing


def path_drawing(lesson: PathLesson) -> Drawing:
    """Draw every row's sparsity through the updates, and below it the layer's quality."""
    frames, rows = lesson.row_sparsity.shape
    drawing = Drawing(frames)
    plot = Plot(drawing, 66, 26, WIDTH - 66 - 14, 150, (-0.6, rows - 0.4), (0, 1))
    plot.axes("row, by rising Gini", "row sparsity", {float(row): str(row) for row in range(rows)}, PERCENTS)
    for row in range(rows):
        top = plot.y(lesson.row_sparsity[:, row])
        drawing.rect("fill trim", float(plot.x(row - 0.4)), top, 0.8 * plot.width / rows, plot.bottom - top)
    level = plot.across("stroke uniform dash", lesson.target)
    drawing.text(plot.left + 4, level - 6, f"uniform: {lesson.target:.0%}", "plate")
    low, high = float(lesson.quality.min()), float(lesson.quality.max())
    span = high - low
    last = float(lesson.update[-1])
    below = Plot(
        drawing, 66, 240, plot.width, 118, (-0.3, last + 0.3), (low - 0.1 * span, high + 0.35 * span)
    )
    ticks = {float(update): f"{update:g}" for update in lesson.update if update == int(update)}
    below.axes(
        "updates done (0: uniform)", "layer quality (cosine)", ticks, {low: f"{low:.3f}", high: f"{high:.3f}"}
    )
    below.curve("stroke faint dot", lesson.update, lesson.quality)
    seen = np.arange(frames)
    for update in ticks:
        at = int(np.flatnonzero(lesson.update == update)[0])
        point = float(below.x(update)), float(below.y(lesson.quality[at]))
        drawing.circle("fill trim", *point, 5, opacity=1.0 * (seen >= at))
        if update == lesson.kept:
            drawing.circle("stroke ink", *point, 10, opacity=1.0 * (seen >= at))
            drawing.text(
                point[0], point[1] - 16, "best: kept", "ink strong", "middle", opacity=1.0 * (seen >= at)
            )
    drawing.circle("fill trim", below.x(lesson.update), below.y(lesson.quality), 7)
    return drawing


def sign_drawing(lessons: Sequence[SignLesson]) -> Drawing:
    """Draw the scores of a loud and of a quiet row, what one more weight costs in each, and what each rate gains."""
    drawing = Drawing(len(lessons))
    first = lessons[0]
    columns = len(first.loud)
    loud = np.stack([lesson.loud for lesson in lessons])
    top = max(float(loud.max()), float(first.quiet.max()))
    plot = Plot(drawing, 40, 30, 300, 128, (0, columns), (0, 1.05))
    kept = float(plot.x(columns - first.pruned))
    drawing.rect("band", kept, plot.top, plot.right - kept, plot.height)
    plot.axes(
        "weight of the row, highest score first", "√score", {0.0: "1", float(columns): str(columns)}, {}
    )
    positions = np.arange(columns) + 0.5
    plot.curve("stroke ink bold", positions, np.sqrt(loud / top))
    plot.curve("stroke muted bold dot", positions, np.sqrt(first.quiet / top))
    drawing.text(kept + 8, plot.top + 18, f"pruned by uniform: {first.pruned}", "muted small")
    for at, head in ((504 - 30, "cosine"), (628, "cost of one more")):
        drawing.text(at, 30, head, "muted small", "end")
    cost = max(max(lesson.loud_loss, lesson.quiet_loss) for lesson in lessons)
    for level, name, css, cosine, loss in (
        (62, "loud", "ink", [each.loud_cosine for each in lessons], [each.loud_loss for each in lessons]),
        (
            122,
            "quiet",
            "muted dot",
            [each.quiet_cosine for each in lessons],
            [each.quiet_loss for each in lessons],
        ),
    ):
        drawing.line(f"stroke bold {css}", 360, level - 5, 386, level - 5)
        drawing.text(390, level, name, "ink strong")
        drawing.text(504, level, [f"{value:.3f}" for value in cosine], "ink strong", "end")
        drawing.text(628, level, [f"{value:.4f}" for value in loss], "ink strong", "end")
        drawing.rect(f"fill {css.split()[0]}", 360, level + 8, 268 * np.array(loss) / cost, 14)
    gains = 1000 * np.stack([np.maximum(lesson.trace.kept_gain, 0.0) for lesson in lessons])
    rates = first.trace.rates
    order = np.argsort(rates)
    below = Plot(
        drawing, 40, 224, WIDTH - 40 - 12, 130, (-0.6, len(rates) - 0.4), (0, 1.12 * float(gains.max()))
    )
    tick = 2.0 * round(float(gains.max()) / 4) or 1.0
    below.axes(
        "learning rate η", "gain over uniform, thousandths of cosine", {}, {0.0: "0", tick: f"{tick:g}"}
    )
    tried = np.stack([np.asarray(lesson.trace.tried) for lesson in lessons])
    chosen = np.array([-1 if lesson.trace.chosen is None else lesson.trace.chosen for lesson in lessons])
    for across, index in enumerate(order):
        up = below.y(gains[:, index])
        css = "gain" if rates[index] > 0 else "loss"
        left, width = float(below.x(across - 0.35)), 0.7 * below.width / len(rates)
        drawing.rect(
            [f"fill {css}" if here else f"outline {css}" for here in tried[:, index]],
            left,
            up,
            width,
            below.bottom - up,
        )
        middle = float(below.x(across))
        drawing.text(middle, below.bottom + 15, rate_label(float(rates[index])), "muted small", "middle")
        is_chosen = 1.0 * (chosen == index)
        drawing.text(middle, up - 5, "chosen", "plate strong", "middle", opacity=is_chosen)
    drawing.text(40, below.bottom + 31, "no bar: no gain; outline: not tried", "muted small")
    return drawing


def budget_drawing(lessons: Sequence[BudgetLesson]) -> Drawing:
    """Draw the layer sparsity of each block's layer, and below it the outliers that decide it."""
    drawing = Drawing(len(lessons))
    first = lessons[0]
    blocks = len(first.sparsity)
    plot = Plot(drawing, 66, 30, WIDTH - 66 - 80, HEIGHT - 30 - 66, (-0.6, blocks - 0.4), (0, 1))
    plot.axes("", "layer sparsity", {}, PERCENTS)
    sparsity = np.stack([lesson.sparsity for lesson in lessons])
    for block in range(blocks):
        up = plot.y(sparsity[:, block])
        middle = float(plot.x(block))
        drawing.rect("fill trim", float(plot.x(block - 0.4)), up, 0.8 * plot.width / blocks, plot.bottom - up)
        drawing.text(
            middle,
            plot.bottom - 10,
            [f"{value:.0%}" for value in sparsity[:, block]],
            "over-dark strong",
            "middle",
        )
        drawing.text(middle, plot.bottom + 18, f"block {block}", "muted", "middle")
        drawing.text(middle, plot.bottom + 38, f"{first.outliers[block]:.1%}", "ink", "middle")
    drawing.text(
        plot.left,
        plot.bottom + 58,
        "outliers: share of the block's scores above five times their mean",
        "muted small",
    )
    level = plot.across("stroke uniform dash", first.target)
    drawing.text(plot.right + 6, level + 5, "mean", "uniform strong")
    return drawing
