"""The Model page and the page of a stored layer, on runs so small that a test may make its own."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import trim
from app.services.jobs.manager import JobError, RunJobs
from app.services.results.tables import agreement_map
from diagnostics.format import number
from tests.app.page import charts, linked, numbers, page_text, run_page, steps, trace, visit
from tests.app.small_runs import BLOCKS, PATHS, make_recovery, make_run, record, refitted, settings
from trim.runs.diagnosis_files import agreement_to_json, signal_to_json, update_layer_diagnoses
from trim.runs.writer import RunWriter, update_diagnoses

EVIL_LABEL = "&lt;b&gt;bold&lt;/b&gt; *x* &#36;y&#36; [a](b)"
EVIL = "<b>bold</b> *x* $y$ [a](b)"
MAPS = ["map_gain", "map_outcome", "map_gini", "map_variance"]
ENTRY = {"corpus": "demo", "windows": 2, "length": 16, "tokens_sha256": "0", "perplexity": 12.5}


@pytest.fixture
def runs(runs: Path) -> Path:
    """A folder of runs: TRIM, optimal, one that was stopped; nothing came with the app."""
    make_run(runs / "trim", name=EVIL, metrics={"perplexities": [ENTRY]})
    make_run(runs / "optimal", "optimal", metrics={"perplexities": [ENTRY | {"perplexity": "inf"}]})
    make_run(runs / "half", blocks=1)
    return runs


def opened_form() -> AppTest:
    """Return the Model page with its form open: an expander, which AppTest cannot press."""
    test = visit("model")
    test.session_state["new_run"] = True
    return run_page(test)


def test_a_run_at_first_sight(runs):
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


def test_the_newest_incomplete_run_is_shown_first(runs):
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


def test_diagnoses_of_a_run(runs):
    diagnosed(runs / "trim")
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
    broken = trim.open_run(runs / "trim").diagnoses["layers"] | {"dense_loss": "nan"}
    update_diagnoses(runs / "trim", {"layers": broken})
    test.segmented_control(key="model_part").set_value("Layer costs")
    assert any("No layer has a finite cost" in each.value for each in run_page(test).info)


def test_a_box_of_layers_is_asked_for_its_costs(runs):
    test = visit("model", run="trim")
    test.session_state["clicked_layers"] = names = ["0.mlp.gate_proj", "1.mlp.gate_proj"]
    run_page(test).button(key="cost_of_box").click()
    assert run_page(test).multiselect(key="cost_layers").value == names


def test_what_was_not_measured_or_cannot_be(runs):
    make_run(runs / "bare", mask=False)
    test = visit("model", run="bare", model_part="Tokens")
    assert any("needs the run's masks" in each.value for each in test.info)
    (runs / "optimal" / "diagnoses.json").write_text("{")
    test = visit("model", run="optimal", model_part="Layer costs")
    assert "diagnoses.json is damaged" in test.error[0].value.replace("\\", "")
    test.button(key="measure_layers").click().run()
    assert "has changed since" in test.error[1].value


@pytest.mark.parametrize("asked", ["gone", "../x", "<b>x</b>", "a" * 500])
def test_a_run_that_is_not_there(runs, asked):
    test = visit("model", run=asked)
    assert len(test.warning) == 1
    assert charts(test)


def test_a_run_that_is_deleted_while_it_is_shown(runs):
    test = visit("model", run="trim")
    shutil.rmtree(runs / "trim")
    test.run()
    assert not test.exception
    assert "may have been deleted" in test.warning[0].value
    assert test.query_params["run"] == "half"
    test = visit("stored", run="optimal", layer="0.mlp.gate_proj")
    shutil.rmtree(runs / "optimal")
    test.run()
    assert not test.exception
    assert test.title[0].value == "This layer cannot be shown"


def test_a_damaged_run(runs):
    (runs / "trim" / "blocks" / "001.safetensors").write_bytes(b"")
    assert any("is damaged" in each.value for each in visit("model", run="trim").error)
    (runs / "trim" / "config.json").write_text("{}")
    assert any("schema" in each.value for each in visit("model", run="trim").error)


def test_no_run_at_all(runs, monkeypatch):
    monkeypatch.setenv("TRIM_RUNS", str(runs / "empty"))
    test = visit("model")
    assert any("There is no run yet" in each.value for each in test.info)
    assert any(button.label == "Start" for button in test.button)


def test_a_prompt(runs):
    test = visit("model", run="trim", model_part="Text")
    test.text_area(key="prompt").set_value("x" * 100_000)
    test.button(key="continue_prompt").click().run()
    assert "100,000 characters" in test.error[0].value
    test.text_area(key="prompt").set_value("Hello")
    test.button(key="continue_prompt").click().run()  # its model has changed since, as far as the run knows
    assert "has changed since" in test.error[0].value
    for gone in ("trim", "optimal"):
        shutil.rmtree(runs / gone)
    assert any("no masks" in each.value for each in visit("model", run="half", model_part="Text").info)


def test_the_form_says_the_command_and_refuses_what_makes_no_sense(runs):
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


def test_the_form_filled_in_as_published(runs):
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


def test_the_form_with_the_settings_of_another_run(runs):
    test = visit("model", **{"from": "optimal"})
    assert "--target 0.5 --allocation optimal --budget optimal" in test.code[0].value
    assert "--windows 2 --length 16" in test.code[0].value
    assert any("There is no run" in each.value for each in visit("model", **{"from": "gone"}).warning)


def test_changed_weights_and_the_rows_that_are_spared(runs):
    """A map of what they leave; beside other runs, whether the same rows are spared."""
    with RunWriter.create(runs / "solved", settings("solved")) as writer:
        writer.write_block(0, [refitted(record("0.mlp.gate_proj", allocation="optimal"))])
    test = visit("model", run="solved")
    drawn = charts(test)
    assert numbers(trace(drawn["map_change"], "error_left")["z"])[0, 0] == 0.875
    test.segmented_control(key="model_part").set_value("Perplexity")
    drawn = charts(run_page(test))
    assert numbers(trace(drawn["row_agreement_1. optimal"], "row_agreement")["z"])[0, 0] == pytest.approx(1)
    shown, other = (trim.open_run(runs / name) for name in ("solved", "optimal"))
    (facts,) = agreement_map(shown, other).layers
    assert (facts.row_agreement, facts.weights_moved) == (pytest.approx(1), pytest.approx(0.25))


def test_a_refitted_layer_says_so(runs):
    with RunWriter.create(runs / "refitted", settings()) as writer:
        writer.write_block(0, [refitted(record("0.mlp.gate_proj"))])
    assert "refitted, which leaves 87.5% of the output error" in page_text(visit("stored", run="refitted"))
    assert "refitted" not in page_text(visit("stored", run="trim", layer="0.mlp.gate_proj"))


def test_starting(runs, monkeypatch):
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


def test_a_run_that_was_recovered(runs, monkeypatch):
    run = trim.open_run(runs / "trim")
    make_recovery(runs / "trained", run)
    make_recovery(runs / "stopped", run, complete=False, name="On its way")
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


def test_a_stored_layer(runs):
    test = visit("stored", run="trim", layer="1.mlp.gate_proj")
    assert test.title[0].value == r"1\.mlp\.gate\_proj"
    made = record("1.mlp.gate_proj")
    content, _ = linked(test)
    values = {label: value for label, value, *_ in content["numbers"]}
    assert values["TRIM"] == number(made.realised_quality, 5)
    assert values["Pruned"] == "50.00%"
    panels = {panel["name"]: panel for panel in content["panels"]}
    assert list(panels) == ["gini", "cosine", "row_sparsity", "rate"]
    assert steps(panels["gini"], "score").sum() == made.rows
    assert not test.error
    test.text_input(key="rows").set_value("3, 5").run()
    assert linked(test)[0]["selected"] == [3, 5]
    test.segmented_control(key="part").set_value("Rows").run()
    assert not test.exception
    assert len(test.dataframe[0].value) == 2
    test.sidebar.selectbox(key="stored_layer").set_value("0.self_attn.q_proj").run()
    assert test.query_params["layer"] == "0.self_attn.q_proj"
    assert test.title[0].value == r"0\.self\_attn\.q\_proj"


def test_further_views_of_a_stored_layer(runs):
    test = visit("stored", run="trim", layer="1.self_attn.q_proj", part="More", more="Heads")
    views = ["All targets", "Agreement", "Signal", "Input features", "Heads", "Channels"]
    assert test.segmented_control(key="more").options == views
    record = trim.open_run(runs / "trim").layer("1.self_attn.q_proj")
    (heads,) = charts(test)["heads_Sparsity"]["data"]
    medians = np.median(record.row_sparsity.reshape(3, 4), axis=1)
    np.testing.assert_allclose(numbers(heads["y"]), medians, rtol=1e-6)
    assert heads["text"] == ["head 0", "head 1", "head 2"]
    test.segmented_control(key="more").set_value("Input features").run()
    assert "is not stored with a run" in page_text(test)
    kept = numbers(charts(test)["inputs_Sorted"]["data"][0]["y"])
    np.testing.assert_allclose(kept, np.sort(record.keep().mean(axis=0))[::-1], rtol=1e-6)
    test.segmented_control(key="more").set_value("Channels").run()
    assert "not one of an MLP" in page_text(test)
    test = visit("stored", run="trim", layer="1.mlp.gate_proj", part="More", more="Channels")
    assert "Not all layers of this MLP are in this run." in page_text(test)


def test_an_expert_beside_the_others_of_its_block(runs):
    names = [f"0.mlp.experts.{expert}.up_proj" for expert in range(4)]
    with RunWriter.create(runs / "experts", settings(), kind="layer", name="experts") as writer:
        writer.write_block(0, [record(name) for name in [*names, "0.mlp.gate_proj"]])
        writer.finish({})
    test = visit("stored", run="experts", layer=names[2], part="More", more="Experts")
    assert test.segmented_control(key="more").options[0] == "Experts"
    (drawn,) = charts(test)["experts_Sparsity"]["data"]
    run = trim.open_run(runs / "experts")
    medians = [np.median(run.layer(name).row_sparsity) for name in names]
    np.testing.assert_allclose(numbers(drawn["y"]), medians, rtol=1e-6)
    assert drawn["text"] == ["0", "1", "2", "3"]
    assert "All 4 experts have the same mean" in page_text(test)
    test.sidebar.selectbox(key="stored_layer").set_value("0.mlp.gate_proj").run()
    assert not test.exception
    assert "Experts" not in test.segmented_control(key="more").options


def test_what_was_measured_of_a_stored_layer(runs):
    name, columns = "1.mlp.gate_proj", 40
    made = record(name)
    draws = trim.RowSignal(
        np.stack([made.row_sparsity] * 2), np.stack([made.gini] * 2), (0.01, 0.01), ("1", "2")
    )
    agreement = trim.mask_agreement(made.keep(), ~made.keep())
    update_layer_diagnoses(
        runs / "trim",
        name,
        {
            "signal": signal_to_json(draws, columns, "vectors", vectors=9),
            "agreement": [agreement_to_json(agreement, "magnitude", "layer")],
            "targets": [{"method": "trim", "targets": [0.5, 0.6], "counts": [made.counts.tolist()] * 2}],
        },
    )
    test = visit("stored", run="trim", layer=name, part="More", more="Signal")
    mean = numbers(trace(charts(test)["signal_Row sparsity"], "mean over draws")["y"])
    np.testing.assert_allclose(mean, np.sort(made.row_sparsity), rtol=1e-6)
    assert "input vectors; 9 vectors in each of 2 draws" in page_text(test)
    test.button(key="measure_signal").click().run()
    assert "has changed since" in test.error[0].value
    test.segmented_control(key="more").set_value("Agreement").run()
    assert "Closest is layer by magnitude" in page_text(test)
    assert "masks_agree_By row" in charts(test)
    test.segmented_control(key="more").set_value("All targets").run()
    assert "all_targets_Ridges" in charts(test)
    test = visit("stored", run="trim", layer="0.mlp.gate_proj", part="More", more="Signal")
    assert test.button(key="measure_signal").label == "Measure"
    assert not test.error


def test_a_stored_layer_that_trim_did_not_prune(runs):
    test = visit("stored", run="optimal", layer="0.mlp.gate_proj")
    content, _ = linked(test)
    assert content["panels"][3]["note"] == "No learning rate was searched here."
    assert [label for label, *_ in content["numbers"]] == ["Quality: Uniform", "Optimal", "Pruned"]


def test_a_kept_layer(runs):
    with RunWriter.create(runs / "kept", settings(), kind="layer", name="kept") as writer:
        writer.write_block(1, [record("1.mlp.gate_proj")])
        writer.finish({})
    test = visit("stored", run="kept")
    assert test.title[0].value == r"1\.mlp\.gate\_proj"
    assert not test.error
    assert "kept" not in visit("model").selectbox(key="run_shown").options


@pytest.mark.parametrize(
    "address",
    [
        {"run": "gone"},
        {"run": "trim", "layer": "9.x"},
        {"run": "../trim"},
        {"run": "half", "layer": "1.mlp.gate_proj"},
    ],
)
def test_a_stored_layer_that_is_not_there(runs, address):
    test = visit("stored", **address)
    assert test.title[0].value == "This layer cannot be shown"
    assert len(test.error) == 1
    assert "Which layer" in visit("stored").title[0].value
