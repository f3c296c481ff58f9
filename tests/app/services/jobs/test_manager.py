"""Whole-model runs as subprocesses, on a tiny model: started, watched, cancelled, killed, resumed, refused."""

import contextlib
import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

import trim
from app.services.jobs.manager import JobError, RunJobs
from app.services.jobs.records import JobRecord
from app.services.results.perplexities import on_one_text
from app.services.runs.commands import arguments, format_command
from tests import forks
from tests.app import small_runs
from tests.trim import rough
from tests.waiting import wait_until
from trim.cli import make_parser
from trim.cli.options import chosen_fields
from trim.cli.prune import OPTIONS
from trim.runs.options import make_settings
from trim.runs.settings import PruneSettings
from trim.runs.writer import RunWriter

pytestmark = pytest.mark.usefixtures("forked_jobs")
LONG = 24  # blocks: a run that is still going when a test looks


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "short": rough.make_model("llama", folder / "short"),
        "long": rough.make_model("llama", folder / "long", num_hidden_layers=LONG),
    }


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rough.write_text(tmp_path_factory.mktemp("texts") / "text.txt")


@pytest.fixture
def jobs(tmp_path: Path):
    made = RunJobs(lambda: tmp_path / "runs")
    yield made
    if (running := made.running()) is not None:
        made.cancel(running.id)
        wait_until(lambda: made.running() is None)


@pytest.fixture
def command(models, text):
    def make(model: str, **changes: object) -> list[str]:
        given = {"target": 0.6, "corpus": str(text), "windows": 4, "length": 32, "device": "cpu"}
        return arguments(PruneSettings(str(models[model]), **(given | changes)))

    return make


def wait_for(jobs: RunJobs, run_id: str, reached) -> object:
    return wait_until(
        lambda: state if reached(state := jobs.state(run_id)) else None, lambda: jobs.output(run_id)
    )


def ended(state) -> bool:
    return not state.active


def some_blocks(state) -> bool:
    now = None if state.progress is None else state.progress.now
    return now is not None and now.of == LONG and now.fraction > 0.05


def test_a_run_with_its_perplexities(jobs, command, tmp_path):
    run_id = jobs.prune(command("short"), "A <b>name</b>", measure=(3, 32))
    assert jobs.running().title == "A <b>name</b>"
    with pytest.raises(JobError, match="one job at a time"):
        jobs.prune(command("short"), "Another")
    assert wait_for(jobs, run_id, ended).status == "complete", jobs.output(run_id)
    assert jobs.running() is None
    run = trim.open_run(tmp_path / "runs" / run_id)
    assert run.complete
    assert run.name == "A <b>name</b>"
    assert run.compute.threads == max(1, os.cpu_count() - 1)
    (own,), (dense,) = run.metrics["perplexities"], run.metrics["dense_perplexities"]
    assert (own["windows"], own["length"]) == (3, 32)
    assert own["tokens_sha256"] == dense["tokens_sha256"]
    assert own["perplexity"] != dense["perplexity"]
    measured = on_one_text([run])
    assert (measured.runs, measured.dense) == ([(run, own["perplexity"])], dense["perplexity"])
    assert (measured.text, measured.uniform) == ("text.txt, 3 windows of 32 tokens", None)
    assert jobs.state(run_id).message == ""
    assert [entry.opened.id for entry in trim.list_runs(tmp_path / "runs")] == [run_id]


def test_cancelled_and_resumed(jobs, command, tmp_path):
    run_id = jobs.prune(command("long", windows=16, length=64), "long")
    state = wait_for(jobs, run_id, some_blocks)
    assert state.status == "running"
    assert state.memory_bytes > 10e6
    assert state.progress.now.of == LONG
    other_app = RunJobs(lambda: tmp_path / "runs")  # as after a restart
    assert other_app.running().id == run_id
    other_app.cancel(run_id)
    assert other_app.state(run_id).status in ("stopping", "stopped")
    state = wait_for(jobs, run_id, ended)
    assert (state.status, state.message) == ("stopped", "It was cancelled.")
    before = trim.open_run(tmp_path / "runs" / run_id).blocks
    assert 0 < len(before) < LONG
    jobs.cancel(run_id)  # has ended: nothing happens
    jobs.resume(run_id)
    assert wait_for(jobs, run_id, ended).status == "complete", jobs.output(run_id)
    assert len(trim.open_run(tmp_path / "runs" / run_id).blocks) == LONG


def test_killed_from_outside(jobs, command):
    run_id = jobs.prune(command("long", windows=32, length=128), "long")
    wait_for(jobs, run_id, some_blocks)
    psutil.Process(jobs.running().pid).kill()
    state = wait_for(jobs, run_id, ended)
    assert state.status == "stopped"
    assert "from outside" in state.message
    assert state.progress.now.fraction > 0
    assert jobs.running() is None


def test_a_job_that_has_ended_when_it_is_looked_at(jobs, monkeypatch):
    class Ended(forks.Popen):
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options)
            self.wait()

    jobs.run_command("begun", "A job", ["version", "--nonsense"])
    monkeypatch.setattr("app.services.jobs.manager.subprocess.Popen", Ended)
    wait_until(lambda: jobs.running() is None)
    jobs.run_command("job", "A job", ["version", "--nonsense"])
    assert jobs.running() is None
    assert jobs.command_state("job").status == jobs.command_state("begun").status == "failed"
    assert jobs.command_state("job").message == jobs.command_state("begun").message
    assert "invalid choice" in jobs.command_state("job").message


