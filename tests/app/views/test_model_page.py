"""The Model page with stored runs: its maps, diagnoses, prompts and recoveries, and runs that are gone or damaged."""

import shutil
from pathlib import Path

import pytest

import trim
from app.services.jobs.manager import JobError, RunJobs
from app.services.results.tables import agreement_map
from tests.app.page import charts, numbers, page_text, run_page, trace, visit
from tests.app.small_runs import BLOCKS, EVIL, PATHS, make_recovery, make_run, record, refitted, settings
from trim.runs.writer import RunWriter, update_diagnoses

EVIL_LABEL = "&lt;b&gt;bold&lt;/b&gt; *x* &#36;y&#36; [a](b)"
MAPS = ["map_gain", "map_outcome", "map_gini", "map_variance"]


def test_a_run_at_first_sight(three_runs):
    test = visit("model", run="trim")
    drawn = charts(test)
    assert [key for key in drawn if key in MAPS] == MAPS
    layers = [
        name
        for mark in drawn["map_outcome"]["data"]
        if mark.get("name") == "layers"
        for name in mark["customdata"]
    ]
    assert sorted(layers) == sorted(f"{block}.{path}" for block in range(BLOCKS) for path in PATHS)
    assert numbers(trace(drawn["map_gini"], "median_gini")["z"]).shape == (len(PATHS), BLOCKS)
    assert "50.00%" in page_text(test)
    assert not test.error
    assert not test.warning
    assert sum(len(chart.proto.spec) for chart in test.get("plotly_chart")) < 3_000_000
    test.segmented_control(key="model_part").set_value("Perplexity")
    drawn = charts(run_page(test))
    labels = [bar["name"] for key in drawn if key.startswith("perplexity") for bar in drawn[key]["data"]]
    assert any("&lt;b&gt;bold" in label for label in labels)


def test_the_newest_incomplete_run_is_shown_first(three_runs):
    test = visit("model")
    assert test.selectbox(key="run_shown").value == "half"
    assert test.query_params["run"] == "half"
    assert any("This run stopped" in each.value for each in test.markdown)
    assert [button.label for button in test.button if button.label == "Resume"]
    assert trace(charts(test)["map_gain"], "not done yet")
    test.selectbox(key="run_shown").set_value("optimal").run()
    assert test.query_params["run"] == "optimal"
    assert any("not made by TRIM" in each.value for each in test.caption)
    assert trace(charts(test)["map_outcome"], "layer_sparsity")


def diagnosed(path: Path) -> None:
    """Give a tiny run diagnoses; its text holds what HTML and Markdown would read."""
    text = {"corpus": "demo", "windows": 1, "length": 4, "tokens_sha256": "0", "dtype": "float32"}
    names = [f"{block}.{path}" for block in range(BLOCKS) for path in PATHS]
    costs = {
        name: {"loss": 3 + place / 8, "standard_error": "nan" if place else 0.01, "predicted": place / 9}
        for place, name in enumerate(names)
    }
    values = {"error": 0.25, "low": 0.125, "high": 0.5, "cosine": 0.9, "carried": 0.125, "added": 0.25}
    blocks = [{"block": block, **values, "layers": {names[2 * block]: 0.125}} for block in range(BLOCKS)]
    losses = {"dense": [[1.0, 2.0, 3.0]], "pruned": [[4.0, 1.5, 3.0]]}
    update_diagnoses(
        path,
        {
            "layers": {"text": text, "dense_loss": 3.0, "layers": costs},
            "blocks": {"text": text, "blocks": blocks},
            "tokens": {"text": text, "pieces": [["a", EVIL, "<i>", "\n"]], **losses},
        },
    )


def test_diagnoses_of_a_run(three_runs):
    diagnosed(three_runs / "trim")
    test = visit("model", run="trim", model_part="Layer costs")
    assert trace(charts(test)["map_cost"], "loss_added")["z"]
    assert any("1\\.mlp\\.gate\\_proj costs most" in each.value for each in test.caption)
    test.segmented_control(key="model_part").set_value("Errors by block").run()
    assert len(trace(charts(test)["block_errors_Error"], EVIL_LABEL)["y"]) == BLOCKS
    test.segmented_control(key="model_part").set_value("Tokens").run()
    assert "tokens_Losses" in charts(test)
    (body,) = [each.proto.body for each in test.get("html") if "nats" in each.proto.body]
    assert 'title="+3 nats: 1 dense, 4 pruned">&lt;b&gt;bold&lt;/b&gt;' in body
    assert not test.error
    assert test.button(key="measure_tokens").label == "Measure"
    stored = visit("stored", run="trim", layer="1.mlp.gate_proj")
    assert any("Pruned alone it costs \\+0\\.375 nats per token" in each.value for each in stored.caption)
    broken = trim.open_run(three_runs / "trim").diagnoses["layers"] | {"dense_loss": "nan"}
    update_diagnoses(three_runs / "trim", {"layers": broken})
    test.segmented_control(key="model_part").set_value("Layer costs")
    assert any("No layer has a finite cost" in each.value for each in run_page(test).info)


def test_a_box_of_layers_is_asked_for_its_costs(three_runs):
    test = visit("model", run="trim")
    test.session_state["clicked_layers"] = names = ["0.mlp.gate_proj", "1.mlp.gate_proj"]
    run_page(test).button(key="cost_of_box").click()
    assert run_page(test).multiselect(key="cost_layers").value == names


