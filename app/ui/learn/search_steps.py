"""The lessons on layers of more rows: iterations, the sign of the learning rate, budgets."""

import numpy as np
import streamlit as st

from app.ui.common import explanations
from app.ui.common.cards import View, theme
from app.ui.learn.step import Check, Step
from diagnostics.figures.lesson_search import budget_figure, path_figure, sign_figure
from diagnostics.lessons import SignLesson

BUDGET_FORMULA = r"""
OWL (arXiv 2310.05175): the outlier share of a block is the share of its scores above $M = 5$ times their mean. Mapped
linearly to $[0, 2\lambda]$ it is what the block keeps more; all layers are then shifted alike, so that the model's
sparsity stays the target.
"""


# ------------------------------------------------------------------------------------------- iterations


def _iteration() -> int:
    from app.services.layer import lessons  # imports torch

    last = len(lessons.path().quality) - 1
    if st.session_state.get("playing"):
        st.session_state["iteration"] = min(st.session_state["iteration"] + 1, last)
        if st.session_state["iteration"] == last:
            st.session_state["playing"] = False
    iteration = st.slider("Updates done", 0, last, 0, key="iteration", bind="query-params")
    if st.button(
        "Play", icon=":material/play_arrow:", key="play", help="All updates from the first on, two a second."
    ):
        st.session_state["playing"] = True
        st.session_state.pop("iteration")
        st.session_state["iteration"] = 0
        st.rerun()
    return iteration


def _path(iteration: int) -> View:
    from app.services.layer import lessons  # imports torch

    lesson = lessons.path()
    x, quality = lesson.row_sparsity[iteration], lesson.quality
    best = int(quality[: iteration + 1].argmax())
    cosine = lesson.cosine[iteration]
    alike = f"their cosines lie between {cosine.min():.2f} and {cosine.max():.2f}"
    if iteration == 0:
        seen = f"Before the first update every row loses {lesson.target:.0%} of its weights, and {alike}."
    else:
        seen = (
            f"After {iteration} update{'s' if iteration > 1 else ''} the rows lose between {x.min():.0%} and "
            f"{x.max():.0%} of their weights, and {alike}. The layer's quality is {quality[iteration]:.4f}, the best "
            f"so far {quality[best]:.4f} (iteration {best})."
        )
    return View(
        path_figure(lesson, iteration, theme()),
        seen,
        explanations.ROW_SPARSITY_FORMULA,
        f"Sparsities of twelve rows after {iteration} updates, from {x.min():.0%} to {x.max():.0%}, and the layer "
        "quality of each update",
        lambda: {
            "row": np.arange(len(x)),
            "gini": lesson.gini,
            **{f"row_sparsity_{step}": values for step, values in enumerate(lesson.row_sparsity)},
        },
    )


ITERATIONS = Step(
    "Iterations",
    "What do more updates do?",
    "TRIM repeats the update ten times, and the rows' cosines grow alike. After each update it measures the **layer "
    "quality**: the cosine for the outputs of all rows together. It keeps the row sparsities with the best quality. "
    "Here are twelve rows of 96 weights, row 0 the most evenly spread, row 11 the most concentrated.",
    _iteration,
    _path,
    "Concentrated rows give, evenly spread ones get. The quality rises for three updates, then wavers by a few "
    "ten-thousandths, and so do the rows' cosines: what TRIM keeps is not the last update.",
    Check(
        "Why does TRIM keep the best update and not the last one?",
        (
            "Because the last update always leads back to uniform",
            "Because making the rows' cosines alike does not always make the layer better",
            "Because later updates prune more weights in total",
        ),
        1,
        "Updates go by the rows' cosines, the verdict by the layer's quality. Past some point the two disagree. The "
        "total stays the same throughout.",
    ),
)


# ------------------------------------------------------------------------------------------------- sign


def _outliers() -> int:
    return st.slider(
        "How concentrated are the loud rows? (share of their squared output in the outliers)",
        10,
        95,
        40,
        5,
        format="%d%%",
        key="outliers",
        bind="query-params",
    )


def _sign(percent: int) -> View:
    from app.services.layer import lessons  # imports torch

    lesson = lessons.sign(percent / 100)
    return View(
        sign_figure(lesson, theme()),
        sign_seen(lesson),
        explanations.RATE_FORMULA,
        f"Scores of a loud and a quiet row, and the gain of nine learning rates; outcome: {lesson.trace.outcome}",
        lambda: {
            "learning_rate": lesson.trace.rates,
            "gain": lesson.trace.kept_gain,
            "tried": np.asarray(lesson.trace.tried),
        },
    )


