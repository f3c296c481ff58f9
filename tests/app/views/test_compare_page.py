"""The Compare page through AppTest: what it compares, what it says of it, and what it refuses."""

import json

import pytest
from streamlit.testing.v1 import AppTest

import trim
from app.services.results import compared as service
from app.services.results.compared import Pick
from app.services.results.sweep_curves import curves, texts
from app.services.runs.store import RunStore
from app.ui.compare import cards as compare_views
from tests.app.page import ROOT, ran
from tests.app.small_runs import make_run
from trim.errors import RunError
from trim.runs.options import idle_options, options
from trim.runs.settings import PruneSettings

GATE, QUERY = "1.mlp.gate_proj", "1.self_attn.q_proj"


@pytest.fixture
def store(monkeypatch, tmp_path) -> RunStore:
    folder = tmp_path / "runs"
    make_run(folder / "t", "trim", 0.5, name="TRIM <b>run</b>")
    make_run(folder / "o", "optimal", 0.6)
    own = RunStore(folder=lambda: folder, shipped=lambda: tmp_path / "none")
    monkeypatch.setattr(compare_views, "STORE", own)
    monkeypatch.setattr("app.services.runs.store.STORE", own)
    return own


def opened(**address: str) -> AppTest:
    test = AppTest.from_file(str(ROOT / "app/main.py"), default_timeout=60)
    test.switch_page("views/compare.py")
    for name, value in address.items():
        test.query_params[name] = value
    return ran(test)


def charts(test: AppTest) -> dict[str, dict]:
    return {
        chart.key.removesuffix("_ECDF").removesuffix("_Gini"): json.loads(chart.proto.spec)
        for chart in test.get("plotly_chart")
    }


def texts_of(test: AppTest) -> str:
    return "\n".join(
        each.value for kind in ("markdown", "caption", "info", "warning") for each in test.get(kind)
    )


def test_a_first_look_is_trim_optimal_and_uniform(store):
    test = opened()
    figures = charts(test)
    assert [line["name"] for line in figures["compare_rows"]["data"]] == [
        "A · TRIM",
        "B · Optimal",
        "C · Uniform",
    ]
    assert {"compare_pair", "compare_gini"} <= set(figures)
    assert all(chart.proto.alt for chart in test.get("plotly_chart"))
    said = texts_of(test)
    assert "| A‑B |" in said
    assert "Uniform treats all rows alike" in said
    assert "<b>" not in said.replace(r"\<b", "")


def test_what_differs_comes_first(store):
    compared = [
        service.opened(store, letter, pick)
        for letter, pick in zip("AB", service.default_picks(store.runs()), strict=False)
    ]
    lines = service.settings(compared)
    flags = [line.differs for line in lines]
    assert flags == sorted(flags, reverse=True)
    different = {line.name for line in lines if line.differs}
    assert {"run", "rows set by", "layer sparsity", "Model sparsity target"} <= different
    assert "Seed" not in different


def test_every_option_that_does_something_is_among_the_settings(store):
    picks = [service.Pick("o", GATE), service.Pick("t", GATE)]
    compared = [service.opened(store, letter, pick) for letter, pick in zip("AB", picks, strict=True)]
    lines = {line.name: line for line in service.settings(compared)}
    for name, each in options(PruneSettings).items():
        values = tuple(
            service.NOT_USED
            if name in idle_options(one.run.request)
            else each.text(getattr(one.run.request, name))
            for one in compared
        )
        if set(values) == {service.NOT_USED}:
            assert each.label not in lines
        else:
            assert lines[each.label].values == values
    assert lines["Learning rates, tried in this order"].values[0] == service.NOT_USED
    assert lines["Windows for the sensitivity"].values == ("32", service.NOT_USED)


def test_the_address_says_what_is_compared(store):
    test = opened(a=f"o/{GATE}", b=f"o/{GATE}/uniform")
    names = [line["name"] for line in charts(test)["compare_rows"]["data"]]
    assert names == ["A · Optimal", "B · Uniform"]


def test_another_run_goes_into_the_address(store):
    test = opened()
    ran(test, test.selectbox(key="compare_A_run").set_value("o"))
    assert test.query_params["a"].startswith("o/")
    ran(test, test.toggle(key="compare_A_uniform").set_value(True))
    assert test.query_params["a"].endswith("/uniform")
    ran(test, test.selectbox(key="compare_C_run").set_value(""))
    assert "c" not in test.query_params


def test_layers_of_other_width_are_compared_by_distribution_only(store):
    test = opened(a=f"t/{GATE}", b=f"t/{QUERY}")
    assert "compare_pair" not in charts(test)
    assert "compared by distribution only" in texts_of(test)
    assert "not paired" in texts_of(test)
    assert not [each for each in test.text_input if each.key == "rows"]


def test_selected_rows_are_marked(store):
    test = opened(rows="1,3")
    selected = [line for line in charts(test)["compare_pair"]["data"] if line["name"] == "selected rows"]
    assert len(selected) == 1
    assert any("Selected rows" in each.value for each in test.markdown)


@pytest.mark.parametrize(
    "asked", ["nonsense", "a/b/c", "//", "<b>x</b>/y", "../t/1.mlp.gate_proj", "t/9.none"]
)
def test_what_cannot_be_compared_is_reported(store, asked):
    test = opened(a=asked)
    assert len(test.warning) == 1
    assert "<b>" not in test.warning[0].value.replace(r"\<b", "")
    assert "compare_rows" in charts(test), "the first look is shown instead"


def test_an_empty_store_says_what_to_do(monkeypatch, tmp_path):
    empty = RunStore(folder=lambda: tmp_path / "none", shipped=lambda: tmp_path / "none")
    monkeypatch.setattr("app.services.runs.store.STORE", empty)
    monkeypatch.setattr(compare_views, "STORE", empty)
    test = opened()
    assert not test.get("plotly_chart")
    assert len(test.info) == 2


def test_picks_survive_the_address():
    for pick in (Pick("a b", GATE), Pick("x", QUERY, True)):
        assert Pick.parse(str(pick)) == pick
    with pytest.raises(RunError, match="a slash and a layer"):
        Pick.parse("x")


def test_curves_are_the_sweeps_own(tmp_path):
    from app.services.runs.store import STORE

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
