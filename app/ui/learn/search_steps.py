"""The lessons on TRIM's search: one update, iterations, the sign of the learning rate, budgets."""

import functools

import numpy as np

from app.ui.common import explanations
from app.ui.learn.step import Check, Control, Picture, Step
from diagnostics.figures.frame import signed
from diagnostics.figures.lesson_search import budget_drawing, path_drawing, sign_drawing, update_drawing
from diagnostics.format import number, percent, rate_label
from diagnostics.lessons import SignLesson

RATES = (-0.16, -0.08, -0.04, -0.02, -0.01, 0.01, 0.02, 0.04, 0.08, 0.12, 0.16)
ROW = 2  # the row whose arithmetic is written out: neither the best nor the worst, so that no term is 0 or 1
SHARES = tuple(range(10, 96))  # percent
WIDTHS = tuple(np.arange(0, 0.2001, 0.005).round(3).tolist())

BUDGET_FORMULA = r"""
OWL (arXiv 2310.05175): the outlier share of a block is the share of its scores above $M = 5$ times their mean. Mapped
linearly to $[0, 2\lambda]$, it is the share that the block keeps in addition; all layers are then shifted by the same
amount, so that the model's sparsity stays the target.
"""


@functools.cache
def _update() -> Picture:
    from app.services.layer import lessons  # imports torch

    found = [lessons.one_update(rate) for rate in RATES]
    findings = []
    for rate, lesson in zip(RATES, found, strict=True):
        giver, getter = int(lesson.change.argmax()), int(lesson.change.argmin())
        mean = lesson.share.mean()
        findings.append(
            f"Row {giver} gives most, row {getter} gets most back. Row {ROW}: 2η (p − mean) = 2 · "
            f"({signed(rate, 'g')}) · ({number(lesson.share[ROW], 3)} − {number(mean, 3)}) = "
            f"{signed(lesson.change[ROW], '.3f')}, "
            f"so x = {number(lesson.row_sparsity[ROW], 3)}: of eight weights "
            f"{number(8 * lesson.row_sparsity[ROW], 3)}. Taken are "
            "the whole counts nearest to 8x that add up to 16. The layer's cosine goes from "
            f"{number(lesson.uniform_quality)} to {number(lesson.layer_quality)}."
        )
    return Picture(
        update_drawing(found),
        Control(
            "eta",
            "Learning rate η (eta)",
            tuple(map(str, RATES)),
            tuple(f"η = {rate_label(rate)}" for rate in RATES),
            8,
            rate=2,
        ),
        findings,
        "A line for each of four rows: its cosine, how far it lies between worst and best, and how far one update "
        "moves its sparsity from uniform",
        lambda: {
            "learning_rate": np.repeat(RATES, lessons.ROWS),
            "row": np.tile(np.arange(lessons.ROWS), len(RATES)),
            "change": np.concatenate([lesson.change for lesson in found]),
            "row_sparsity": np.concatenate([lesson.row_sparsity for lesson in found]),
            "count": np.concatenate([lesson.counts for lesson in found]),
        },
    )


UPDATE = Step(
    "Update",
    "What does TRIM do about it?",
    "TRIM evens out the damage: rows of high cosine *give* (lose more weights), rows of low cosine *get* some back, "
    "and the layer's total stays. How far they move is the **learning rate** η; nothing is trained.",
    "Rows of high cosine give weights, rows of low cosine get some back. The layer's total stays.",
    "The changes add up to zero. A negative η turns them round.",
    "Write the four cosines on the board (0.999, 0.806, 0.963, 0.951) and let the room do row 2 at η = 0.08: p is "
    "0.816, the mean 0.642, so +0.028. Turn the sign and ask who gets weights now.",
    Check(
        "With η = +0.08, why does row 1 get weights back?",
        (
            "Its Gini is the highest of the four",
            "Its weights are the largest",
            "Its cosine is the lowest of the four",
        ),
        2,
        "Its cosine of 0.806 is the worst, so p = 0, below the mean: its change is negative.",
    ),
    explanations.ROW_SPARSITY_FORMULA,
    _update,
)