def sign_seen(lesson: SignLesson) -> str:
    """Describe why this sign won."""
    dearer = "more" if lesson.loud_loss > lesson.quiet_loss else "less"
    rate = lesson.trace.rates[lesson.trace.chosen or 0]
    outcome = {
        "positive": f"A positive rate wins ({rate:+g}): loud rows, of the higher cosine, give.",
        "negative": f"A negative rate wins ({rate:+g}): quiet rows, of the lower cosine, give.",
        "none": "No rate beats uniform.",
    }[lesson.trace.outcome].replace("-0", "−0")
    return (
        f"Under uniform, loud rows keep a cosine of {lesson.loud_cosine:.3f} and quiet rows {lesson.quiet_cosine:.3f}. "
        f"One more pruned weight adds {lesson.loud_loss:.4f} to the squared error in a loud row, {dearer} than in a "
        f"quiet one ({lesson.quiet_loss:.4f}). {outcome}"
    )


SIGN = Step(
    "Sign",
    "Should rows of low cosine ever give?",
    "Must the rows of high cosine always give? Here twelve rows are **loud**: their outputs are one and a half times "
    "as large as those of twelve **quiet** rows. In each loud row four *outliers*, very large weights, hold a share of "
    "the output; you set the share. TRIM first tries positive rates (rows of high cosine give); only if none beats "
    "uniform it tries negative ones (rows of low cosine give).",
    _outliers,
    _sign,
    "Move from 40% to 80%: near 65% the sign turns. Loud rows have the higher cosine all along. But while their output "
    "is spread over many weights, losing one of these costs the layer more than losing one of a quiet row; once the "
    "outliers hold it, the rest costs next to nothing.",
    Check(
        "A negative rate won in a layer. What does that say?",
        (
            "Most weights of the layer are negative, so rows must be taken from the other end",
            "Rows of low cosine are the ones that cost the layer less when pruned further",
            "The layer cannot be pruned to its target without going below zero in some row",
        ),
        1,
        "A negative η takes from the rows with the lowest cosine. That wins where those rows contribute little to the "
        "layer's output, so that losing more of them costs less than touching the others.",
    ),
)


# ---------------------------------------------------------------------------------------------- budgets


def _width() -> float:
    return st.slider(
        "OWL's λ (lambda): how far apart may layers be?",
        0.0,
        0.2,
        0.08,
        0.01,
        key="owl",
        bind="query-params",
    )


def _budgets(width: float) -> View:
    from app.services.layer import lessons  # imports torch

    lesson = lessons.budgets(width)
    least, most = int(lesson.sparsity.argmin()), int(lesson.sparsity.argmax())
    if width == 0:
        seen = "With λ = 0 every layer has the same target: uniform budgets."
    else:
        seen = (
            f"Block {least} has the most outliers ({lesson.outliers[least]:.1%}) and loses "
            f"{lesson.sparsity[least]:.0%}; block {most} has {lesson.outliers[most]:.1%} and loses "
            f"{lesson.sparsity[most]:.0%}. The mean is {lesson.sparsity.mean():.0%}."
        )
    levels = ", ".join(f"block {block} {value:.0%}" for block, value in enumerate(lesson.sparsity))
    return View(
        budget_figure(lesson, theme()),
        seen,
        BUDGET_FORMULA,
        f"Layer sparsities of six blocks under OWL: {levels}",
        lambda: {
            "block": np.arange(len(lesson.sparsity)),
            "outlier_share": lesson.outliers,
            "layer_sparsity": lesson.sparsity,
        },
    )


BUDGETS = Step(
    "Budgets",
    "Must every layer lose the same?",
    "A model is a stack of blocks, each with a few layers. So far we looked at one layer and its target, the share of "
    "its weights to lose. A **budget** sets the target of each layer; TRIM then shares it out among the layer's rows. "
    "OWL, one way to set budgets, lets blocks with many **outliers** (scores above five times the mean) lose less and "
    "the others more; the model's sparsity stays the same.",
    _width,
    _budgets,
    "Six blocks of one layer each, which differ in outliers, at a model sparsity of 70%. λ = 0 is uniform; a larger λ "
    "drives the layers apart, in the order of their outliers.",
    Check(
        "Budget and TRIM: who decides what?",
        (
            "The budget decides how much each layer loses, TRIM how much each row of it loses",
            "TRIM decides how much each layer loses, the budget how much each row loses",
            "Both decide the same; one of them is enough",
        ),
        0,
        "A budget knows layers, TRIM knows rows. They combine freely: any budget can be shared out by TRIM, evenly "
        "(uniform), or optimally.",
    ),
)
