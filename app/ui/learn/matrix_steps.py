"""The lessons on a layer of four rows: scores, uniform damage, Gini, the optimum."""

import numpy as np
import streamlit as st

from app.ui.common import explanations
from app.ui.common.cards import View, theme
from app.ui.learn.step import Check, Step
from diagnostics.figures.concentration import lorenz_figure
from diagnostics.figures.lesson_matrix import damage_figure, masks_figure, score_figure
from diagnostics.gap import captured_share
from diagnostics.lessons import PrunedMatrix

TARGETS = (0.25, 0.375, 0.5, 0.625, 0.75)
PLACES = ("the lowest", "the second lowest", "the second highest", "the highest")

OPTIMAL_FORMULA = r"""
$$
\min_{k}\; \sum_i \lVert Y_i - \hat Y_i(k_i)\rVert^2 \quad\text{with}\quad \sum_i k_i = K
$$

For a price $\lambda$ of a weight each row takes the count $k_i$ with the least squared error less $\lambda k_i$; the
price is raised until the counts add up to $K$ (Everett 1963; Shoham & Gersho 1988).
"""


# ----------------------------------------------------------------------------------------------- scores


def _loudness() -> float:
    return st.slider(
        "How loud is feature 3? (its norm)", 0.0, 6.0, 3.0, 0.5, key="loudness", bind="query-params"
    )


def _scores(loudness: float) -> View:
    from app.services.layer import lessons  # imports torch

    lesson = lessons.scores(loudness)
    weight, score = lesson.weight[0, 3], lesson.pruned.score[0, 3]
    gone = [str(row) for row in range(len(lesson.weight)) if not lesson.pruned.keep[row, 3]]
    fate = f"pruned in row{'s' * (len(gone) > 1)} {', '.join(gone)}" if gone else "kept in every row"
    return View(
        score_figure(lesson, theme()),
        f"Row 0, feature 3: weight {weight:.1f} times norm {lesson.norm[3]:.1f} is score {score:.1f}. "
        f"The weight at feature 3 is {fate}.",
        explanations.SCORE_FORMULA["wanda"],
        f"Weights, feature norms and scores of four rows; feature 3 has norm {lesson.norm[3]:.1f}, its weight is "
        f"{fate}",
        lambda: _table(lesson.pruned) | {"weight": lesson.weight.ravel()},
    )


def _table(matrix: PrunedMatrix) -> dict[str, np.ndarray]:
    rows, columns = np.indices(matrix.score.shape)
    return {
        "row": rows.ravel(),
        "feature": columns.ravel(),
        "score": matrix.score.ravel(),
        "kept": matrix.keep.ravel(),
    }


SCORES = Step(
    "Scores",
    "Which weights matter?",
    "A language model is a stack of **layers**. A layer is a table of numbers, its **weights**: each row multiplies "
    "the incoming numbers (*features*) by its weights and adds up, and that is the row's output. To **prune** a weight "
    "is to set it to zero. A simple method, Wanda, prunes those with the lowest **score**: the size of the weight, "
    "whatever its sign, times its feature's **norm**, which says how large (*loud*) the feature is on real text.",
    _loudness,
    _scores,
    "At the bottom the half of each row that would be pruned is crossed out. Make feature 3 quiet: no weight changes, "
    "and yet others survive. "
    "Row 2's weight of 0.5 at feature 3, kept at first, is then pruned.",
    Check(
        "Row 3 has a weight of −1.3 at feature 2, which has norm 1, and one of 0.9 at feature 3, with norm 3. Which "
        "is pruned first?",
        (
            "0.9: it is the smaller weight",
            "−1.3: its score is the lower one",
            "−1.3: negative weights go first",
        ),
        1,
        "The scores are 1.3 · 1 = 1.3 and 0.9 · 3 = 2.7. The sign plays no part, and size alone does not decide.",
    ),
)


# ---------------------------------------------------------------------------------------------- uniform


def _pruned() -> int:
    return st.slider("Weights pruned in every row (of 8)", 0, 8, 4, key="pruned", bind="query-params")


def _damage(pruned: int) -> View:
    from app.services.layer import lessons  # imports torch

    matrix = lessons.damage(pruned)
    worst, best = int(matrix.cosine.argmin()), int(matrix.cosine.argmax())
    cosines = ", ".join(f"row {row} {value:.2f}" for row, value in enumerate(matrix.cosine))
    if pruned in (0, lessons.COLUMNS):
        seen = (
            "Nothing is pruned: every output is what it was."
            if pruned == 0
            else "Nothing is left of any row."
        )
    else:
        seen = (
            f"With {pruned} of 8 weights gone, row {best} keeps a cosine of {matrix.cosine[best]:.2f} and row {worst} "
            f"{matrix.cosine[worst]:.2f}."
        )
    return View(
        damage_figure(matrix, theme()),
        seen,
        explanations.COSINE_FORMULA
        + "\n\nHere each calibration vector excites one feature, so $c_i = \\sqrt{\\text{kept scores}^2 / "
        "\\text{all scores}^2}$, sums over the row: check it by hand.",
        f"Four rows with {pruned} of 8 weights pruned in each; cosines: {cosines}",
        lambda: {"row": np.arange(len(matrix.cosine)), "cosine": matrix.cosine, "pruned": matrix.counts},
    )


