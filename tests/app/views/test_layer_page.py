"""The Layer page with the real demo model, through AppTest: what the browser would be sent."""

import dataclasses
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

import trim
from app.services.layer.array_layer import ArrayLayer
from app.services.layer.keys import ModelKey, SampleKey, SolutionKey, StudyKey
from app.services.layer.shipped import shipped_layer
from app.services.layer.study import Study
from app.ui.common.search_options import default_options
from app.ui.common.selection import GAP_PICKS, PICKED_ROWS, PICKS, parse_rows
from app.ui.common.waiting import laboratory
from app.ui.layer.pin import Pin
from diagnostics.figures.theme import SCORE_STYLES
from diagnostics.format import number
from diagnostics.learning_rate import LAYER_UNITS
from tests.app.page import LayerPage, numbers, steps, trace
from tests.app.services.layer.test_array_layer import assert_same_layer, assert_same_outcome
from trim.methods.least_squares import TextProducts

LAYER = "15.mlp.gate_proj"
ADDRESS = {"block": "15", "layer": "mlp.gate_proj"}
ROWS, COLUMNS = 1536, 576
FOUR_CHARTS = ["gini", "cosine", "row_sparsity", "rate"]
MAX_CHART_BYTES = 500_000


@pytest.fixture
def page() -> LayerPage:
    return LayerPage(**ADDRESS)


@pytest.fixture(scope="module")
def first_visit() -> LayerPage:
    """A visit that no test changes."""
    return LayerPage(**ADDRESS)


@pytest.fixture(scope="module")
def curves(first_visit: LayerPage) -> trim.RetentionCurves:
    """The layer of the first visit through the library alone."""
    model, key = laboratory().model(ModelKey()).result(), SampleKey()
    windows = trim.load_corpus(
        key.corpus, model.tokenizer, windows=key.windows, length=key.length, seed=key.seed
    )
    sample = trim.capture(
        model, windows, [LAYER], vectors_per_sequence=key.vectors_per_sequence, seed=key.seed
    )[LAYER]
    return trim.retention_curves(
        sample.weight, sample.inputs, trim.wanda_score(sample.weight, sample.input_norm)
    )


def best_counts(curves: trim.RetentionCurves, target: float) -> torch.Tensor:
    """Return the optimal counts if all rows have the same weight."""
    return trim.optimal_counts(
        trim.lower_hull(curves.error, int(0.99 * COLUMNS)), round(target * ROWS * COLUMNS)
    )


def quality_of(curves: trim.RetentionCurves, counts: torch.Tensor) -> float:
    return float(trim.layer_quality(curves.at(counts), "cosim_flat"))


def changed(before: dict[str, dict], after: dict[str, dict]) -> set[str]:
    """Return the charts that are not the same in both."""
    return {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}


# ------------------------------------------------------------------------------------------ first visit


def test_the_first_visit_needs_no_click(first_visit):
    assert first_visit.test.title[0].value == r"15\.mlp\.gate\_proj"
    assert any("SmolLM2" in text for text in first_visit.texts)
    assert list(first_visit.charts) == FOUR_CHARTS
    assert not first_visit.errors
    assert not first_visit.test.warning
    assert first_visit.test.slider(key="target").value == 70


def test_metrics_are_what_the_library_finds(first_visit, curves):
    result = trim.search(curves, trim.SearchSettings(0.7))
    assert first_visit.metrics == {
        "Quality: Uniform": number(result.uniform_realised_quality, 5),
        "TRIM": number(result.realised_quality, 5),
        "Optimal": number(quality_of(curves, best_counts(curves, 0.7)), 5),
        "η": f"{result.learning_rate:+g}",
        "Pruned": "70.00%",
    }


def test_charts_hold_the_layers_own_numbers(first_visit, curves):
    charts, (content, places) = first_visit.charts, first_visit.linked
    assert steps(charts["gini"], "score").sum() == steps(charts["row_sparsity"], "trim").sum() == ROWS
    median = next(mark for mark in charts["cosine"]["marks"] if mark["kind"] == "line")
    counts = torch.from_numpy(np.rint(np.array(median["x"]) * COLUMNS)).long()
    expected = np.log10(np.maximum(1 - np.median(curves.cosine[:, counts].cpu().numpy(), axis=0), 1e-9))
    axis = charts["cosine"]["y"]
    np.testing.assert_allclose(median["y"], np.clip(expected, axis["low"], axis["high"]), atol=1e-4)
    result = trim.search(curves, trim.SearchSettings(0.7))
    (tried,) = [mark for mark in charts["rate"]["marks"] if mark["style"] == "gain"]
    assert len(tried["x"]) == len(result.tried)
    np.testing.assert_array_equal(places["count_trim"], result.counts)
    assert content["rows"] == ROWS
    assert {name: len(values) for name, values in places.items()}["curves"] == ROWS * len(content["samples"])


