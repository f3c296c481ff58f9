"""The page of a stored layer: its charts, its further views, and a layer that is not there."""

import numpy as np
import pytest

import trim
from diagnostics.format import number
from tests.app.page import charts, linked, numbers, page_text, steps, trace, visit
from tests.app.small_runs import record, refitted, settings
from trim.runs.diagnosis_files import agreement_to_json, signal_to_json, update_layer_diagnoses
from trim.runs.writer import RunWriter


def test_a_refitted_layer_says_so(three_runs):
    with RunWriter.create(three_runs / "refitted", settings()) as writer:
        writer.write_block(0, [refitted(record("0.mlp.gate_proj"))])
    assert "refitted, which leaves 87.5% of the output error" in page_text(visit("stored", run="refitted"))
    assert "refitted" not in page_text(visit("stored", run="trim", layer="0.mlp.gate_proj"))


def test_a_stored_layer(three_runs):
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


def test_further_views_of_a_stored_layer(three_runs):
    test = visit("stored", run="trim", layer="1.self_attn.q_proj", part="More", more="Heads")
    views = ["All targets", "Agreement", "Signal", "Input features", "Heads", "Channels"]
    assert test.segmented_control(key="more").options == views
    record = trim.open_run(three_runs / "trim").layer("1.self_attn.q_proj")
    (heads,) = charts(test)["heads_Sparsity"]["data"]
    medians = np.median(record.row_sparsity.reshape(3, 4), axis=1)
    np.testing.assert_allclose(numbers(heads["y"]), medians, rtol=1e-6)
    assert heads["text"] == ["head 0", "head 1", "head 2"]
    assert "Median of each head" in page_text(test), "what the marks are"
    test.segmented_control(key="more").set_value("Input features").run()
    assert "is not stored with a run" in page_text(test)
    kept = numbers(charts(test)["inputs_Sorted"]["data"][0]["y"])
    np.testing.assert_allclose(kept, np.sort(record.keep().mean(axis=0))[::-1], rtol=1e-6)
    test.segmented_control(key="more").set_value("Channels").run()
    assert "not one of an MLP" in page_text(test)
    test = visit("stored", run="trim", layer="1.mlp.gate_proj", part="More", more="Channels")
    assert "Not all layers of this MLP are in this run." in page_text(test)


def test_an_expert_beside_the_others_of_its_block(three_runs):
    names = [f"0.mlp.experts.{expert}.up_proj" for expert in range(4)]
    with RunWriter.create(three_runs / "experts", settings(), kind="layer", name="experts") as writer:
        writer.write_block(0, [record(name) for name in [*names, "0.mlp.gate_proj"]])
        writer.finish({})
    test = visit("stored", run="experts", layer=names[2], part="More", more="Experts")
    assert test.segmented_control(key="more").options[0] == "Experts"
    (drawn,) = charts(test)["experts_Sparsity"]["data"]
    run = trim.open_run(three_runs / "experts")
    medians = [np.median(run.layer(name).row_sparsity) for name in names]
    np.testing.assert_allclose(numbers(drawn["y"]), medians, rtol=1e-6)
    assert drawn["text"] == ["0", "1", "2", "3"]
    assert "All 4 experts have the same mean" in page_text(test)
    test.sidebar.selectbox(key="stored_layer").set_value("0.mlp.gate_proj").run()
    assert not test.exception
    assert "Experts" not in test.segmented_control(key="more").options


def test_what_was_measured_of_a_stored_layer(three_runs):
    name, columns = "1.mlp.gate_proj", 40
    made = record(name)
    draws = trim.RowSignal(
        np.stack([made.row_sparsity] * 2), np.stack([made.gini] * 2), (0.01, 0.01), ("1", "2")
    )
    agreement = trim.mask_agreement(made.keep(), ~made.keep())
    update_layer_diagnoses(
        three_runs / "trim",
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


def test_a_stored_layer_that_trim_did_not_prune(three_runs):
    test = visit("stored", run="optimal", layer="0.mlp.gate_proj")
    content, _ = linked(test)
    assert content["panels"][3]["note"] == "No learning rate was searched here."
    assert [label for label, *_ in content["numbers"]] == ["Quality: Uniform", "Optimal", "Pruned"]


def test_a_kept_layer(three_runs):
    with RunWriter.create(three_runs / "kept", settings(), kind="layer", name="kept") as writer:
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
def test_a_stored_layer_that_is_not_there(three_runs, address):
    test = visit("stored", **address)
    assert test.title[0].value == "This layer cannot be shown"
    assert len(test.error) == 1
    assert "Which layer" in visit("stored").title[0].value