UNIFORM = Step(
    "Uniform",
    "Does every row suffer the same?",
    "The share of weights pruned is the **sparsity**. Plain Wanda gives every row the same: **uniform**. How much does "
    "a row suffer? Over many pieces of text it gives a list of outputs. Read the list as an arrow: pruning turns it, "
    "and the **cosine** of the angle is 1 if the arrow points where it did, 0 if nothing of its direction is left.",
    _pruned,
    _damage,
    "Row 0 rests on one weight and hardly minds losing the others. In row 1 all weights matter alike, and "
    "each one that goes is missed.",
    Check(
        "Row 0 loses half of its weights and keeps a cosine of 1.00. Why?",
        (
            "One weight carries nearly all of its output, and that one stays",
            "It had more weights than the other rows, so half of them is not much",
            "Its output was zero before, and a cosine of zeros is 1",
        ),
        0,
        "Its weight at feature 3 has score 6.0; the seven others have 0.4 or less. Without four of those the output is "
        "the same but for a hair.",
    ),
)


# ------------------------------------------------------------------------------------------------- gini


def _factor() -> int:
    return st.slider(
        "Make the weight of row 1 at feature 4 larger (times)",
        1,
        20,
        1,
        format="%d ×",
        key="factor",
        bind="query-params",
    )


def _lorenz(factor: int) -> View:
    from app.services.layer import lessons  # imports torch

    curves = lessons.concentration(factor)
    row = curves[lessons.EVEN_ROW]
    ginis = ", ".join(f"row {curve.row} {curve.gini:.2f}" for curve in curves)
    others = ", ".join(f"row {curve.row} {curve.gini:.2f}" for curve in curves if curve is not row)
    place = sorted(curve.gini for curve in curves).index(row.gini)
    return View(
        lorenz_figure(curves, theme()),
        f"Row 1 has a Gini of {row.gini:.2f}, {PLACES[place]} of the four. The others stay: {others}.",
        explanations.GINI_FORMULA + explanations.LORENZ_FORMULA,
        f"Lorenz curves of four rows. Gini: {ginis}",
        lambda: (
            {"share_of_weights": row.population}
            | {f"share_of_score_row_{curve.row}": curve.share for curve in curves}
        ),
    )


GINI = Step(
    "Gini",
    "How concentrated is a row?",
    "Line up a row's scores from the lowest to the highest and add them up on the way: that is its **Lorenz curve**. "
    "How deep it hangs below the diagonal is the **Gini**: 0 if every weight matters the same, towards 1 if few "
    "weights hold everything.",
    _factor,
    _lorenz,
    "Row 0, which hardly minded pruning in step 2, hangs deep; row 1, which suffered most, begins almost on the "
    "diagonal. Make one weight of row 1 larger: the seven others have not changed, but beside it they hardly count, "
    "and the curve sinks.",
    Check(
        "Two rows have a Gini of 0.1 and 0.7. Which one can lose more weights and still keep a high cosine?",
        (
            "The one with 0.1",
            "The one with 0.7",
            "Both the same: Gini is about scores, not about outputs",
        ),
        1,
        "With 0.7 few weights hold most of the score, and the many others can go. Gini is not the whole story (steps 6 "
        "and 8), but it is a good first look.",
    ),
)


# ---------------------------------------------------------------------------------------------- optimum


def _target() -> float:
    return st.select_slider(
        "Layer sparsity",
        TARGETS,
        0.5,
        format_func=lambda share: f"{share:.1%}",
        key="share",
        bind="query-params",
    )


def _optimum(target: float) -> View:
    from app.services.layer import lessons  # imports torch

    uniform, trim, optimal = matrices = lessons.three_allocations(target)
    captured = captured_share(uniform.layer_cosine, trim.layer_cosine, optimal.layer_cosine)
    qualities = ", ".join(f"{matrix.label} {matrix.layer_cosine:.4f}" for matrix in matrices)
    return View(
        masks_figure(matrices, theme()),
        f"Cosine of the layer's output: {qualities}. TRIM captured {captured:.0%} of the possible gain over uniform.",
        OPTIMAL_FORMULA,
        f"Masks of three allocations at {target:.1%} layer sparsity. Layer cosine: {qualities}",
        lambda: {f"pruned_{matrix.method}": matrix.counts for matrix in matrices},
    )


OPTIMUM = Step(
    "Optimum",
    "How far is TRIM from the best?",
    "TRIM is a search and may miss the best. If best means the least **squared error** (how far the layer's outputs "
    "are off, squared and added up), it can be computed: always take the weight that adds least to it, in whatever "
    "row. In this layer each piece of text uses one feature only, so these are simply the lowest scores of the whole "
    "layer.",
    _target,
    _optimum,
    "At 50% TRIM and the optimum both take nearly all of row 0. Move to 75%: they part. The optimum gives up row 1, in "
    "which no weight is large, and keeps more of row 3. TRIM goes by the rows' directions and does not see what a "
    "weight costs.",
    Check(
        "At 75% the optimum leaves row 1 one of its eight weights, and TRIM three. How can the optimum be better?",
        (
            "Row 1's scores are all about 1: squared, they are less than what the large scores elsewhere hold",
            "Row 1 had no output to begin with, so nothing is lost when its weights go",
            "The counts must add up to 24, and rounding left no other choice",
        ),
        0,
        "Row 1's whole squared output is 7.8; row 0's one large weight alone makes 36. The layer's error counts "
        "outputs by their size, a row's cosine does not. Whether the model minds the loss of a small output is yet "
        "another question; the optimal method can weigh rows by that as well (their sensitivity).",
    ),
)
