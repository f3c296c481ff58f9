"""The form of a new run: the command that it says, what it refuses, what it is filled in with, and its start."""

from streamlit.testing.v1 import AppTest

from app.services.jobs.manager import JobError
from tests.app.page import run_page, visit


def opened_form() -> AppTest:
    """Return the Model page with its form open: an expander, which AppTest cannot press."""
    test = visit("model")
    test.session_state["new_run"] = True
    return run_page(test)


def test_the_form_says_the_command_and_refuses_what_makes_no_sense(three_runs):
    test = opened_form()
    assert test.code[0].value.splitlines() == [
        "python -m trim prune demo --target 0.7 --windows 16 --length 256 --out runs/NAME",
        "python -m trim evaluate runs/NAME --windows 16 --length 512",
    ]
    test.selectbox(key="new_budget").set_value("owl").run()
    test.number_input(key="new_owl_width").set_value(0.12).run()
    test.checkbox(key="new_measured").uncheck().run()
    assert test.code[0].value == (
        "python -m trim prune demo --target 0.7 --budget owl --owl-width 0.12 --windows 16 --length 256 --out runs/NAME"
    )
    test.checkbox(key="new_refit").check().run()
    assert " --owl-width 0.12 --refit --windows" in test.code[0].value
    test.checkbox(key="new_refit").uncheck().run()
    test.text_input(key="new_pattern").set_value("2:4").run()
    assert "the same sparsity for every row" in test.error[0].value
    assert not test.code
    test.text_input(key="new_pattern").set_value("").run()
    test.number_input(key="new_target").set_value(97.0).run()
    assert "row cap" in test.error[0].value
    test.text_input(key="new_learning_rates").set_value("much").run()
    assert "not a number" in test.error[0].value


def test_the_form_filled_in_as_published(three_runs):
    test = opened_form()
    test.number_input(key="new_target").set_value(60.0).run()
    test.button(key="new_as_published").click().run()
    assert test.code[0].value.splitlines()[0] == (
        "python -m trim prune demo --target 0.6 --recalculation vectors --corpus c4 --windows 256 --length 2048 "
        "--no-bos --vectors 1 --input-vectors last --max-row-sparsity 0.95 --dtype float16 --out runs/NAME"
    )
    test.selectbox(key="new_budget").set_value("owl").run()
    test.button(key="new_as_published").click().run()
    assert test.selectbox(key="new_budget").value == "uniform"


def test_the_form_with_the_settings_of_another_run(three_runs):
    test = visit("model", **{"from": "optimal"})
    assert "--target 0.5 --allocation optimal --budget optimal" in test.code[0].value
    assert "--windows 2 --length 16" in test.code[0].value
    assert any("There is no run" in each.value for each in visit("model", **{"from": "gone"}).warning)


def test_a_model_that_is_not_found_cannot_be_started(three_runs, tmp_path):
    test = visit("model")
    test.session_state["new_run"] = True
    test.session_state["new_model"] = str(tmp_path / "gone")
    run_page(test)
    assert "there is no model" in test.error[0].value
    assert test.button(key="new_start").disabled


def test_starting(three_runs, monkeypatch):
    started = []

    class Jobs:
        def prune(self, *arguments):
            started.append(arguments)
            if len(started) > 1:
                raise JobError("“<b>x</b>” is being computed, and one job at a time is.")
            return "trim"

    test = opened_form()
    monkeypatch.setattr("app.ui.model.new_run.JOBS", Jobs())
    test.button(key="new_start").click().run()
    command = ["demo", "--target", "0.7", "--windows", "16", "--length", "256"]
    assert started == [(command, "demo trim 70%", (16, 512))]
    assert test.selectbox(key="run_shown").value == "trim"
    assert "new_start" not in [each.key for each in test.button], (
        "the form folds: what was started is seen next"
    )
    test.session_state["new_run"] = True
    test.run()
    test.button(key="new_start").click().run()
    assert r"\<b\>x" in test.error[0].value
