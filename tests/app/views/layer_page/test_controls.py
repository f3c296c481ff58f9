"""The controls of the Layer page: what each changes and what stays, and options that do not fit together."""

import itertools

import trim
from diagnostics.figures.theme import SCORE_STYLES
from diagnostics.format import number
from diagnostics.learning_rate import LAYER_UNITS
from tests.app.demo_layer import COLUMNS, FOUR_CHARTS, MAX_CHART_BYTES
from tests.app.page import steps


def changed(before: dict[str, dict], after: dict[str, dict]) -> set[str]:
    """Return the charts that are not the same in both."""
    return {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}


def test_the_target_changes_what_depends_on_it(page):
    before, metrics = page.charts, page.metrics
    page.set("slider", "target", 60)
    assert changed(before, page.charts) == {"cosine", "row_sparsity", "rate"}
    assert page.metrics["Pruned"] == "60.00%"
    assert float(page.metrics["Quality: Uniform"]) > float(metrics["Quality: Uniform"])
    page.set("slider", "target", 70)
    assert page.charts == before
    assert page.metrics == metrics


def test_another_score_changes_every_view(page):
    before = page.charts
    page.set("segmented_control", "score", "magnitude")
    assert changed(before, page.charts) == set(FOUR_CHARTS)
    assert page.linked[0]["styles"]["score"]["colour"] == SCORE_STYLES["magnitude"].colour


def test_another_block_and_layer(page):
    before = page.charts
    page.set("slider", "block", 3)
    assert page.test.title[0].value == r"3\.mlp\.gate\_proj"
    assert changed(before, page.charts) == set(FOUR_CHARTS)
    page.set("selectbox", "layer", "self_attn.k_proj")
    assert page.test.title[0].value == r"3\.self\_attn\.k\_proj"
    assert steps(page.charts["gini"], "score").sum() == 192
    assert page.metrics["Pruned"] == "70.00%"


def test_every_quality(page):
    for name in trim.LAYER_QUALITIES:
        page.set("selectbox", "layer_quality", name)
        assert LAYER_UNITS[name] in str(page.linked[0]["meanings"])
        assert list(page.charts) == FOUR_CHARTS
        assert not page.errors
    page.set("segmented_control", "part", "Search")
    page.set("segmented_control", "rate_view", "Iterations")
    for name in trim.ROW_QUALITIES:
        page.set("selectbox", "row_quality", name)
        assert "rate" in page.charts
        assert not page.errors


def test_iterations_rates_and_cap(page, curves):
    page.set("number_input", "iterations", 3)
    page.set("text_input", "rates", "0.3")
    page.set("text_input", "negative_rates", "")
    page.set("number_input", "cap", 75)
    settings = trim.SearchSettings(0.7, (0.3,), (), iterations=3, max_row_sparsity=0.75)
    result = trim.search(curves, settings)
    assert page.metrics["TRIM"] == number(result.realised_quality, 5)
    assert page.metrics["η"] == f"{result.learning_rate:+g}" if result.learning_rate else "none"
    assert float(result.counts.max()) <= 0.75 * COLUMNS
    assert not page.errors


def test_every_view_of_every_part(page):
    page.set("segmented_control", "shown", "Both")
    for part, card in (
        ("Gini", "gini"),
        ("Cosine", "cosine"),
        ("Sparsity", "row_sparsity"),
        ("Search", "rate"),
    ):
        page.set("segmented_control", "part", part)
        drawn = []
        for view in page.test.segmented_control(key=f"{card}_view").options:
            page.set("segmented_control", f"{card}_view", view)
            assert list(page.charts) == [card], "only the open part is drawn"
            drawn.append(page.charts[card])
            if view.startswith("Against "):
                assert card == "cosine" or {"TRIM", "Optimal"} <= {each["name"] for each in drawn[-1]["data"]}
            assert max(page.chart_bytes.values()) < MAX_CHART_BYTES
            assert not page.errors
        assert len(drawn) > 1
        assert all(one != other for one, other in itertools.combinations(drawn, 2))


def test_bad_options_get_one_message_and_the_earlier_result_stays(page):
    before, metrics = page.charts, page.metrics
    for kind, key, values in (
        (
            "text_input",
            "rates",
            {
                "fast": "not a number",
                "-0.1": "must all be above 0",
                "0.1, 0.1": "once only",
                "<img src=x>": "not a number",
                "nan": "finite",
            },
        ),
        ("text_input", "negative_rates", {"0.1": "below 0"}),
        ("number_input", "cap", {60: "lower the target or raise the cap"}),
    ):
        good = getattr(page.test, kind)(key=key).value
        for value, message in values.items():
            page.set(kind, key, value)
            assert len(page.errors) == 1
            assert message in page.errors[0].replace("\\", "")
            assert page.charts == before
            assert page.metrics == metrics
            assert any("the last result, for a layer target of 70%" in text for text in page.texts)
        page.set(kind, key, good)
        assert not page.errors


def test_a_target_above_the_cap(page):
    page.set("slider", "target", 99)
    assert len(page.errors) == 1
    assert "raise the cap" in page.errors[0]
    assert page.metrics["Pruned"] == "70.00%"
    page.set("number_input", "cap", 100)
    assert not page.errors
    assert page.metrics["Pruned"] == "99.00%"


def test_no_rates_at_all(page):
    page.set("text_input", "rates", "")
    assert not page.errors, "negative rates alone are fine"
    page.set("text_input", "negative_rates", "")
    assert len(page.errors) == 1
    assert "at least one learning rate" in page.errors[0]