def test_no_chart_is_heavy(first_visit):
    assert max(first_visit.chart_bytes.values()) < MAX_CHART_BYTES


# --------------------------------------------------------------------------------------------- controls


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


# ------------------------------------------------------------------------------------------- the optimum


def test_what_is_shown_alongside_uniform(page, curves):
    rest = {name: page.charts[name] for name in ("gini", "rate")}
    best = best_counts(curves, 0.7).numpy()
    for shown, methods in (("Optimal", ["optimal"]), ("Both", ["trim", "optimal"])):
        page.set("segmented_control", "shown", shown)
        drawn = [each["style"] for each in page.charts["row_sparsity"]["marks"] if each["kind"] == "steps"]
        assert drawn == methods
        assert all(steps(page.charts["row_sparsity"], method).sum() == ROWS for method in methods)
        assert {name: page.charts[name] for name in rest} == rest, "what does not show an allocation stays"
    page.set("segmented_control", "shown", "Optimal")
    page.set("text_input", "rows", "7, 9")
    page.set("segmented_control", "part", "Rows")
    assert {each["name"] for each in page.charts["row_scores"]["data"]} == {"row 7", "Uniform", "Optimal"}
    np.testing.assert_array_equal(page.test.dataframe[0].value["pruned, Optimal"], best[[7, 9]] / COLUMNS)
    assert "row_path" not in page.charts
    (mark,) = (each for each in page.charts["row_prices"]["data"] if each["name"] == "optimal")
    assert numbers(mark["x"])[0] == pytest.approx(best[7] / COLUMNS)
    page.set("segmented_control", "shown", "Both")
    assert {"row_path", "row_prices"} <= page.charts.keys()
    page.set("segmented_control", "shown", "Optimal")
    page.set("segmented_control", "part", "Masks")
    assert {"mask_uniform", "mask_optimal"} == page.charts.keys()
    page.set("segmented_control", "shown", "TRIM")
    assert {"mask_uniform", "mask_trim"} == page.charts.keys()
    assert max(page.chart_bytes.values()) < MAX_CHART_BYTES


def test_the_gap(page, curves):
    result = trim.search(curves, trim.SearchSettings(0.7))
    best = quality_of(curves, best_counts(curves, 0.7))
    uniform = result.uniform_realised_quality
    captured = (result.realised_quality - uniform) / (best - uniform)
    page.set("text_input", "rows", "3, 17")
    page.set("segmented_control", "part", "Gap")
    assert any(f"TRIM makes {captured:.1%} of the optimum's gain" in text for text in page.texts)
    scatter, excess = page.charts["gap_rows"], result.counts.numpy() - best_counts(curves, 0.7).numpy()
    for name, side in (("too much", excess > 0), ("too little", excess < 0)):
        drawn = trace(scatter, name)
        assert numbers(drawn["customdata"]).tolist() == np.flatnonzero(side).tolist()
        np.testing.assert_allclose(numbers(drawn["y"]), 100 * excess[side] / COLUMNS, rtol=1e-5)
    assert numbers(trace(scatter, "selected rows")["customdata"]).tolist() == [3, 17]
    line = trace(page.charts["gap_curve"], "Optimal")
    np.testing.assert_allclose(numbers(line["x"])[8], 0.7, rtol=1e-6)
    assert numbers(line["y"])[8] == pytest.approx(best)
    curve = page.charts["gap_curve"]
    page.set("slider", "target", 60)
    assert page.charts["gap_curve"] == curve, "it shows all targets"
    assert page.charts["gap_rows"] != scatter
    page.set("segmented_control", "gap_curve_view", "Share captured")
    shares = trace(page.charts["gap_curve"], "of the layer quality (cosine over the layer)")
    assert numbers(shares["y"])[8] == pytest.approx(captured, rel=1e-5)
    assert not page.errors
    assert max(page.chart_bytes.values()) < MAX_CHART_BYTES


