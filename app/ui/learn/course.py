"""The lessons in their order."""

from app.ui.learn.matrix_steps import GINI, OPTIMUM, SCORES, UNIFORM
from app.ui.learn.real_step import REAL
from app.ui.learn.search_steps import BUDGETS, ITERATIONS, SIGN
from app.ui.learn.step import Step
from app.ui.learn.update_step import UPDATE

STEPS: tuple[Step, ...] = (SCORES, UNIFORM, GINI, UPDATE, ITERATIONS, SIGN, BUDGETS, OPTIMUM, REAL)
