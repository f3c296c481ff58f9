"""The Compare page through AppTest: what it compares, what it says of it, and what it refuses."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

import trim
from app.services.layer.shipped import shipped_layer
from app.services.results import compared as service
from app.services.results import picks as picking
from app.services.results.compared import LIVE_LAYERS
from app.services.results.picks import Pick
from app.services.results.recovered import recovered_points
from app.services.results.sweep_curves import curves, texts, tokens_of
from app.services.runs.layer import LayerView
from app.services.runs.store import STORE, RunStore
from app.ui.compare import cards as compare_views
from diagnostics.figures.theme import SLOT_COLOURS
from tests.app.page import cards, new_page, numbers, page_text, run_page, visit
from tests.app.small_runs import make_recovery, make_run, record, settings
from trim.errors import RunError
from trim.methods.agreement import mask_agreement
from trim.methods.search_settings import SearchSettings
from trim.runs.options import idle_options, options
from trim.runs.settings import PruneSettings
from trim.runs.writer import RunWriter

GATE, QUERY = "1.mlp.gate_proj", "1.self_attn.q_proj"


@pytest.fixture
def store(runs) -> RunStore:
    make_run(runs / "t", "trim", 0.5, name="TRIM <b>run</b>")
    make_run(runs / "o", "optimal", 0.6)
    return STORE


def test_experts_of_a_block(runs):
    """An expert's layer is set beside seven others, or beside all of its block as one slot."""
    names = [f"{block}.mlp.experts.{expert}.up_proj" for block in range(2) for expert in range(15)]
    with RunWriter.create(runs / "e", settings(), kind="layer", name="e") as writer:
        layer = record(names[0])
        for block in range(2):
            first, *others = (replace(layer, name=name) for name in names[15 * block :][:15])
            # Too few tokens reach an expert, which is pruned in another way than the run's.
            writer.write_block(block, [replace(first, allocation="uniform"), *others])
        writer.finish({})
    found = picking.related_picks(Pick("e", names[17]), STORE.runs())
    assert found["all experts"] == [Pick("e", "1.mlp.experts.*.up_proj")]
    assert " ".join(pick.layer.split(".")[3] for pick in found["other experts"]) == "0 4 6 8 10 12 14"
    assert found["every block"] == [Pick("e", "*.mlp.experts.2.up_proj")]
    assert not picking.related_picks(Pick("e", "1.mlp.experts.*.up_proj"), STORE.runs())
    assert picking.kinds(names)[-1] == "1.mlp.experts.*.up_proj"
    slot = service.read_slot(STORE, 0, found["all experts"][0])
    assert [view.own.label for view in slot.views] == ["Uniform"] + ["TRIM"] * 14
    assert service.in_common([slot]).startswith("1.mlp.experts.*.up_proj · TRIM")
    (together,) = compare_views._sets([slot], compare_views.GINI)[14:]
    assert together.label == "A expert 14"


def named(figure: dict) -> list[str]:
    """Return the names of what is seen of a figure."""
    return [line["name"] for line in figure["data"] if line.get("opacity") != 0]


def test_a_first_look_is_trim_optimal_and_uniform(store):
    test = visit("compare")
    figures = cards(test)
    assert named(figures["compare_rows"]) == ["A · TRIM 50%", "B · Optimal 60%", "C · Uniform 50%"]
    lines = [line["line"] for line in figures["compare_rows"]["data"] if line.get("opacity") != 0]
    assert [line["color"] for line in lines] == list(SLOT_COLOURS["light"][:3])
    assert figures["compare_pair"]["data"][1]["marker"]["color"] == SLOT_COLOURS["light"][1], (
        "B, as everywhere"
    )
    shares = [numbers(bars["y"]) for bars in figures["compare_rows"]["data"][:3]]
    np.testing.assert_allclose([each.sum() for each in shares], 1, rtol=1e-6)
    assert all(chart.proto.alt for chart in test.get("plotly_chart"))
    texts = page_text(test)
    assert "| A‑B |" in texts
    assert "<b>" not in texts.replace(r"\<b", "")


def test_it_begins_with_the_layer_that_was_explored(store):
    shipped = shipped_layer()
    test = new_page("compare")
    test.session_state["last_explored"] = shipped.key, SearchSettings(0.6)
    run_page(test)
    assert named(cards(test)["compare_rows"]) == ["A · Optimal", "B · TRIM", "C · Uniform"]
    assert "explored last" in page_text(test)
    assert "Layer quality" in page_text(test)
    test.button(key="compare_add_trim_50").click()
    run_page(test)

    def compared() -> list[tuple[str, int]]:
        picks = map(Pick.parse, test.session_state["compared"])
        slots = [service.read_slot(store, slot, pick) for slot, pick in enumerate(picks)]
        return [(each.first.own.method, round(100 * each.sparsity)) for each in slots]

    assert compared() == [("optimal", 60), ("trim", 60), ("uniform", 60), ("trim", 50)]
    test.button(key="sort_slots").click()
    run_page(test)
    assert compared() == [("optimal", 60), ("trim", 50), ("trim", 60), ("uniform", 60)]
    assert test.button(key="sort_slots").disabled