def solved_by_hand(curves: trim.RetentionCurves) -> trim.SolvedLayer:
    """Let the server hold the layer as SparseGPT leaves it, of its vectors alone: all tokens would take seconds."""
    study = laboratory().open_studies()[0]
    outcome = study.outcome(trim.SearchSettings(0.7))
    gram = curves.inputs @ curves.inputs.T
    norm = torch.from_numpy(study.layer.input_norm)
    sample = trim.LayerSample(LAYER, curves.weight, curves.inputs, norm, TextProducts(gram, gram))
    masks = {name: torch.from_numpy(outcome.view.masks[name]()) for name in ("trim", "optimal")}
    found = trim.solve_layer(sample, 0.7, "sparsegpt", masks=masks)
    key = SolutionKey(study.key, outcome.result.settings, False, "sparsegpt")
    laboratory()._tables[SolutionKey].job(key, lambda job: found).result(60)
    return found


def test_further_views(page, curves):
    page.set("segmented_control", "part", "More")
    result = trim.search(curves, trim.SearchSettings(0.7))
    masks = [trim.keep_mask(curves.ranks, each).numpy() for each in (result.counts, result.uniform_counts)]
    assert page.charts.keys() == {"all_targets"}
    page.set("segmented_control", "more", "Agreement")
    whole = trim.mask_agreement(*masks).whole
    assert any(f"share {whole:.1%}".replace(".", r"\.") in text for text in page.texts)
    by_hand = solved_by_hand(curves)
    whole = trim.mask_agreement(by_hand.keep.numpy(), masks[0]).whole
    page.set("selectbox", "mask_other_13", ("", "sparsegpt"))
    assert any(f"SparseGPT share {whole:.1%}".replace(".", r"\.") in text for text in page.texts)
    page.set("segmented_control", "more", "Solved")
    assert not page.charts
    page.set("segmented_control", "solver", "sparsegpt")
    (points,) = [each for each in page.charts["solved"]["data"] if each["name"] == "rows"]
    np.testing.assert_allclose(numbers(points["x"]), result.counts.numpy() / COLUMNS, rtol=1e-6)
    np.testing.assert_allclose(numbers(points["y"]), by_hand.counts / COLUMNS, rtol=1e-6)
    assert any(f"shares {whole:.0%} with TRIM" in text for text in page.texts)
    page.set("segmented_control", "solved_view", "Errors")
    assert any(each["name"] == "SparseGPT, mask alone" for each in page.charts["solved"]["data"])
    page.set("segmented_control", "more", "Signal")
    page.set("number_input", "signal_draws", 3)
    page.press("Measure")
    mean = trace(page.charts["signal"], "mean over draws")["y"]
    assert numbers(mean).mean() == pytest.approx(result.counts.numpy().mean() / COLUMNS, abs=1e-6)
    assert any("is between rows, the rest is their own uncertainty" in text for text in page.texts)
    page.set("segmented_control", "more", "Input features")
    points = page.charts["inputs"]["data"][0]
    assert len(numbers(points["x"])) == COLUMNS
    page.set("segmented_control", "more", "Channels")
    gate = page.charts["channels"]["data"][0]
    np.testing.assert_allclose(numbers(gate["x"]), result.counts.numpy() / COLUMNS, rtol=1e-6)
    assert not page.errors


@pytest.mark.parametrize(("shown", "method"), [("TRIM", "trim"), ("Optimal", "optimal"), ("Both", "optimal")])
def test_what_is_kept_is_what_is_shown(page, curves, tmp_path, monkeypatch, shown, method):
    monkeypatch.setenv("TRIM_RUNS", str(tmp_path))
    page.set("segmented_control", "shown", shown)
    if shown == "Both":
        page.set("segmented_control", "allocation_to_keep", "Optimal")
    page.press("Keep as a run")
    (folder,) = tmp_path.iterdir()
    run = trim.open_run(folder)
    record, request = run.layer(LAYER), run.request
    assert record.allocation == request.allocation == method
    assert request.max_row_sparsity == {"trim": 0.95, "optimal": 0.99}[method]
    expected = best_counts(curves, 0.7)
    if method == "trim":
        expected = trim.search(curves, trim.SearchSettings(0.7)).counts
    np.testing.assert_array_equal(record.counts, expected)
    np.testing.assert_array_equal((~record.keep()).sum(axis=1), expected)
    assert record.realised_quality == pytest.approx(quality_of(curves, expected), rel=1e-6)
    assert (record.search is None) == (method == "optimal")


