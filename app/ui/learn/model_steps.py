"""The last lessons: a layer of a real model, and perplexity, from stored runs. No model is loaded."""

from collections.abc import Callable, Hashable
from functools import partial
from typing import TypeVar

import numpy as np

from app.services.results import lessons
from app.services.runs.store import STORE
from app.services.server.lru import SharedCache
from app.ui.common import explanations
from app.ui.learn.step import Check, Control, Picture, Step
from diagnostics.figures.frame import signed
from diagnostics.figures.lesson_model import perplexity_drawing, rows_drawing
from diagnostics.format import number, percent
from diagnostics.lessons import PerplexityLesson, RowsLesson
from trim.names import path_in_block
from trim.runs.folder import Run

T = TypeVar("T")

DEFAULT_BLOCK = 15
PICTURE_CACHE_SIZE = 8
_pictures: SharedCache[Hashable, Picture | None] = SharedCache(PICTURE_CACHE_SIZE)

PERPLEXITY_FORMULA = r"""
$$
\exp\Big(-\frac{1}{T}\sum_{t=1}^{T} \ln p(x_t \mid x_{<t})\Big)
$$

$p(x_t \mid x_{<t})$ is what the model gave the token that follows. A model that were certain each time would have 1.
"""


def _chosen(
    run_id: str | None, read: Callable[[Run], list[T]], fits: Callable[[Run], bool], lacks: str
) -> tuple[list[T], str, str]:
    """Return a step's data from the chosen run or, if that lacks it, the demo's; with its source and the reason."""
    missing = ""
    if run_id is not None:
        try:
            run = STORE.open(run_id)
            if fits(run):
                return read(run), run.name, ""
            missing = f"The run {run.name} {lacks} Shown instead: the demo's."
        except Exception:  # a damaged run must not stop the lecture; its error may name paths
            missing = f"There is no run {run_id[:60]} that can be read: see the page Runs. Shown instead: the demo's."
    demo = lessons.demo_run(fits)
    return ([], "", missing) if demo is None else (read(demo), demo.name, missing)


def _shared(make: Callable[[str | None], Picture | None], run_id: str | None) -> Picture | None:
    """Return the picture of a run, made once for all readers until a stored run changes."""
    return _pictures.get((make, run_id, tuple(STORE.runs())), lambda: make(run_id))


def _rows(run_id: str | None) -> Picture | None:
    found, name, missing = _chosen(
        run_id, lessons.run_rows, lessons.has_rows, "was not made by TRIM's search, which this step shows."
    )
    if not found:
        return None
    blocks = [lesson.layer.partition(".")[0] for lesson in found]
    start = blocks.index(str(DEFAULT_BLOCK)) if str(DEFAULT_BLOCK) in blocks else len(blocks) // 2
    control = Control(
        "real_block", f"Block of the model (its layer {path_in_block(found[0].layer)})", tuple(blocks),
        tuple(f"block {block}" for block in blocks), start, rate=4,
    )  # fmt: skip
    return Picture(
        rows_drawing(found),
        control if len(found) > 1 else None,
        [_rows_finding(lesson) for lesson in found],
        f"One point for each row of a layer of {name}: its sparsity against its Gini",
        lambda: {
            "block": np.repeat([int(block) for block in blocks], [len(lesson.gini) for lesson in found]),
            "gini": np.concatenate([lesson.gini for lesson in found]),
            "row_sparsity": np.concatenate([lesson.row_sparsity for lesson in found]),
        },
        missing,
    )


def _rows_finding(lesson: RowsLesson) -> str:
    name = f"{lesson.layer}: {lesson.rows:,} rows of {lesson.columns:,} weights, {percent(lesson.sparsity, 0)} pruned."
    if lesson.rate is None:
        return f"{name} No learning rate beat uniform here, so TRIM left every row at the target."
    sign = "rows of high cosine give" if lesson.rate > 0 else "rows of low cosine give"
    return (
        f"{name} TRIM chose η = {signed(lesson.rate, 'g')} ({sign}). It raised the layer's quality by "
        f"{number(lesson.gain)}, number {lesson.rank} of the {lesson.layers} layers of this kind."
    )


