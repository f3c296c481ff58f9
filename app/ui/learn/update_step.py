"""The lesson on one update of TRIM, with its arithmetic."""

import numpy as np
import streamlit as st

from app.ui.common import explanations
from app.ui.common.cards import View, theme
from app.ui.learn.step import Check, Step
from diagnostics.figures.frame import signed
from diagnostics.figures.learning_rate import rate_label
from diagnostics.figures.lesson_search import update_figure

RATES = (-0.16, -0.08, -0.04, -0.02, -0.01, 0.01, 0.02, 0.04, 0.08, 0.12, 0.16)


def _rate() -> float:
    return st.select_slider(
        "Learning rate η (eta)", RATES, 0.08, format_func=rate_label, key="eta", bind="query-params"
    )


def _update(rate: float) -> View:
    from app.services.layer import lessons  # imports torch

    lesson = lessons.one_update(rate)
    giver, getter = int(lesson.change.argmax()), int(lesson.change.argmin())
    moves = ", ".join(
        f"row {row} from {lesson.target:.0%} to {x:.1%}" for row, x in enumerate(lesson.row_sparsity)
    )
    return View(
        update_figure(lesson, theme()),
        f"Row {giver} gives most, row {getter} gets most back. In whole weights: {', '.join(map(str, lesson.counts))} "
        f"pruned instead of 4 each; the layer's cosine goes from {lesson.uniform_quality:.4f} to "
        f"{lesson.layer_quality:.4f}.",
        explanations.ROW_SPARSITY_FORMULA,
        f"Row sparsities before and after one update: {moves}",
        lambda: {
            "row": np.arange(len(lesson.quality)),
            "cosine": lesson.quality,
            "share": lesson.share,
            "change": lesson.change,
            "row_sparsity": lesson.row_sparsity,
            "count": lesson.counts,
        },
    )


def _arithmetic(rate: float) -> None:
    from app.services.layer import lessons  # imports torch

    lesson = lessons.one_update(rate)
    quality, share, mean = lesson.quality, lesson.share, lesson.share.mean()
    row = 2  # neither the best nor the worst, so that no term is 0 or 1
    change, x = lesson.change[row], lesson.row_sparsity[row]
    st.markdown("**The arithmetic of this update**")
    st.markdown(
        f"Row {row}: its cosine {quality[row]:.3f} lies p = ({quality[row]:.3f} − {quality.min():.3f}) / "
        f"({quality.max():.3f} − {quality.min():.3f}) = **{share[row]:.3f}** of the way from the worst row to the "
        f"best; the mean of the four is {mean:.3f}. So it moves by 2η (p − mean) = 2 · ({signed(rate, 'g')}) · "
        f"({share[row]:.3f} − {mean:.3f}) = **{signed(change, '.3f')}**, to x = {lesson.target:.3f} "
        f"{signed(change, '.3f')} = **{x:.3f}**: of eight weights {8 * x:.2f}, in whole ones **{lesson.counts[row]}**."
    )
    terms = {
        "cosine": (quality, ".3f"),
        "p, from worst to best": (share, ".3f"),
        "change": (lesson.change, "+.3f"),
        "x = 0.5 + change": (lesson.row_sparsity, ".3f"),
        "8x, weights to prune": (8 * lesson.row_sparsity, ".2f"),
        "pruned": (lesson.counts, "d"),
    }
    lines = ["| row | " + " | ".join(map(str, range(lessons.ROWS))) + " |", "|---" * (lessons.ROWS + 1) + "|"]
    for term, (values, pattern) in terms.items():
        lines.append(
            f"| {term} | " + " | ".join(format(value, pattern) for value in values).replace("-", "−") + " |"
        )
    st.markdown("\n".join(lines))
    st.caption(
        "8x is rarely whole; taken are the counts nearest to it that add up to 16, half of the 32 weights."
    )


UPDATE = Step(
    "Update",
    "What does TRIM do about it?",
    "TRIM's idea: let the rows suffer alike. It begins with uniform and looks at each row's cosine. Rows above the "
    "average *give*: they lose more weights. Rows below *get* some back. The layer as a whole loses as many as before. "
    "How far rows move is the **learning rate** η; nothing is trained.",
    _rate,
    _update,
    "The changes add up to zero: what one row gives another gets. A larger η moves them further; with a negative η "
    "they move the other way.",
    Check(
        "With η = +0.08, why does row 1 get weights back?",
        (
            "Its Gini is the highest of the four",
            "Its weights are the largest",
            "Its cosine is the lowest of the four",
        ),
        2,
        "Its cosine of 0.806 is the worst, so p = 0, below the mean: its change is negative, and fewer of its weights "
        "are pruned.",
    ),
    _arithmetic,
)