@functools.cache
def _path() -> Picture:
    from app.services.layer import lessons  # imports torch

    lesson = lessons.path()
    whole = lesson.update == lesson.update.round()
    findings = []
    for frame, update in enumerate(lesson.update):
        x, cosine = lesson.row_sparsity[frame], lesson.cosine[frame]
        best = int(
            np.flatnonzero(whole[: frame + 1])[lesson.quality[: frame + 1][whole[: frame + 1]].argmax()]
        )
        done = "no update" if update == 0 else f"{update:g} update" + ("" if update == 1 else "s")
        findings.append(
            f"After {done} the rows lose between {percent(x.min(), 0)} and {percent(x.max(), 0)}; "
            f"their cosines lie between "
            f"{number(cosine.min(), 2)} and {number(cosine.max(), 2)}. Layer quality "
            f"{number(lesson.quality[frame])}, best so far "
            f"{number(lesson.quality[best])} (update {lesson.update[best]:g})."
        )
    return Picture(
        path_drawing(lesson),
        Control(
            "iteration", "Updates done", tuple(f"{update:g}" for update in lesson.update.round(1)),
            tuple(f"{update:.1f}" for update in lesson.update), 0, lessons.FRAMES_PER_UPDATE,
        ),
        findings,
        "Bars: the sparsities of twelve rows, and below them the layer quality after each update",
        lambda: {"update": lesson.update, "layer_quality": lesson.quality}
        | {f"row_sparsity_{row}": values for row, values in enumerate(lesson.row_sparsity.T)},
    )  # fmt: skip


ITERATIONS = Step(
    "Iterations",
    "What do more updates do?",
    "TRIM repeats the update ten times. After each it measures the **layer quality**, the cosine of all rows' "
    "outputs together, and keeps the best state.",
    "Ten updates make the rows' cosines alike. The update with the best layer quality is kept, not the last.",
    "Concentrated rows give, even ones get. The quality rises for three updates, then hardly moves; the sixth is best "
    "by a hair.",
    "Press Play. Ask at which update they would stop; the search keeps the sixth of ten. Between two updates "
    "the picture interpolates x and looks up its quality, too.",
    Check(
        "Why does TRIM keep the best update and not the last one?",
        (
            "The last update always leads back to uniform",
            "Rows made alike do not always make a better layer",
            "Later updates prune more weights in total",
        ),
        1,
        "Updates go by the rows' cosines, the verdict by the layer's quality. Past some point the two disagree. "
        "The total stays.",
    ),
    explanations.ROW_SPARSITY_FORMULA,
    _path,
)


@functools.cache
def _sign() -> Picture:
    from app.services.layer import lessons  # imports torch

    found = [lessons.sign(percent / 100) for percent in SHARES]
    return Picture(
        sign_drawing(found),
        Control(
            "outliers", "How concentrated are the loud rows? (share of squared output in outliers)",
            tuple(map(str, SHARES)),
            tuple(f"{percent}%" for percent in SHARES), SHARES.index(40), 5,
        ),
        [sign_finding(lesson) for lesson in found],
        "Scores of a loud and a quiet row, what the next pruned weight costs in each, and the gain of nine "
        "learning rates",
        lambda: {
            "outliers_percent": np.array(SHARES),
            "loud_cosine": np.array([lesson.loud_cosine for lesson in found]),
            "quiet_cosine": np.array([lesson.quiet_cosine for lesson in found]),
            "loud_loss": np.array([lesson.loud_loss for lesson in found]),
            "quiet_loss": np.array([lesson.quiet_loss for lesson in found]),
            "learning_rate": np.array([lesson.trace.rates[lesson.trace.chosen or 0] for lesson in found]),
        },
    )  # fmt: skip


def sign_finding(lesson: SignLesson) -> str:
    """Describe why this sign won."""
    rate = lesson.trace.rates[lesson.trace.chosen or 0]
    higher = "loud" if lesson.loud_cosine > lesson.quiet_cosine else "quiet"
    lower = "quiet" if higher == "loud" else "loud"
    outcome = {
        "positive": f"A positive rate wins ({rate_label(rate)}): {higher} rows, of the higher cosine, give.",
        "negative": f"A negative rate wins ({rate_label(rate)}): {lower} rows, of the lower cosine, give.",
        "none": "No rate beats uniform.",
    }[lesson.trace.outcome].replace("-0", "−0")
    return (
        f"With {lesson.pruned} of {len(lesson.loud)} weights pruned in each, loud rows keep a cosine of "
        f"{number(lesson.loud_cosine, 3)}, quiet rows {number(lesson.quiet_cosine, 3)}. The next weight adds "
        f"{number(lesson.loud_loss)} to the squared error in a loud row, {number(lesson.quiet_loss)} in a quiet one. "
        f"{outcome}"
    )


