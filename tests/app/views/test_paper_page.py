"""The Paper page through AppTest: every figure, its words against the numbers of the run, and what is missing."""

import json

import numpy as np
import pytest

from app.services.runs.layer import LayerView
from app.services.runs.store import STORE
from app.ui.paper import figure_1, figure_2, figure_3a, figure_3b, figure_3c, figure_4
from tests.app.page import visit
from tests.app.small_runs import make_run

LAYER = "15.mlp.gate_proj"


@pytest.fixture(scope="module")
def run():
    return STORE.open("demo-trim-70")


@pytest.fixture(scope="module")
def layer(run) -> LayerView:
    return LayerView.of(run, STORE.layer(run.id, LAYER))


def test_all_six_figures_from_what_comes_with_the_app():
    test = visit("paper")
    assert [each.value.partition(":")[0] for each in test.subheader] == [
        f"Figure {number}" for number in ("1", "2", "3a", "3b", "3c", "4")
    ]
    charts = test.get("plotly_chart")
    assert len(charts) == 6
    assert all(chart.proto.alt for chart in charts)
    assert all(len(chart.proto.spec) < 500_000 for chart in charts)
    texts = [each.value for each in test.markdown]
    assert sum(text.startswith("**The paper.**") for text in texts) == 6
    assert sum(text.startswith("**Where ours differs.**") for text in texts) == 6


def test_another_layer_by_the_address(layer):
    test = visit("paper", paper_layer="0.self_attn.k_proj")
    texts = [each.value.replace("\\", "") for each in test.caption]
    assert any("0.self_attn.k_proj: the median row" in text for text in texts)


def test_words_are_the_numbers(run, layer):
    drawn, real = (view() for view in figure_1(layer).views.values())
    assert "uniform takes 4, 4, 4, 4 of 8 weights, and TRIM 7, 1, 4, 4" in drawn.finding
    assert f"{layer.own.row_sparsity.min():.1%}" in real.finding
    (gini,) = figure_3a(layer).views.values()
    assert f"{np.median(layer.coefficients):.3f}" in gini().finding
    (cosine,) = figure_3b(layer).views.values()
    at = np.searchsorted(layer.sparsity_grid, 0.9)
    low, high = np.percentile(layer.cosine_curves[:, at], [5, 95])
    text = cosine().finding.rpartition("between")[2]
    assert float(text.split()[0]) == pytest.approx(low, abs=0.03)
    assert float(text.split()[2].rstrip(".")) == pytest.approx(high, abs=0.03)
    (outcome,) = figure_3c([run]).views.values()
    rates = [run.numbers(name)["search"]["learning_rate"] for name in run.layers]
    assert f"of 210 layers {sum((rate or 0) > 0 for rate in rates)} positive" in outcome().finding
    assert f"{rates.count(None)} stayed uniform" in outcome().finding
    ridges = figure_4(run).views["Blocks"]()
    medians = [float(np.median(run.array(f"{block}.self_attn.k_proj", "gini"))) for block in range(30)]
    assert f"between {min(medians):.3f} and {max(medians):.3f}" in ridges.finding
    assert len(ridges.numbers()["block"]) == sum(
        run.numbers(f"{b}.self_attn.k_proj")["rows"] for b in range(30)
    )


def test_figure_2_begins_at_70_percent_and_names_the_change():
    sweeps = [entry.sweep for entry in STORE.sweeps() if entry.shipped]
    view = figure_2(sweeps).views["Curves"]()
    lines = [line for line in json.loads(view.figure.to_json())["data"] if "x" in line]
    assert {line["name"] for line in lines} == {"Wanda", "TRIM", "Optimal", "Optimal, refitted"}
    assert all(line["x"] == [0.7, 0.8] for line in lines)
    ends = {line["name"]: line["y"]["bdata"] for line in lines}
    assert len(set(ends.values())) == 4
    values = {line: view.numbers()["perplexity"][2 * place + 1] for place, line in enumerate(ends)}
    change = values["TRIM"] / values["Wanda"] - 1
    assert change > 0
    assert f"TRIM raises uniform's perplexity by {change:.0%}" in view.finding
    assert figure_2([]) is None


def test_an_empty_store_says_what_to_do(runs):
    test = visit("paper")
    assert not test.get("plotly_chart")
    assert any("no run of TRIM" in each.value for each in test.info)


def test_a_model_without_keys_or_sweeps_shows_the_others(runs):
    make_run(runs / "small", "trim", 0.5, name="a <b>small</b> run")
    test = visit("paper")
    assert len(test.get("plotly_chart")) == 4
    text = " ".join(each.value for each in test.info)
    assert "Figure 2 needs a sweep" in text
    assert "Figure 4 needs layers named k_proj" in text
    assert not any("<b>" in each.value.replace(r"\<b", "") for each in test.caption)
