"""Accuracy on zero-shot tasks, by the Language Model Evaluation Harness (EleutherAI), which is an optional extra."""

import contextlib
import importlib.util
import io
import logging
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trim.errors import SettingsError
from trim.models.loaded import Model
from trim.names import closest_matches

# The seven tasks of Wanda (arXiv 2306.11695, section 4) and TRIM, by the harness's names.
TASKS = ("boolq", "rte", "hellaswag", "winogrande", "arc_easy", "arc_challenge", "openbookqa")
EXTRA = "trim-lab[zero-shot]"
# The standard error of an accuracy needs no bootstrap draws, but with 0 draws the harness reports none at all.
BOOTSTRAP = 1000


@dataclass(frozen=True)
class TaskResult:
    """The result of a model on one task.

    Attributes:
        task: the harness's name.
        accuracy: the share of right answers; NaN if the task does not measure it.
        standard_error: the accuracy's over n examples, √(accuracy · (1 − accuracy) / (n − 1)); NaN for one example.
        examples: number of examples.
        metrics: all numbers of the task, by the harness's names.
    """

    task: str
    accuracy: float
    standard_error: float
    examples: int
    metrics: dict[str, float]

    def to_json(self) -> dict:
        """Return an entry of "zero_shot" in `metrics.json`; a number that is missing is null."""

        def finite(value: float) -> float | None:
            return value if math.isfinite(value) else None

        return {
            "task": self.task,
            "accuracy": finite(self.accuracy),
            "standard_error": finite(self.standard_error),
            "examples": self.examples,
            "metrics": {name: finite(value) for name, value in self.metrics.items()},
        }


def require_tasks(
    tasks: Sequence[str], limit: int | None = None, batch: int = 1, folder: str | Path | None = None
) -> None:
    """Require the harness, and arguments that `zero_shot` can use, before a model is loaded.

    Raises:
        SettingsError: as `zero_shot`, except for tasks that do not exist.
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise SettingsError(
            f"zero-shot tasks need the package lm-eval; install it: python -m pip install '{EXTRA}'"
        )
    if not tasks:
        raise SettingsError(f"name at least one task, such as {', '.join(TASKS)}")
    if (limit is not None and limit < 1) or batch < 1:
        raise SettingsError("measure at least one example, in batches of at least one")
    if folder is not None and not Path(folder).is_dir():
        raise SettingsError(f"there is no folder {folder}; give one with task files (YAML)")


def zero_shot(
    model: Model,
    tasks: Sequence[str] = TASKS,
    *,
    limit: int | None = None,
    batch: int = 1,
    folder: str | Path | None = None,
) -> list[TaskResult]:
    """Measure a model on zero-shot tasks.

    Args:
        model: dense or pruned, in memory.
        tasks: the harness's names.
        limit: maximal number of examples of each task; None: all.
        batch: requests in one forward pass.
        folder: a folder with your own task files (YAML), which may name local data.

    Returns:
        One result per task, in the order of `tasks`.

    Raises:
        SettingsError: the harness is not installed, a task does not exist (closest names listed), or its data are
            missing.
    """
    require_tasks(tasks, limit, batch, folder)
    with _quiet():
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager

        manager = TaskManager(include_path=None if folder is None else str(folder))
        for task in tasks:
            if task not in manager.all_tasks:
                raise SettingsError(
                    f"there is no task {task!r}; closest names: {closest_matches(task, manager.all_tasks)}"
                )
        harness = HFLM(
            pretrained=model.module,
            tokenizer=model.tokenizer,
            batch_size=batch,
            backend="causal",
            prefix_token_id=_first_token(model),
        )
        try:
            answer = simple_evaluate(
                model=harness,
                tasks=list(tasks),
                num_fewshot=0,
                limit=limit,
                task_manager=manager,
                bootstrap_iters=BOOTSTRAP,
                log_samples=False,
            )
        except (OSError, ConnectionError) as error:
            raise SettingsError(
                f"the data of {', '.join(tasks)} cannot be loaded ({error}); connect to the network once, or give "
                "tasks with local data (--task-folder)"
            ) from error
    return [_result(task, answer) for task in tasks]


def _first_token(model: Model) -> int | None:
    """Return the token that stands for an empty context; None: the harness takes the tokenizer's BOS or EOS token."""
    tokenizer, config = model.tokenizer, model.module.config.get_text_config()
    if tokenizer.bos_token_id is not None or tokenizer.eos_token_id is not None:
        return None
    return next((token for token in (config.bos_token_id, config.eos_token_id) if isinstance(token, int)), 0)


def _result(task: str, answer: dict) -> TaskResult:
    """Read the result of one task, or of a group of tasks, from the harness's answer."""
    scores = answer["results"].get(task) or answer.get("groups", {}).get(task) or {}
    # "acc,none": the metric and the filter of answers.
    metrics = {
        name.partition(",")[0]: float(value)
        for name, value in scores.items()
        if "," in name and isinstance(value, int | float)
    }
    counts = answer.get("n-samples", {})
    members = answer.get("group_subtasks", {}).get(task) or [task]
    return TaskResult(
        task,
        metrics.get("acc", math.nan),
        metrics.get("acc_stderr", math.nan),
        sum(counts.get(member, {}).get("effective", 0) for member in members),
        metrics,
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the harness's logs, progress bars and prints, and draw its bootstrap samples in this process."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    before = {name: os.environ.get(name) for name in ("TQDM_DISABLE", "DISABLE_MULTIPROC")}
    logger.setLevel(logging.ERROR)
    os.environ |= dict.fromkeys(before, "1")
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")  # of the harness's many dependencies
            yield
    finally:
        logger.setLevel(level)
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
