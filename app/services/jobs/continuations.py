"""One prompt, continued by the dense model and by runs of it, in a subprocess that prints each text when it is done."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import trim
from app.services.jobs.manager import RunJobs
from app.services.jobs.records import job_key
from app.services.server.access import SEMINAR
from trim.evaluation.settings import Sampling
from trim.runs.folder import Run
from trim.runs.recovery import Recovery

MAX_PROMPT_CHARACTERS = 8000


@dataclass(frozen=True)
class Continuations:
    """The continuations of one prompt, as far as they are written.

    Attributes:
        texts: the texts so far, by target: "dense", or the run's id.
        active: whether the job still runs.
        message: why it ended early; "" if it did not.
    """

    texts: dict[str, str]
    active: bool
    message: str


@lru_cache(64)
def has_masks(run: Run) -> bool:
    """Return whether the masks of a run can be applied to its model.

    Raises:
        RunError: a file of it is damaged.
    """
    if not run.complete or not run.layers:
        return False
    try:
        run.array(run.layers[0], "packed_mask")
    except trim.RunError:
        return False
    return True


def check_prompt(prompt: str) -> None:
    """Refuse a prompt that no model can continue, before anything is loaded.

    Raises:
        CorpusError: the prompt is empty, or far too long.
    """
    if not prompt.strip():
        raise trim.CorpusError("The prompt is empty; give a few words to continue.")
    if len(prompt) > MAX_PROMPT_CHARACTERS:
        raise trim.CorpusError(
            f"The prompt has {len(prompt):,} characters; {MAX_PROMPT_CHARACTERS:,} are the most. Shorten it: models "
            "read a few thousand tokens at once, and a sentence is enough to compare them."
        )


def continuation_key(prompt: str, sampling: Sampling, runs: Sequence[Run | Recovery]) -> str:
    """Return the key of a prompt, its sampling and its runs: equal questions have equal keys."""
    question = [prompt, sampling.new_tokens, sampling.temperature, sampling.seed]
    question += [[run.id, run.fingerprint] for run in runs]
    return job_key("continued", question)


def begin_continuations(
    jobs: RunJobs, prompt: str, sampling: Sampling, runs: Sequence[Run | Recovery]
) -> str:
    """Let the dense model and the runs continue the prompt; return the key for `read_continuations`.

    Raises:
        CorpusError: the prompt cannot be continued.
        ModelError: the model of the runs does not exist any more.
        JobError: another job runs, or the disk is full.
    """
    check_prompt(prompt)
    (first, *_) = [run for run in runs if isinstance(run, Run)]
    SEMINAR.require("Continuing a prompt", first.request.model)
    key = continuation_key(prompt, sampling, runs)
    from trim.evaluation.workbench import model_source  # imports torch

    source = model_source(first)
    targets = [source, *(str(run.path.resolve()) for run in runs)]
    options = [
        *("--new-tokens", str(sampling.new_tokens)),
        *("--temperature", str(sampling.temperature)),
        *("--seed", str(sampling.seed)),
    ]
    command = ["generate", "--json", f"--prompt={prompt}", *options, "--", *targets]
    jobs.run_command(key, "a prompt", command)
    return key


def read_continuations(jobs: RunJobs, key: str, runs: Sequence[Run | Recovery]) -> Continuations:
    """Return the continuations that the job of this key has printed so far."""
    names = {str(run.path.resolve()): run.id for run in runs}
    texts = {
        names.get(each["target"], "dense"): str(each["continuation"])
        for each in jobs.printed(key)
        if {"target", "continuation"} <= each.keys()
    }
    state = jobs.command_state(key)
    return Continuations(texts, state.active, state.message)