# ------------------------------------------------------------------------------------------------- rows


def selected_table(page: LayerPage) -> list[int]:
    return page.test.dataframe[0].value["Row"].tolist() if page.test.dataframe else []


def test_typed_rows_appear_everywhere(page):
    page.set("text_input", "rows", "3, 17, 20-22")
    rows = [3, 17, 20, 21, 22]
    assert page.linked[0]["selected"] == rows
    page.set("segmented_control", "part", "Rows")
    assert selected_table(page) == rows
    assert {"row_scores", "row_cosine", "row_path"} == page.charts.keys()
    page.set("selectbox", "inspected_row", 17)
    assert any("row 17" in text for text in page.texts)
    page.set("text_input", "rows", "")
    assert selected_table(page) == []
    assert any("No rows selected" in info.value for info in page.test.info)
    page.set("segmented_control", "part", "Overview")
    assert list(page.charts) == FOUR_CHARTS
    assert page.linked[0]["selected"] == []


def test_the_table_holds_the_librarys_numbers(page, curves):
    page.set("text_input", "rows", "5-9")
    page.set("segmented_control", "part", "Rows")
    result = trim.search(curves, trim.SearchSettings(0.7))
    table = page.test.dataframe[0].value
    np.testing.assert_array_equal(table["pruned, TRIM"], result.counts[5:10].numpy() / COLUMNS)
    np.testing.assert_array_equal(table["pruned, uniform"], result.uniform_counts[5:10].numpy() / COLUMNS)
    np.testing.assert_allclose(table["x of the search"], result.row_sparsity[5:10])
    np.testing.assert_allclose(table["cosine, TRIM"], curves.at(result.counts).cosine[5:10])


def test_quick_picks(page):
    for pick in (*PICKS, *GAP_PICKS):
        page.set("selectbox", "pick", pick)
        typed = page.test.text_input(key="rows").value
        assert len(parse_rows(typed, ROWS)) == PICKED_ROWS, pick
        assert page.linked[0]["selected"] == parse_rows(typed, ROWS), pick


def test_nonsense_rows_get_one_message(page):
    for typed, expected in (
        ("all of them", "“all” is not a row number"),
        ("1536", "the rows 0 to 1535"),
        ("0-500", "at most 200 rows"),
        ("<b>3</b>", r"“\<b\>3\</b\>” is not a row number"),
        ("*3*]", r"“\*3\*\]” is not a row number"),
    ):
        page.set("text_input", "rows", typed)
        (message,) = [text for text in page.texts if text.startswith(":red[")]
        assert expected in message.replace(r"\-", "-")
        assert list(page.charts) == FOUR_CHARTS


# -------------------------------------------------------------------------------------------- bad input


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


# ------------------------------------------------------------------------------------------ the address


def test_an_address_holds_a_view():
    address = {"target": "60", "block": "3", "layer": "self_attn.k_proj", "score": "magnitude", "rows": "1,2"}
    page = LayerPage(**address, cosine="linear")
    axis = page.charts["cosine"]["y"]
    assert axis["title"] == "cosine"
    assert axis["low"] <= 0 < axis["high"]
    assert page.charts["cosine"]["otherAxis"] == "logarithmic"
    assert page.test.title[0].value == r"3\.self\_attn\.k\_proj"
    assert page.metrics["Pruned"] == "60.00%"
    assert page.linked[0]["selected"] == [1, 2]
    assert page.test.segmented_control(key="score").value == "magnitude"
    assert not page.test.warning


def test_options_in_the_address():
    page = LayerPage(
        layer_quality="mse",
        row_quality="psnr",
        iterations="4",
        rates="0.1",
        negative_rates="-0.1",
        cap="90",
        part="Gap",
        shown="Both",
    )
    assert page.test.selectbox(key="layer_quality").value == "mse"
    assert page.test.selectbox(key="row_quality").value == "psnr"
    assert page.test.number_input(key="iterations").value == 4
    assert page.test.text_input(key="rates").value == "0.1"
    assert page.test.number_input(key="cap").value == 90
    assert {"gap_rows", "gap_curve"} == page.charts.keys()
    assert not page.test.warning