def test_what_was_not_measured_or_cannot_be(three_runs):
    make_run(three_runs / "bare", mask=False)
    test = visit("model", run="bare", model_part="Tokens")
    assert any("needs the run's masks" in each.value for each in test.info)
    test.segmented_control(key="model_part").set_value("Recover")
    assert any("needs the run's masks" in each.value for each in run_page(test).info)
    (three_runs / "optimal" / "diagnoses.json").write_text("{")
    test = visit("model", run="optimal", model_part="Layer costs")
    assert "diagnoses.json is damaged" in test.error[0].value.replace("\\", "")
    test.button(key="measure_layers").click().run()
    assert "has changed since" in test.error[1].value


@pytest.mark.parametrize("asked", ["gone", "../x", "<b>x</b>", "a" * 500])
def test_a_run_that_is_not_there(three_runs, asked):
    test = visit("model", run=asked)
    assert len(test.warning) == 1
    assert charts(test)


def test_a_run_that_is_deleted_while_it_is_shown(three_runs):
    test = visit("model", run="trim")
    shutil.rmtree(three_runs / "trim")
    test.run()
    assert not test.exception
    assert "may have been deleted" in test.warning[0].value
    assert test.query_params["run"] == "half"
    test = visit("stored", run="optimal", layer="0.mlp.gate_proj")
    shutil.rmtree(three_runs / "optimal")
    test.run()
    assert not test.exception
    assert test.title[0].value == "This layer cannot be shown"


def test_a_damaged_run(three_runs):
    (three_runs / "trim" / "blocks" / "001.safetensors").write_bytes(b"")
    assert any("is damaged" in each.value for each in visit("model", run="trim").error)
    (three_runs / "trim" / "config.json").write_text('{"schema": 9}')
    (damaged,) = visit("model", run="trim").error
    assert "schema" in damaged.value


def test_no_run_at_all(three_runs, monkeypatch):
    monkeypatch.setenv("TRIM_RUNS", str(three_runs / "empty"))
    test = visit("model")
    assert any("There is no run yet" in each.value for each in test.info)
    assert any(button.label == "Start" for button in test.button)


def test_a_prompt(three_runs):
    test = visit("model", run="trim", model_part="Text")
    test.text_area(key="prompt").set_value("x" * 100_000)
    test.button(key="continue_prompt").click().run()
    assert "100,000 characters" in test.error[0].value
    test.text_area(key="prompt").set_value("Hello")
    test.button(key="continue_prompt").click().run()  # its model has changed since, as far as the run knows
    assert "has changed since" in test.error[0].value
    for gone in ("trim", "optimal"):
        shutil.rmtree(three_runs / gone)
    assert any("no masks" in each.value for each in visit("model", run="half", model_part="Text").info)


def test_changed_weights_and_the_rows_that_are_spared(three_runs):
    """A map of what they leave; beside other runs, whether the same rows are spared."""
    with RunWriter.create(three_runs / "solved", settings("solved")) as writer:
        writer.write_block(0, [refitted(record("0.mlp.gate_proj", allocation="optimal"))])
    test = visit("model", run="solved")
    drawn = charts(test)
    assert numbers(trace(drawn["map_change"], "error_left")["z"])[0, 0] == 0.875
    test.segmented_control(key="model_part").set_value("Perplexity")
    drawn = charts(run_page(test))
    assert numbers(trace(drawn["row_agreement_1. optimal"], "row_agreement")["z"])[0, 0] == pytest.approx(1)
    shown, other = (trim.open_run(three_runs / name) for name in ("solved", "optimal"))
    (facts,) = agreement_map(shown, other).layers
    assert (facts.row_agreement, facts.weights_moved) == (pytest.approx(1), pytest.approx(0.25))


def test_a_run_that_was_recovered(three_runs, monkeypatch):
    run = trim.open_run(three_runs / "trim")
    make_recovery(three_runs / "trained", run)
    make_recovery(three_runs / "stopped", run, complete=False, name="On its way")
    started = []

    class Jobs(RunJobs):
        def recover(self, *arguments):
            started.append(arguments)
            raise JobError("“<b>x</b>” is being computed, and one job at a time is.")

    monkeypatch.setattr("app.ui.model.recover.JOBS", Jobs())
    drawn = charts(visit("model", run="trim", model_part="Perplexity"))
    labels = [bar["name"] for key in drawn if key.startswith("perplexity") for bar in drawn[key]["data"]]
    assert "Trained &lt;b&gt;again&lt;/b&gt;" in labels
    test = visit("model", run="trim", model_part="Recover")
    assert test.selectbox(key="recovery_of_trim").options == ["On its way", "Trained <b>again</b>"]
    test.selectbox(key="recovery_of_trim").set_value("trained")
    drawn = charts(run_page(test))
    (curve,) = [chart for key, chart in drawn.items() if key.startswith("recovery_curve")]
    (moved,) = [chart for key, chart in drawn.items() if key.startswith("recovery_moved")]
    assert numbers(curve["data"][0]["y"]).tolist() == [40, 20, pytest.approx(40 / 3), 10]
    assert numbers(moved["data"][0]["z"]).shape == (len(PATHS), BLOCKS)
    assert "Held-out perplexity 40 before, 10 after 30 steps in 18 s." in page_text(test).replace("\\", "")
    test.button(key="recover").click().run()
    ((asked, minutes, measure),) = started
    assert (asked.id, minutes, measure) == (
        "trim",
        5.0,
        ["--corpus", "demo", "--windows", "2", "--length", "16"],
    )
    assert r"\<b\>x" in test.error[0].value
    test.selectbox(key="recovery_of_trim").set_value("stopped")
    run_page(test)
    assert "This recovery stopped" in page_text(test)
    assert "resume_recovery" in [each.key for each in test.button]