SIGN = Step(
    "Sign",
    "Should rows of low cosine ever give?",
    "Twelve **loud** rows have outputs 1.5 times as large as twelve **quiet** ones; in loud rows four *outliers* "
    "hold a share. Rows should give where the next weight costs the layer least. TRIM cannot see that; it tries "
    "positive rates, then negative ones if none beats uniform.",
    "Loud rows have the higher cosine. But rows give where the next weight costs the layer least.",
    "Near 65% it costs the same in both, and the sign turns.",
    "The heart of the seminar. At 40% ask for a prediction: loud rows do better (0.922 against 0.874), so surely "
    "they should give? A negative rate wins: the next weight adds 0.0183 to the squared error in a loud row and "
    "0.0108 in a quiet one. Move to 80%: near 65% the costs meet, and the sign turns.",
    Check(
        "A negative rate won in a layer. What does that say?",
        (
            "Most weights of the layer are negative",
            "Rows of low cosine cost the layer less when pruned further",
            "The layer cannot be pruned to its target",
        ),
        1,
        "A negative η takes from the rows of lowest cosine. It wins where these add little to the layer's output.",
    ),
    explanations.RATE_FORMULA,
    _sign,
)


@functools.cache
def _budgets() -> Picture:
    from app.services.layer import lessons  # imports torch

    found = [lessons.budgets(width) for width in WIDTHS]
    findings = []
    for width, lesson in zip(WIDTHS, found, strict=True):
        least, most = int(lesson.sparsity.argmin()), int(lesson.sparsity.argmax())
        findings.append(
            "With λ = 0 every layer has the same target: uniform budgets." if width == 0
            else f"Block {least} has the most outliers ({percent(lesson.outliers[least])}) and loses "
            f"{percent(lesson.sparsity[least], 0)}; block {most} has {percent(lesson.outliers[most])} and loses "
            f"{percent(lesson.sparsity[most], 0)}. The mean is {percent(lesson.sparsity.mean(), 0)}."
        )  # fmt: skip
    return Picture(
        budget_drawing(found),
        Control(
            "owl", "OWL's λ (lambda): how far apart may layers be?", tuple(f"{width:g}" for width in WIDTHS),
            tuple(f"λ = {width:.3f}" for width in WIDTHS), WIDTHS.index(0.08), 2,
        ),
        findings,
        "Bars: the layer sparsities of six blocks, around their mean of 70%",
        lambda: {
            "owl_width": np.repeat(WIDTHS, len(found[0].sparsity)),
            "block": np.tile(np.arange(len(found[0].sparsity)), len(found)),
            "layer_sparsity": np.concatenate([lesson.sparsity for lesson in found]),
        },
    )  # fmt: skip


BUDGETS = Step(
    "Budgets",
    "Must every layer lose the same?",
    "A **budget** sets each layer's target; TRIM shares it out among the rows. The method *OWL* lets blocks "
    "(groups of layers) with many **outliers** (scores above five times the mean) lose less; λ says how far apart "
    "they may be. The model's sparsity stays.",
    "Budgets say how much each layer loses, TRIM how much each row of it. OWL spares layers with many outliers.",
    "At λ = 0 all budgets are equal.",
    "λ = 0 is uniform. Ask for the order of the blocks before moving to 0.2: the outliers are written below.",
    Check(
        "Budget and TRIM: who decides what?",
        (
            "The budget decides for layers, TRIM for rows",
            "TRIM decides for layers, the budget for rows",
            "Both decide the same",
        ),
        0,
        "Any budget can be shared out by TRIM, evenly (uniform), or optimally.",
    ),
    BUDGET_FORMULA,
    _budgets,
)
