"""The numbers of a whole model, and the figures that show them."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from diagnostics.figures.model_map import LAYERS_TRACE, model_map_figure
from diagnostics.figures.outcome_gini import outcome_gini_figure
from diagnostics.figures.perplexity import PerplexityBar, perplexity_figure
from diagnostics.figures.theme import METHOD_STYLES, PALETTES
from diagnostics.figures.tokens_gini import tokens_gini_figure
from diagnostics.model_map import MapQuantity, ModelMap, family_of, layer_facts, outcome_lanes
from tests.diagnostics.figure_cases import sparsities_of, subtitle, traces, visible_texts

QUANTITIES = (
    "median_gini",
    "layer_sparsity",
    "quality_gain",
    "outcome",
    "row_variance_uniform",
    "row_variance",
    "row_variance_change",
)
KINDS = ("self_attn.q_proj", "mlp.down_proj")
EVIL = "<b onclick=x>A&B</b> %{x} $a$"


def facts(name, rate=0.01, searched=True, seed=0):
    rng = np.random.default_rng(seed + sum(name.encode()))
    before, after = rng.uniform(0.5, 1, 30), rng.uniform(0.8, 1, 30)
    return layer_facts(
        name,
        gini=np.append(rng.uniform(0.3, 0.7, 29), np.nan),
        layer_sparsity=0.7,
        qualities=(0.9, 0.9 + rng.normal(0, 0.01)),
        cosines=(before, after),
        dead_rows=np.arange(30) == 3,
        learning_rate=rate,
        searched=searched,
    )


def model_map(blocks=4, done=3, label="run", rates=(0.01, -0.02, None), searched=True):
    planned = tuple(f"{block}.{kind}" for block in range(blocks) for kind in KINDS)
    made = planned[: done * len(KINDS)]
    layers = tuple(facts(name, rates[i % len(rates)], searched) for i, name in enumerate(made))
    return ModelMap(label, planned, layers, "cosim_flat")


def test_facts_of_a_layer():
    cosine = np.array([0.0, 0.5, 0.7, 0.9])
    made = layer_facts(
        "3.mlp.up_proj",
        gini=np.array([0.2, np.nan, 0.4, 0.9]),
        layer_sparsity=0.5,
        qualities=(0.8, 0.9),
        cosines=(cosine, cosine / 2),
        dead_rows=np.array([True, False, False, False]),
        learning_rate=-0.01,
        searched=True,
    )
    assert (made.block, made.kind, made.outcome) == (3, "mlp.up_proj", "negative")
    assert made.median_gini == 0.4
    assert made.quality_gain == pytest.approx(0.1)
    assert made.row_variance_uniform == pytest.approx(np.var([0.5, 0.7, 0.9]))
    assert made.row_variance_change == pytest.approx(np.log10(0.25))


def test_degenerate_layers():
    made = layer_facts(
        "0.a",
        gini=np.full(2, np.nan),
        layer_sparsity=0.0,
        qualities=(np.inf, np.inf),
        cosines=(np.ones(2), np.ones(2)),
        dead_rows=np.ones(2, bool),
        learning_rate=None,
        searched=False,
    )
    assert made.outcome is None
    assert all(np.isnan(value) for value in (made.median_gini, made.quality_gain, made.row_variance_change))
    for quantity in QUANTITIES:
        for shown in (ModelMap("x", ("0.a",), (made,), "snr"), ModelMap("x", (), (), "snr")):
            assert model_map_figure(shown, quantity).to_json()


def test_the_grid_is_types_by_blocks_with_holes():
    shown = model_map(blocks=4, done=3)
    grid = shown.grid("outcome")
    assert grid.shape == (2, 4)
    assert np.isnan(grid[:, 3]).all()
    assert grid[0, :3].tolist() == [1, 0, -1]  # rates in turn over blocks and types
    assert shown.missing == ("3.self_attn.q_proj", "3.mlp.down_proj")
    assert shown.outcome_counts() == {"positive": 2, "negative": 2, "none": 2}
    assert {len(column) for column in shown.columns().values()} == {6}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("quantity", QUANTITIES)
def test_maps(quantity, theme):
    figure = model_map_figure(model_map(), quantity, theme)
    assert figure.layout.title.text.endswith("?</b>")
    assert len(figure.layout.title.text) <= 7 + 48
    assert figure.layout.xaxis.title.text
    assert figure.layout.yaxis.title.text
    assert "2 of 8 layers not done yet" in subtitle(figure)
    named = [name for trace in traces(figure, LAYERS_TRACE) for name in trace.customdata]
    assert sorted(named) == sorted(model_map().by_name)
    assert len(traces(figure, "not done yet")[0].x) == 2
    (cells,) = (trace for trace in figure.data if trace.type == "heatmap")
    assert cells.hoverinfo == "skip"
    if quantity in ("quality_gain", "row_variance_change"):
        assert cells.zmin == -cells.zmax
    assert sparsities_of(figure) <= {"row", "layer"}


def test_outcomes_have_colours_and_marks():
    figure = model_map_figure(model_map(), "outcome")
    marks = traces(figure, LAYERS_TRACE)
    assert len({mark.marker.symbol for mark in marks}) == 3
    legend = [trace for trace in figure.data if trace.showlegend is not False and trace.type == "scatter"]
    assert len({entry.marker.color for entry in legend}) == 3


def test_a_run_without_a_search_has_no_outcomes():
    shown = model_map(searched=False)
    assert not shown.searched
    assert np.isnan(shown.grid("outcome")).all()
    assert not any(lane.gini.size for lane in outcome_lanes([shown]))


def test_outcomes_against_the_gini_of_two_runs():
    lanes = outcome_lanes([model_map(label="one"), model_map(label=EVIL)])
    assert [lane.outcome for lane in lanes] == ["negative", "none", "positive"] * 2
    figure = outcome_gini_figure(lanes)
    points = [trace for trace in figure.data if trace.mode == "markers"]
    assert sum(len(trace.x) for trace in points) == 12
    assert {trace.marker.symbol for trace in points} >= {"triangle-up", "triangle-up-open"}
    (line,) = traces(figure, "median, positive, one")
    assert line.x[0] == pytest.approx(lanes[2].median)
    assert not any("onclick=x>" in text for text in visible_texts(figure))
    assert outcome_gini_figure(outcome_lanes([])).to_json()
    names = ["Demo model, TRIM at 70%", "Demo model, TRIM at 80%"]
    figure = outcome_gini_figure(outcome_lanes([model_map(label=name) for name in names]))
    assert len(set(figure.layout.yaxis.ticktext)) == 6, "labels tell the runs apart"


def test_perplexity_bars():
    bars = [
        PerplexityBar("dense", "dense", 27.0),
        PerplexityBar("Wanda", "uniform", 563.0),
        PerplexityBar(EVIL, "trim", 598.0),
        PerplexityBar("balanced", "optimal", 140.0),
    ]
    figure = perplexity_figure(bars, "demo, 16 windows of 512 tokens")
    assert [bar.base + bar.x[0] for bar in figure.data] == [27.0, 563.0, 598.0, 140.0]
    assert [bar.marker.color for bar in figure.data] == [
        PALETTES["light"].muted,
        *(METHOD_STYLES[method].colour for method in ("uniform", "trim", "optimal")),
    ]
    assert len({bar.marker.pattern.shape for bar in figure.data[1:]}) == 3
    assert figure.layout.xaxis.type == "log"
    assert figure.layout.xaxis.ticktext == ("1", "10", "100")
    broken = perplexity_figure([*bars, PerplexityBar("broken", "trim", 12_325.0)], "x")
    assert broken.layout.xaxis.ticktext == ("1", "100", "10,000")
    assert "demo, 16 windows" in subtitle(figure)
    assert perplexity_figure(bars[1:3], "x").layout.xaxis.type is None
    assert not any("onclick=x>" in text for text in visible_texts(figure))


def test_experts_have_maps_of_their_own():
    names = ["0.self_attn.q_proj"] + [f"0.mlp.experts.{place}.up_proj" for place in range(128)]
    layers = tuple(
        replace(facts(name), tokens=np.nan if place == 0 else 10.0 * place)
        for place, name in enumerate(names)
    )
    whole = ModelMap("run", tuple(names), layers, "cosim_flat")
    assert whole.families == ("mlp.experts.*.up_proj",)
    assert whole.part("").planned == ("0.self_attn.q_proj",)
    shown = whole.part("mlp.experts.*.up_proj")
    figure = model_map_figure(shown, "tokens")
    assert shown.grid("tokens")[:, 0].tolist() == [10.0 * place for place in range(1, 129)]
    assert figure.layout.yaxis.title.text == "expert"
    assert figure.layout.yaxis.ticktext[:3] == ("0", "3", "6")
    assert figure.layout.height < 900
    (marks,) = traces(tokens_gini_figure(shown), LAYERS_TRACE)
    assert marks["customdata"][3] == "0.mlp.experts.3.up_proj"
    assert family_of("mlp.input_linear.3") == "mlp.input_linear.*"  # whose router sorts tokens by expert
    assert marks["x"][3] == 40


@pytest.mark.parametrize("quantity", get_args(MapQuantity))
def test_the_bar_of_colours_has_a_name(quantity):
    assert model_map_figure(model_map(), quantity).data[0].colorbar.title.text