def test_a_first_look_prefers_another_target_of_one_method(store, tmp_path):
    make_run(tmp_path / "runs" / "u", "trim", 0.7)
    assert [pick.run_id for pick in picking.default_picks(store.runs())] == ["u", "t", "u"]


def test_what_differs_comes_first(store):
    compared = [
        service.read_slot(store, slot, pick)
        for slot, pick in enumerate(picking.default_picks(store.runs())[:2])
    ]
    lines = service.settings(compared)
    flags = [line.differs for line in lines]
    assert flags == sorted(flags, reverse=True)
    different = {line.name for line in lines if line.differs}
    assert {"run", "rows set by", "layer sparsity", "Model sparsity target"} <= different
    assert "Seed" not in different


def test_every_option_that_does_something_is_among_the_settings(store):
    picks = [picking.Pick("o", GATE), picking.Pick("t", GATE)]
    compared = [service.read_slot(store, slot, pick) for slot, pick in enumerate(picks)]
    lines = {line.name: line for line in service.settings(compared)}
    for name, each in options(PruneSettings).items():
        values = tuple(
            service.NOT_USED
            if name in idle_options(one.source.request)
            else each.text(getattr(one.source.request, name))
            for one in compared
        )
        if set(values) == {service.NOT_USED}:
            assert each.label not in lines
        else:
            assert lines[each.label].values == values
    assert lines["Learning rates, tried in this order"].values[0] == service.NOT_USED
    assert lines["Windows for the sensitivity"].values == ("32", service.NOT_USED)


def test_the_address_says_what_is_compared(store):
    test = visit("compare", a=f"o/{GATE}", b=f"o/{GATE}/uniform")
    assert named(cards(test)["compare_rows"]) == ["A · Optimal", "B · Uniform"]
    assert f"{GATE} · 60%" in page_text(test).replace("\\", ""), "what both share is not in their labels"


def test_another_run_goes_into_the_address(store):
    test = visit("compare", a=f"t/{GATE}", b=f"o/{GATE}", c=f"o/{QUERY}")
    run_page(test, test.toggle(key="compare_A_uniform").set_value(True))
    assert test.query_params["a"] == f"t/{GATE}/uniform"
    run_page(test, test.selectbox(key="compare_A_run").set_value("o"))
    assert test.query_params["a"] == f"o/{GATE}", "another run is shown as it was pruned"
    run_page(test, test.button(key="compare_C_remove").click())
    assert "c" not in test.query_params
    run_page(test, test.button(key="compare_add_every_block").click())
    assert test.query_params["c"] == "o/*.mlp.gate_proj"
    assert named(cards(test)["compare_rows"])[2:] == ["C block 0", "C block 1"]


def test_many_distributions_are_ridges(store):
    test = visit("compare", a=f"t/{GATE}", b="t/*.self_attn.q_proj", c="o/*.mlp.gate_proj")
    figure = cards(test)["compare_many"]
    assert figure["layout"]["yaxis"]["ticktext"][0].startswith("A\u00a0· ")
    assert len(figure["layout"]["yaxis"]["tickvals"]) == 5
    assert "Layers of several blocks or experts" in page_text(test)


def test_rows_and_masks_of_a_pair(store):
    test = visit("compare", a=f"t/{GATE}", b=f"o/{GATE}", c=f"t/{GATE}/uniform", rows="1,3")
    assert [line["name"] for line in cards(test)["compare_pair"]["data"]].count("selected rows") == 1
    assert any("Selected rows" in each.value for each in test.markdown)
    run_page(test, test.segmented_control(key="pair_view").set_value("Masks"))
    agreement = mask_agreement(store.open("t").layer(GATE).keep(), store.open("o").layer(GATE).keep())
    assert f"share {agreement.whole:.1%} of".replace(".", r"\.") in page_text(test)
    run_page(test, test.segmented_control(key="compare_masks_view").set_value("By layer"))
    shares = numbers(cards(test)["compare_masks"]["data"][0]["z"])
    assert np.isclose(shares, agreement.whole, rtol=1e-6).any()
    assert shares.size == len(store.open("t").layers)
    run_page(test, test.segmented_control(key="against").set_value("C"))
    assert "C has no mask" in page_text(test)


def test_what_is_added_elsewhere_is_compared(store):
    view = LayerView.of(store.open("t"), store.layer("t", GATE))
    pick = LIVE_LAYERS.add(view, "trim", service.ComparedSource.of(store.open("t")))
    test = new_page("compare")
    test.session_state["compared"] = [f"t/{GATE}", str(pick), "live:gone/x"]
    run_page(test)
    assert test.query_params["b"] == str(pick)
    assert "no longer in the server" in test.error[0].value
    assert len(named(cards(test)["compare_rows"])) == 2


