"""A prompt continued in a subprocess by a tiny model and a run of it."""

import time
from collections.abc import Callable

import pytest

import trim
from app.services.jobs.continuations import (
    MAX_PROMPT_CHARACTERS,
    begin_continuations,
    check_prompt,
    continuation_key,
    has_masks,
    read_continuations,
)
from app.services.jobs.diagnoses import begin_diagnosis, diagnosis_key, diagnosis_state
from app.services.jobs.manager import JobError, RunJobs
from tests.app.small_runs import make_run
from tests.trim import rough
from tests.waiting import wait_until
from trim.evaluation.settings import Sampling
from trim.runs.diagnosis_files import read_layer_diagnoses

# Options with which a diagnosis takes long.
LONG = {
    **{
        what: ["--windows", "128", "--length", "128", "--batch", "1"]
        for what in ("layers", "blocks", "tokens")
    },
    "signal": ["--draws", "10000"],
    "agreement": [],
    "targets": [],
}

pytestmark = pytest.mark.usefixtures("forked_jobs")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> trim.Run:
    folder = tmp_path_factory.mktemp("continued")
    model = rough.make_model("llama", folder / "model")
    return rough.wanda(model, folder / "runs" / "first", length=32)


def ended(state: Callable[[], object]) -> object:
    """Wait until a job has ended, and return its state."""
    return wait_until(lambda: None if (now := state()).active else now)


def test_the_dense_model_and_a_run_continue_a_prompt(run):
    jobs, prompt, sampling = RunJobs(lambda: run.path.parent), "-x <b>y</b>\n{", Sampling(new_tokens=8)
    key = begin_continuations(jobs, prompt, sampling, [run])
    assert key == continuation_key(prompt, sampling, [run]) != continuation_key("other", sampling, [run])
    with pytest.raises(JobError, match="a prompt"):
        begin_continuations(jobs, "other", sampling, [run])
    writing = ended(lambda: read_continuations(jobs, key, [run]))
    assert writing.message == "", jobs.output(key)
    model = trim.load_model(run.request.model, device="cpu")
    assert writing.texts["dense"] == trim.continue_prompt(model, prompt, sampling)
    assert set(writing.texts) == {"dense", "first"}
    # A prompt that leaves no room is refused in the library's own words.
    key = begin_continuations(jobs, "x" * 130, sampling, [run])
    writing = ended(lambda: read_continuations(jobs, key, [run]))
    assert "exceeds the 128 tokens" in writing.message
    assert "Traceback" not in writing.message


@pytest.mark.parametrize(("prompt", "why"), [(" \n", "empty"), ("x" * 100_000, "100,000 characters")])
def test_prompts_that_are_refused(prompt, why):
    with pytest.raises(trim.CorpusError, match=why):
        check_prompt(prompt)
    check_prompt("x" * MAX_PROMPT_CHARACTERS)


def test_which_runs_can_write(run, tmp_path):
    assert has_masks(run)
    assert not has_masks(trim.open_run(make_run(tmp_path / "bare", mask=False)))
    assert not has_masks(trim.open_run(make_run(tmp_path / "half", blocks=1)))


def test_a_diagnosis_is_made_by_a_job_and_kept_with_the_run(run):
    jobs = RunJobs(lambda: run.path.parent)
    key = diagnosis_key(run, "blocks")
    assert diagnosis_state(jobs, key) is None
    assert begin_diagnosis(jobs, run, "blocks", ["--windows", "1", "--length", "8"]) == key
    job = ended(lambda: diagnosis_state(jobs, key))
    assert (job.message, job.progress.now.what) == ("", "Every block is measured")
    assert len(trim.open_run(run.path).diagnoses["blocks"]["blocks"]) == len(run.blocks)
    begin_diagnosis(jobs, run, "tokens", ["--windows", "1", "--length", "100000"])
    job = ended(lambda: diagnosis_state(jobs, diagnosis_key(run, "tokens")))
    assert "reads at most" in job.message


@pytest.mark.parametrize("what", LONG)
def test_a_cancelled_diagnosis_ends_at_once_and_loses_nothing(run, what):
    jobs = RunJobs(lambda: run.path.parent)
    key = begin_diagnosis(jobs, run, what, LONG[what])
    wait_until(lambda: (job := diagnosis_state(jobs, key)) and job.progress and job.progress.now.done >= 1)
    if what == "layers":
        wait_until(lambda: "layers" in trim.open_run(run.path).diagnoses)
    before = trim.open_run(run.path).diagnoses
    jobs.cancel(key)
    begun = time.monotonic()
    job = ended(lambda: diagnosis_state(jobs, key))
    assert time.monotonic() - begun < 10  # a second, on a machine with nothing else to do
    assert job.message == "It was stopped before it was done."
    if what == "layers":
        kept = trim.open_run(run.path).diagnoses["layers"]["layers"]
        assert kept.items() >= before["layers"]["layers"].items()
        assert len(kept) < len(run.layers)


def test_a_layer_is_measured_by_a_job(run):
    jobs, name = RunJobs(lambda: run.path.parent), run.layers[0]
    key = begin_diagnosis(jobs, run, "targets", layer=name)
    job = ended(lambda: diagnosis_state(jobs, key))
    assert (job.message, set(read_layer_diagnoses(run, name))) == ("", {"targets"})
