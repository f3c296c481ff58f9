"""The Learn page through AppTest: every step, every control, every self-check."""

import json

import pytest
from streamlit.testing.v1 import AppTest

from app.services.runs import store
from app.services.runs.store import RunStore
from app.ui.learn import real_step
from app.ui.learn.course import STEPS
from tests.app.page import ROOT, numbers, ran
from tests.app.small_runs import make_run


@pytest.fixture(autouse=True)
def _own_store(monkeypatch, tmp_path):
    """A store with one run of TRIM on a tiny model."""
    monkeypatch.setattr(real_step, "LAYER", "mlp.gate_proj")  # what the tiny model has
    make_run(tmp_path / "runs" / "small", "trim", 0.5)
    own = RunStore(folder=lambda: tmp_path / "runs", shipped=lambda: tmp_path / "none")
    monkeypatch.setattr(store, "STORE", own)
    monkeypatch.setattr(real_step, "STORE", own)


def opened(step: int | str = 1, **address: str) -> AppTest:
    test = AppTest.from_file(str(ROOT / "app/main.py"), default_timeout=60)
    test.switch_page("views/learn.py")
    for name, value in {"step": str(step), **address}.items():
        test.query_params[name] = value
    return ran(test)


def figure(test: AppTest) -> dict:
    (chart,) = test.get("plotly_chart")
    return json.loads(chart.proto.spec)


@pytest.mark.parametrize("number", range(1, len(STEPS) + 1))
def test_each_step_has_its_parts(number):
    test, step = opened(number), STEPS[number - 1]
    assert test.title[0].value == f"{number}. {step.title}"
    texts = [each.value for each in test.markdown]
    assert step.words in texts
    assert any(text.startswith("**What to notice.**") for text in texts)
    (chart,) = test.get("plotly_chart")
    assert chart.proto.alt
    links = [link.proto.query_string for link in test.get("page_link")]
    assert links[: len(STEPS)] == [f"step={each}" for each in range(1, len(STEPS) + 1)]


@pytest.mark.parametrize("number", range(1, len(STEPS) + 1))
def test_each_answer_has_its_reason(number):
    test, check = opened(number), STEPS[number - 1].check
    assert 0 <= check.right < len(check.answers)
    assert not test.success
    for place in range(len(check.answers)):
        ran(test, test.radio[0].set_value(place))
        told = test.success if place == check.right else test.info
        assert [check.reason in each.value for each in told] == [True]
        assert bool(test.success) == (place == check.right)


@pytest.mark.parametrize(
    ("number", "kind", "key", "value"),
    [
        (1, "slider", "loudness", 0.5),
        (2, "slider", "pruned", 6),
        (3, "slider", "factor", 20),
        (4, "select_slider", "eta", -0.08),
        (5, "slider", "iteration", 6),
        (6, "slider", "outliers", 80),
        (7, "slider", "owl", 0.2),
        (8, "select_slider", "share", 0.75),
    ],
)
def test_each_control_changes_the_picture(number, kind, key, value):
    test = opened(number)
    before = figure(test)
    ran(test, getattr(test, kind)(key=key).set_value(value))
    assert figure(test) != before


def test_the_address_holds_a_steps_control():
    test = opened(6, outliers="80")
    assert test.slider(key="outliers").value == 80
    assert any("A positive rate wins" in each.value for each in test.caption)
    assert any("A negative rate wins" in each.value for each in opened(6).caption)


def test_next_and_previous():
    test = opened(3, factor="5", present="1")
    ran(test, test.button(key="next_step").click())
    assert test.title[0].value.startswith("4.")
    assert test.query_params["step"] == "4"
    assert test.query_params["present"] == "1"
    ran(test, test.button(key="previous_step").click())
    assert test.title[0].value.startswith("3.")
    assert opened(1).button(key="previous_step").disabled
    assert opened(len(STEPS)).button(key="next_step").disabled


@pytest.mark.parametrize("asked", ["0", "99", "-1", "²", "<b>x</b>", "1e3"])
def test_a_step_that_is_none(asked):
    test = opened(asked)
    assert test.title[0].value.startswith("1.")
    (warning,) = test.warning
    assert "there are the steps 1 to" in warning.value
    assert "<b>" not in warning.value.replace(r"\<b", "")


def test_play_walks_through_the_updates():
    test = opened(5)
    ran(test, test.slider(key="iteration").set_value(4))
    ran(test, test.button(key="play").click())
    seen = [test.slider(key="iteration").value]
    while test.session_state["playing"]:
        seen.append(ran(test).slider(key="iteration").value)
    assert seen == list(range(seen[0], 11))
    assert ran(test).slider(key="iteration").value == 10


def test_the_arithmetic_is_in_the_page():
    test = opened(4)
    table = next(each.value for each in test.markdown if each.value.startswith("| row |"))
    assert "| cosine | 0.999 | 0.806 | 0.963 | 0.951 |" in table
    assert "| change | +0.057 | −0.103 | +0.028 | +0.018 |" in table
    assert "| pruned | 5 | 3 | 4 | 4 |" in table


def test_the_real_layer_is_the_runs_own():
    test = opened(len(STEPS))
    points = figure(test)["data"][0]
    record = store.STORE.layer("small", "1.mlp.gate_proj")
    assert sorted(numbers(points["y"]).tolist()) == pytest.approx(sorted(record.row_sparsity.tolist()))
    assert any("1.mlp.gate_proj: 12 rows of 40 weights" in each.value for each in test.caption)


def test_without_a_run_the_last_step_says_what_to_do(monkeypatch, tmp_path):
    empty = RunStore(folder=lambda: tmp_path / "empty", shipped=lambda: tmp_path / "none")
    monkeypatch.setattr(real_step, "STORE", empty)
    test = opened(len(STEPS))
    assert not test.get("plotly_chart")
    assert any("python -m trim prune demo" in each.value for each in test.info)


def test_presenter_mode_has_larger_letters():
    plain, large = opened(2), opened(2, present="1")
    assert figure(large)["layout"]["height"] > 1.2 * figure(plain)["layout"]["height"]
    assert len(large.get("html")) == 2
    assert not plain.get("html")
    between = [link.proto for link in large.get("page_link")][-6:]
    assert [link.label for link in between] == ["Layer", "Model", "Runs", "Compare", "Learn", "Paper"]
    assert {link.query_string for link in between} == {"present=1"}
