"""The lessons in their order."""

import functools

from app.ui.learn.matrix_steps import CURVES, GINI, OPTIMUM, SCORES, UNIFORM
from app.ui.learn.model_steps import perplexity, real
from app.ui.learn.search_steps import BUDGETS, ITERATIONS, SIGN, UPDATE
from app.ui.learn.step import Step

_TOY: tuple[Step, ...] = (SCORES, UNIFORM, CURVES, GINI, UPDATE, ITERATIONS, SIGN, BUDGETS, OPTIMUM)


@functools.lru_cache(maxsize=16)
def course(run_id: str | None = None) -> tuple[Step, ...]:
    """Return the lessons; the last ones show the given stored run, or the demo's."""
    return (*_TOY, real(run_id), perplexity(run_id))