def _perplexity(run_id: str | None) -> Picture | None:
    found, whose, missing = lessons.demo_perplexities(), "the demo model", ""
    if run_id is not None:
        own, name, missing = _chosen(
            run_id,
            lessons.run_perplexity,
            lessons.has_perplexity,
            "has no perplexity: python -m trim evaluate measures it.",
        )
        if not missing or not found:
            found, whose = own, name
    if not found:
        return None
    control = Control(
        "model_sparsity", "Model sparsity", tuple(f"{lesson.sparsity:g}" for lesson in found),
        tuple(f"{lesson.sparsity:.0%}" for lesson in found), min(2, len(found) - 1), rate=1,
    )  # fmt: skip
    return Picture(
        perplexity_drawing(found),
        control if len(found) > 1 else None,
        [_perplexity_finding(lesson) for lesson in found],
        f"Bars: perplexities of {whose}, dense and pruned in several ways",
        lambda: (
            {"model_sparsity": np.array([lesson.sparsity for lesson in found])}
            | {
                label: np.array([lesson.methods[index][2] for lesson in found])
                for index, (label, _, _) in enumerate(found[0].methods)
            }
        ),
        missing,
    )


def _perplexity_finding(lesson: PerplexityLesson) -> str:
    values = ", ".join(f"{label} {number(value)}" for label, _, value in lesson.methods)
    return f"Perplexity at {percent(lesson.sparsity, 0)} model sparsity: {values}."


def real(run_id: str | None) -> Step:
    """Return the lesson on the layers of a run; None: the demo's."""
    return Step(
        "Real",
        "And in a real layer?",
        "A layer of a real model, pruned by TRIM: one point per row. *Spearman's rank correlation* says whether "
        "row sparsity rises with Gini: +1 always, 0 no relation, −1 it falls.",
        "One point per row of a real layer. Spearman says whether sparsity rises with Gini: +1 always, 0 no relation.",
        "Block 0 against one in the middle: slope, sign, gain. The layer that gains most is not the usual one.",
        "Block 0 of the demo gains most of its kind, by 0.0042 of cosine, with a negative rate; block 15 is an "
        "ordinary one: 0.0003, number 10 of 30. Say so: a lecture likes to show the layer that gains most, and so "
        "does the first page of this app. Then the Layer page, where the same charts move with the target.",
        Check(
            "The points of a layer rise from left to right: Spearman +0.9. What does that say?",
            (
                "Concentrated rows lost more weights than even ones",
                "The layer lost 90% of its weights",
                "TRIM is better than uniform by 0.9",
            ),
            0,
            "It compares orders only: the higher a row's Gini, the more it gave. How much the layer gains is "
            "another number.",
        ),
        explanations.ROW_SPARSITY_FORMULA,
        partial(_shared, _rows, run_id),
        "There is no run of TRIM on a whole model yet. Make one on the page Model, or with `python -m trim prune "
        "demo --target 0.7 --out runs/first`.",
    )


def perplexity(run_id: str | None) -> Step:
    """Return the lesson on perplexity; None: the demo's sweep."""
    return Step(
        "Perplexity",
        "Does the model notice?",
        "**Perplexity**: among how many equally likely tokens the model seems to choose; lower is better. On "
        "models this small TRIM is about like Wanda (uniform); the paper's gains are at 7B parameters and more, which "
        "survive 70 and 80%. *Optimal* chooses layers' budgets too; *refitted*: kept weights are computed anew.",
        "Perplexity: among how many tokens the model seems to choose. Small models: TRIM is about like Wanda. The "
        "paper's gains: 7B and more.",
        "TRIM and Wanda: now one is ahead, now the other.",
        "Dense 27.5 means: as if it chose among 27 or 28 tokens each time. At 70% Wanda has 602 and TRIM 544: both "
        "are far from dense. The paper reports 48% lower perplexity for Qwen2.5-14B and over 90% for OPT-13B at "
        "80%. Models of such size keep their sense at sparsities that break a small one, and from about 6.7B on "
        "their features have strong outliers (Dettmers et al. 2022), so rows differ more. That this is the reason "
        "has not been shown here.",
        Check(
            "A small model at 70%: dense 27.5, Wanda 602, TRIM 544. What follows?",
            (
                "TRIM makes small models usable at 70%",
                "Both are far from dense; it says little about large models",
                "Perplexity cannot compare methods",
            ),
            1,
            "Both choose among twenty times as many tokens as the dense model. At 7B and more models survive such "
            "sparsities, and differences between methods count.",
        ),
        PERPLEXITY_FORMULA,
        partial(_shared, _perplexity, run_id),
        "No perplexities of a sweep are stored. `python -m trim evaluate runs/first` measures a run's.",
    )
