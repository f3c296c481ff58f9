"""The layer that came with the app: shown first, replaced by the live one, and the way from it to others."""

from pathlib import Path

import numpy as np
import pytest

import trim
from app.services.layer.array_layer import ArrayLayer
from app.services.layer.shipped import shipped_layer
from app.services.layer.study import Study
from app.ui.common.waiting import laboratory
from tests.app.demo_layer import FOUR_CHARTS
from tests.app.page import LayerPage, trace
from tests.app.services.layer.test_array_layer import assert_same_layer, assert_same_outcome


def captions(page: LayerPage) -> str:
    return " ".join(each.value for each in page.test.caption)


def test_the_live_layer_takes_the_place_of_the_shipped_one():
    shipped = shipped_layer().study("magnitude")
    laboratory().forget(shipped.key)  # another test may have opened it
    page = LayerPage(target="64", rows="3, 17", shown="Both", score="magnitude")
    metrics, charts = page.metrics, page.charts
    assert "came with the app" in captions(page)
    for _ in range(3):  # what the page's timer does: torch, the model, the layer
        laboratory().next_step(shipped.key)[1].result()
    page.run()
    assert "Live: computed on cpu" in captions(page)
    assert page.metrics.keys() == metrics.keys()
    assert page.charts.keys() == charts.keys()
    assert page.test.slider(key="target").value == 64
    assert page.test.text_input(key="rows").value == "3, 17"
    live = laboratory().finished_study(shipped.key)
    assert (live.origin.model, live.origin.text) == (shipped.origin.model, shipped.origin.text)
    if live.origin.compute != shipped.origin.compute:
        return  # a GPU computes in another type
    weight, inputs = (values.numpy() for values in (live.layer.curves.weight, live.layer.curves.inputs))
    np.testing.assert_array_equal(weight, shipped_layer().weight)
    np.testing.assert_allclose(inputs, shipped_layer().inputs, rtol=1e-3, atol=1e-4)
    # Another processor rounds what it captures otherwise; of the same inputs every number is the same.
    same = Study(
        shipped.key, ArrayLayer(weight, inputs, live.layer.score, live.layer.input_norm), shipped.origin
    )
    assert_same_layer(same, live)
    for target in (0.3, 0.64, 0.7, 0.9):
        settings = trim.SearchSettings(target)
        assert_same_outcome(same.outcome(settings), live.outcome(settings))
        for method, quality in live.outcome(settings).view.qualities.items():
            assert shipped.outcome(settings).view.qualities[method] == pytest.approx(quality, rel=1e-3)


def test_without_the_shipped_layer_the_page_waits_and_says_so(monkeypatch):
    monkeypatch.setattr("app.services.layer.shipped.FILE", Path("nowhere.safetensors"))
    shipped_layer.cache_clear()
    page = LayerPage()
    shipped_layer.cache_clear()
    assert page.test.title[0].value == r"29\.self\_attn\.v\_proj"
    assert list(page.charts) == FOUR_CHARTS
    assert "Live" in captions(page)
    assert "nowhere" in captions(page).replace("\\", "")
    assert "cannot be read" in captions(page)


def test_from_the_best_layer_to_one_where_nothing_happens():
    page = LayerPage()
    most, least = shipped_layer().gains.most, shipped_layer().gains.least
    why = page.linked[0]["why"]
    assert (why["label"], why["facts"][0][0]) == ("Why it helps", f"TRIM gains {most.gain:+.4f}")
    facts = dict(why["facts"])
    assert "0.609 to 0.996" in facts["Rows differ"]
    assert (
        f"rows of higher cosine harder (rank correlation of cosine and pruned weights {most.agreement:+.2f})"
        in (facts["The optimum leans the same way"])
    )
    assert facts["Best of its model"] == "At 70%, no other of 210 layers gains as much."
    assert why["ways"] == [
        ["layer", least.layer, f"No gain: {least.layer}"],
        ["opened", "layers", "All layers"],
    ]
    page.test.session_state["go_to_layer"] = least.layer  # as the button does
    page.run()
    assert page.test.title[0].value.replace("\\", "") == least.layer
    assert page.metrics["η"] == "none"
    why = page.linked[0]["why"]
    assert why["label"] == "Why no gain"
    assert "no learning rate does better" in why["facts"][0][1]
    assert why["facts"][2][0] == "The cosine is a poor guide"
    assert [way[1] for way in why["ways"]] == [most.layer, "layers"]
    page.set("slider", "target", 40)
    page.set("segmented_control", "score", "magnitude")
    assert [way[1] for way in page.linked[0]["why"]["ways"]] == ["layers"], (
        "gains were measured by the other score"
    )


def test_the_map_shows_the_model_and_a_click_opens_a_layer_of_it():
    page = LayerPage(part="All layers")
    assert list(page.charts) == ["layer_map"]
    assert len(trace(page.charts["layer_map"], "layers")["customdata"]) == 210
    page.test.session_state["go_to_layer"] = shipped_layer().gains.most.layer  # as `go_to_layer` does
    page.test.session_state["part"] = "Overview"
    page.run()
    assert list(page.charts) == FOUR_CHARTS