@pytest.mark.parametrize(
    "nonsense",
    [
        {
            "target": "999",
            "block": "-1",
            "layer": "<img src=x>",
            "score": "<script>alert(1)</script>",
            "cap": "1e9",
        },
        {"target": "seventy", "block": "3000000000", "layer_quality": "best", "iterations": "0"}
        | {"part": "perhaps", "shown": "all", "row_weights": "many"},
    ],
)
def test_nonsense_in_the_address_is_reported_and_the_page_works(nonsense):
    page = LayerPage(**nonsense, utm_source="mail")  # an unknown parameter is no matter
    assert page.test.title[0].value == r"29\.self\_attn\.v\_proj"
    assert list(page.charts) == FOUR_CHARTS
    assert page.metrics["Pruned"] == "70.00%"
    (warning,) = page.test.warning
    for name, value in nonsense.items():
        assert f"{name}={value}" in warning.value.replace("\\", "").replace("\u2060", "")
    assert "utm_source" not in warning.value
    assert "<" not in warning.value.replace(r"\<", "")
    page.run()
    assert not page.test.warning, "it is said once"


# ------------------------------------------------------------------------------- shipped, then live


def test_the_live_layer_takes_the_place_of_the_shipped_one():
    page = LayerPage(target="64", rows="3, 17", shown="Both", score="magnitude")
    shipped, metrics, charts = shipped_layer().study("magnitude"), page.metrics, page.charts
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


def captions(page: LayerPage) -> str:
    return " ".join(each.value for each in page.test.caption)


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


# ------------------------------------------------------------------------------------------ pins and the map


def test_what_is_pinned_stays_in_every_chart_until_it_is_let_go():
    page = LayerPage()
    page.press("Pin this view")
    assert page.test.query_params["pin"] == "target=70&layer=29.self_attn.v_proj"
    page.set("slider", "target", 60)
    page.set("segmented_control", "score", "magnitude")
    assert page.linked[0]["pinned"] == "pinned: 70%, wanda"
    assert all(any(mark["pinned"] for mark in panel["marks"]) for panel in page.charts.values())
    assert "(pinned 0.8" in str(page.linked[0]["numbers"])
    page.press("Unpin")
    assert not any(mark["pinned"] for panel in page.charts.values() for mark in panel["marks"])
    page.press("Reset to the defaults")
    assert page.metrics == LayerPage().metrics
    assert not page.test.query_params


@pytest.mark.parametrize(
    ("pin", "message"),
    [
        ("target=70", "names a layer"),
        ("target=900&layer=1.x", "whole number from 1 to 99"),
        ("layer=1.x&evil=1", "not part of a pin"),
        ("layer=1.x&score=<b>", "one of the scores"),
        ("layer=1.x&model=gone/away", "not in memory"),
        ("layer=29.self_attn.v_proj&max_row_sparsity=0.1", "cap"),
        ("layer=29.self_attn.v_proj&learning_rates=fast", "not a number"),
    ],
)
def test_a_pin_that_cannot_be_read_is_reported_and_nothing_is_lost(pin, message):
    page = LayerPage(pin=pin, target="60")
    (warning,) = page.test.warning
    assert message in warning.value.replace("\\", "")
    assert page.metrics["Pruned"] == "60.00%"
    page.press("Remove the pin")
    assert not page.test.warning


def test_a_pin_is_read_as_it_was_written():
    sample = SampleKey("a & b.txt", 8, 16, 4, 3, False)
    options = {**default_options(), "iterations": 4, "learning_rates": "0.1, 0.2", "max_row_sparsity": 0.9}
    pin = Pin(StudyKey(ModelKey("x/y", "cpu", "float32"), sample, "3.mlp.up_proj", "magnitude"), 55, options)
    assert Pin.read(pin.text()) == pin
    assert Pin.read(pin.text()).differences(dataclasses.replace(pin, percent=60)) == "55%"


def test_the_map_shows_the_model_and_a_click_opens_a_layer_of_it():
    page = LayerPage(part="All layers")
    assert list(page.charts) == ["layer_map"]
    assert len(trace(page.charts["layer_map"], "layers")["customdata"]) == 210
    page.test.session_state["go_to_layer"] = shipped_layer().gains.most.layer  # as `go_to_layer` does
    page.test.session_state["part"] = "Overview"
    page.run()
    assert list(page.charts) == FOUR_CHARTS