def test_a_job_that_ends_while_it_is_cancelled(jobs, command, monkeypatch):
    run_id = jobs.prune(command("long", windows=32, length=128), "long")

    def ended(process: psutil.Process, **_options: object) -> list:
        process.kill()
        process.wait()
        raise psutil.NoSuchProcess(process.pid)

    with monkeypatch.context() as patch:
        patch.setattr(psutil.Process, "children", ended)
        jobs.cancel(run_id)
    assert jobs.running() is None
    assert jobs.record(run_id).cancelled


def test_cancelling_continues_after_a_process_that_may_not_be_ended(jobs, monkeypatch):
    def refused(process: psutil.Process) -> None:
        raise psutil.AccessDenied(process.pid)

    with subprocess.Popen(["sleep", "60"]) as process:
        started = psutil.Process(process.pid).create_time()
        jobs.save(JobRecord("job", "write", "job", [], process.pid, started))
        with monkeypatch.context() as patch:
            patch.setattr(psutil.Process, "terminate", refused)
            jobs.cancel("job")
        assert jobs.record("job").cancelled
        process.kill()


def test_two_starts_at_once(jobs, command, tmp_path):
    same = [jobs, RunJobs(lambda: tmp_path / "runs"), RunJobs(lambda: tmp_path / "runs")]

    def start(one: RunJobs) -> str | None:
        with contextlib.suppress(JobError):
            return one.prune(command("long"), "long")

    with ThreadPoolExecutor() as pool:
        assert sum(map(bool, pool.map(start, same))) == 1


def test_a_refusal_is_the_librarys_own(jobs, command):
    run_id = jobs.prune(command("short", layers=("*.attention.*",)), "wrong")
    state = wait_for(jobs, run_id, ended)
    assert state.status == "failed"
    assert state.message.startswith("the model has no layer that matches '*.attention.*'")
    assert "Traceback" not in jobs.output(run_id)
    assert jobs.record(run_id).title == "wrong"


def test_a_text_too_short_to_measure_on(jobs, command):
    run_id = jobs.prune(command("short"), "whole", measure=(5000, 64))
    state = wait_for(jobs, run_id, ended)
    assert state.status == "complete"
    assert "windows" in state.message
    assert "Traceback" not in jobs.output(run_id)


def test_a_run_that_a_command_line_is_writing(jobs, tmp_path):
    path = tmp_path / "runs" / "theirs"
    with RunWriter.create(path, small_runs.settings()) as writer:
        writer.log({"event": "Began", "blocks": 3, "layers": 21, "done": 0})
        state = jobs.state("theirs")
        assert (state.status, state.ours) == ("running", False)
        writer.log({"event": "Stopped", "by": "KeyboardInterrupt"})
    assert jobs.state("theirs").status == "stopped"


@pytest.mark.parametrize("bad", ["..", "../x", "/etc", "a/b", ".jobs", "", "a\\b", "x" * 300])
def test_an_id_is_not_a_path(jobs, bad):
    for asked in (jobs.state, jobs.resume):
        with pytest.raises(trim.RunError, match="There is no run"):
            asked(bad)


@pytest.mark.parametrize("pid", [os.getpid(), -1, 2**70], ids=["ours", "negative", "too large"])
def test_a_process_with_the_same_number_is_another(jobs, tmp_path, pid):
    folder = tmp_path / "runs" / ".jobs"
    folder.mkdir(parents=True)
    record = {"id": "x", "kind": "prune", "title": "x", "after": [], "pid": pid}
    (folder / "x.job").write_text(json.dumps(record | {"process_started": 1.0}))
    assert jobs.running() is None
    assert jobs.state("x").status == "failed"


EVERYTHING = [
    {"target": 0.7},
    {"target": 0.65, "allocation": "uniform", "score": "magnitude", "seed": 3, "vectors_per_sequence": 4},
    {"target": 0.7, "budget": "owl", "owl_width": 0.12, "owl_multiple": 7.0, "recalculate_inputs": True},
    {"target": 0.7, "budget": "alphapruning", "alpha_width": 0.1, "alpha_fit": "alpha_mid"},
    {
        "target": 0.7,
        "allocation": "optimal",
        "budget": "optimal",
        "row_weights": "ones",
        "sensitivity_windows": 4,
    },
    {"target": 0.7, "allocation": "variant", "layers": ("0.*", "*.mlp.*"), "batch": 2, "dtype": "bfloat16"},
    {"target": 0.7, "learning_rates": (0.01, 0.5), "negative_learning_rates": (), "iterations": 3},
    {"target": 0.7, "negative_learning_rates": (-0.01, -0.5), "layer_quality": "snr", "row_quality": "mse"},
    {"target": 0.5, "max_row_sparsity": 0.8, "corpus": "c4", "windows": 5, "length": 99, "device": "cpu"},
    {"pattern": "2:4", "allocation": "uniform", "refit": True},
    {"budget": "runs/first/budgets.json"},
]


@pytest.mark.parametrize("settings", EVERYTHING, ids=lambda settings: " ".join(settings))
def test_the_command_means_the_same_settings(settings):
    chosen = PruneSettings("demo", **settings)
    parsed = make_parser().parse_args(["prune", *arguments(chosen), "--out", "x"])
    assert make_settings(PruneSettings, {"model": parsed.model, **chosen_fields(parsed, OPTIONS)}) == chosen


def test_the_command_as_text():
    words = format_command(PruneSettings("my model", 0.7), measure=(16, 512), out="runs/NAME")
    assert words == (
        "python -m trim prune 'my model' --target 0.7 --out runs/NAME\n"
        "python -m trim evaluate runs/NAME --windows 16 --length 512"
    )