def test_eight_slots_of_four_models_and_one_that_is_deleted(store, tmp_path):
    models = ["Tiny <b>model</b>", "tiny/model-wide", "Qwen/a-model-of-a-very-long-name-Instruct", "%{x} $y$"]
    for place, model in enumerate(models[1:], 1):
        make_run(tmp_path / "runs" / f"m{place}", name="same", model=model, columns=40 + 16 * place)
    layers = [f"{run}/{layer}" for run in ("t", "m1", "m2", "m3") for layer in (GATE, QUERY)]
    test = visit("compare", **dict(zip("abcdefgh", layers, strict=True)))
    figure = cards(test)["compare_many"]
    labels = [each.replace("<br>", " ") for each in figure["layout"]["yaxis"]["ticktext"]]
    assert labels[:2] == [
        f"{letter}\u00a0· Tiny &lt;b&gt;model&lt;/b&gt; {each}"
        for letter, each in (("A", GATE), ("B", QUERY))
    ]
    assert "%{" not in labels[7]
    assert "$" not in labels[7]
    assert "<b>" not in str(labels)
    shares = [numbers(line["y"]) for line in figure["data"] if line.get("fill")]
    assert len(shares) == 8
    assert "rows of two layers" in page_text(test)
    (add,) = [each.proto.popover for each in test.get("popover") if each.proto.popover.label == "Add"]
    assert add.disabled
    assert "Eight is the limit" in page_text(test)
    names = test.selectbox(key="compare_E_run").options
    assert {f"same (TRIM) ({run})" for run in ("m1", "m2", "m3")} <= set(names), "each can be chosen"
    shutil.rmtree(tmp_path / "runs" / "m3")
    run_page(test)
    assert len(test.error) == 2
    assert len(cards(test)["compare_many"]["layout"]["yaxis"]["tickvals"]) == 6
    run_page(test, test.segmented_control(key="against").set_value("C"))
    assert "40 and 56 weights" in page_text(test)


def text_of(widgets, label: str) -> str:
    (found,) = [each.value for each in widgets if each.label == label]
    return found


def test_a_chart_is_saved_from_the_studio(store, monkeypatch):
    test = visit("compare")
    run_page(test, test.button(key="compare_rows_save").click())
    assert text_of(test.text_input, "Title") == "How much of each row is pruned?"
    assert [each.label for each in test.get("download_button")][:4] == [
        "PDF",
        "SVG",
        "PNG, 300 dpi",
        "Code and data",
    ]
    assert "A · TRIM 50%" in text_of(test.text_area, "Caption")
    preview = next(chart for chart in test.get("plotly_chart") if chart.key == "studio_preview")
    assert json.loads(preview.proto.spec)["layout"]["paper_bgcolor"] == "#ffffff"
    monkeypatch.setattr("app.ui.common.studio.browser_path", lambda: None)
    run_page(test, test.button(key="compare_pair_save").click())
    assert text_of(test.text_input, "Title") == "Do the same rows lose as much?"
    assert any("apt install chromium" in each.value for each in test.info)
    disabled = [each.proto.disabled for each in test.get("download_button")]
    assert disabled == [True, True, True, False, False, False]


def test_layers_of_other_width_are_compared_by_distribution_only(store):
    test = visit("compare", a=f"t/{GATE}", b=f"t/{QUERY}")
    assert "compare_pair" not in cards(test)
    assert "compared by distribution only" in page_text(test)
    assert "not paired" in page_text(test)
    assert named(cards(test)["compare_rows"]) == [f"A · {GATE}", f"B · {QUERY}"]
    assert not [each for each in test.text_input if each.key == "rows"]


@pytest.mark.parametrize(
    "asked", ["nonsense", "a/b/c", "//", "<b>x</b>/y", "../t/1.mlp.gate_proj", "t/9.none"]
)
def test_what_cannot_be_compared_is_reported(store, asked):
    test = visit("compare", a=asked)
    assert len(test.error) == 1
    assert "<b>" not in test.error[0].value.replace(r"\<b", "")
    assert "compare_rows" in cards(test), "the first look is shown instead"


def test_an_empty_store_says_what_to_do(runs):
    test = visit("compare")
    assert not test.get("plotly_chart")
    assert len(test.info) == 2


def test_picks_survive_the_address():
    for pick in (Pick("a b", GATE), Pick("x", QUERY, True)):
        assert Pick.parse(str(pick)) == pick
    with pytest.raises(RunError, match="a slash and a layer"):
        Pick.parse("x")


def test_curves_are_the_sweeps_own(tmp_path):
    sweeps = [entry.sweep for entry in STORE.sweeps() if entry.sweep is not None and entry.shipped]
    (text,) = texts(sweeps)
    lines, dense = curves(sweeps, text)
    assert {line.method for line in lines} == {"uniform", "trim", "optimal"}
    for line in lines:
        assert list(line.perplexity) == sorted(line.perplexity)
        assert min(line.perplexity) > dense
    run = trim.open_run(sweeps[0].runs()[0].path)
    assert run.metrics["perplexities"][-1]["perplexity"] in {
        value for line in lines for value in line.perplexity
    }
    trained = trim.open_recovery(make_recovery(tmp_path / "trained", run, name="Trained"))
    (point,) = recovered_points([trained], tokens_of(sweeps, text))
    assert (point.label, point.sparsity, point.perplexity) == ("Trained", (0.5,), (12.5,))
    assert recovered_points([trained], tokens_of(sweeps, "another text")) == []
