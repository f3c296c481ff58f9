"""A run is recovered through its page: started, watched, cancelled, resumed, looked at, and its model asked."""

import psutil
import pytest

import trim
from app.services.jobs.manager import JOBS, RunJobs
from tests.app.page import charts, numbers, page_text, run_page, visit
from tests.trim import rough
from tests.waiting import wait_until


@pytest.mark.usefixtures("forked_jobs")
def test_a_run_is_recovered_through_its_page(tmp_path, monkeypatch):
    runs = tmp_path / "runs"
    monkeypatch.setenv("TRIM_RUNS", str(runs))
    text = str(rough.write_text(tmp_path / "text.txt"))
    model = rough.make_model("llama", tmp_path / "model")
    run = rough.wanda(model, runs / "first", target=0.6, corpus=text)
    trim.evaluate(run.path, [trim.EvaluationText(text, windows=2, length=16)])
    launch = RunJobs._launch

    def with_steps(self, job_id, kind, title, commands, after):
        command = list(commands[0])
        if "--minutes" in command:
            place = command.index("--minutes")
            command[place : place + 2] = ["--steps", "60", "--windows", "16", "--device", "cpu"]
        launch(self, job_id, kind, title, [command], after)

    monkeypatch.setattr(RunJobs, "_launch", with_steps)
    test = visit("model", run="first", model_part="Recover")
    test.button(key="recover").click()
    run_page(test)
    started = test.session_state["recovering"]
    wait_until(lambda: (runs / started / "metrics.json").exists())
    process = psutil.Process(JOBS.running().pid)
    process.suspend()  # so that it is not done before it is cancelled
    try:
        run_page(test)
        assert "of memory" in page_text(test)
        assert any(key.startswith("recovery_curve") for key in charts(test))
        test.button(key="cancel_recovery").click()
        run_page(test)
    finally:
        process.resume()
    wait_until(lambda: not JOBS.state(started).active)
    run_page(test)
    assert r"This recovery stopped.** It was cancelled\." in page_text(test)
    test.button(key="resume_recovery").click()
    run_page(test)
    wait_until(lambda: not JOBS.state(started).active)
    run_page(test)
    recovery = trim.open_recovery(runs / started)
    assert recovery.has_model, JOBS.output(started)
    drawn = charts(test)
    (curve,) = [chart for key, chart in drawn.items() if key.startswith("recovery_curve")]
    losses = [look["perplexity"] for look in recovery.metrics["curve"]]
    assert numbers(curve["data"][0]["y"]) == pytest.approx(losses)
    assert any(key.startswith("recovery_moved") for key in drawn)
    assert [entry["windows"] for entry in recovery.metrics["perplexities"]] == [2], "on the run's own text"
    test.segmented_control(key="model_part").set_value("Text")
    run_page(test)
    test.text_area(key="prompt").set_value("A line")
    test.number_input(key="new_tokens").set_value(3)
    test.button(key="continue_prompt").click()
    run_page(test)
    wait_until(lambda: JOBS.running() is None)
    run_page(test)
    for title in ("Dense", run.name, recovery.name):
        assert f"**{title}**" in page_text(test)
    assert not test.error
