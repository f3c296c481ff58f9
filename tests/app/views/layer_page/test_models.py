"""The Layer page with other models than the demo: tiny ones, ones that fail, and ones with nasty names."""

import gc

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

import trim
from app.services.layer import study as studies
from app.services.layer.background import Job, JobTable
from app.services.layer.keys import StudyKey
from app.ui.layer.more import MORE
from tests.app.page import LayerPage, steps
from tests.trim import tiny
from trim.calibration import capture
from trim.models.loaded import FetchedModel
from trim.progress import Progress

NASTY = "<b>bold<b> *star* [x](y) $a$ :red[r]"
SMALL_TEXT = {"windows": "4", "length": "32"}


pytestmark = pytest.mark.usefixtures("own_laboratory")


def failing_once(monkeypatch: pytest.MonkeyPatch, name: str, error: Exception) -> None:
    """Make the first call of a function of the library fail."""
    places = {"load_model": (FetchedModel, "load"), "curves_of_layers": (capture, "curves_of_layers")}
    place, name = places.get(name, (trim, name))
    function, calls = getattr(place, name), []

    def fails(*arguments: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == 1:
            raise error
        return function(*arguments, **options)

    monkeypatch.setattr(place, name, fails)


# ----------------------------------------------------------------------------------------- architectures


@pytest.mark.parametrize(
    ("kind", "title"),
    [
        ("llama", "1.mlp.gate_proj"),
        ("qwen2", "1.mlp.gate_proj"),
        ("opt", "1.fc2"),
    ],
)
def test_any_architecture(tmp_path, kind, title):
    page = LayerPage(model=str(tiny.folder(tmp_path / kind, kind)), **SMALL_TEXT)
    assert page.test.title[0].value.replace("\\", "") == title
    assert len(page.charts) == 4
    assert page.metrics["Pruned"] in ("69.99%", "70.00%", "70.01%")
    for path in page.test.selectbox(key="layer").options:
        page.set("selectbox", "layer", path)
        assert page.test.title[0].value.replace("\\", "") == f"1.{path}"
        assert len(page.charts) == 4
        assert not page.errors


def test_dead_rows_are_reported(tmp_path):
    folder = tiny.folder(tmp_path / "dead")
    model = trim.load_model(folder)
    model.layers["1.mlp.gate_proj"].weight.data[[3, 7]] = 0
    model.module.save_pretrained(folder)
    page = LayerPage(model=str(folder), rows="3", **SMALL_TEXT)
    assert "2 rows without output left out" in page.charts["cosine"]["finding"]
    assert steps(page.charts["gini"], "score").sum() == 46
    page.set("segmented_control", "part", "Rows")
    table = page.test.dataframe[0].value
    assert np.isnan(table["Gini"][0])
    assert table["cosine, TRIM"][0] == 0


def test_a_layer_of_one_dead_row_and_a_part_that_cannot_be_shown(tmp_path):
    folder = tiny.folder(tmp_path / "one", intermediate_size=1)
    model = trim.load_model(folder)
    model.layers["1.mlp.up_proj"].weight.data[:] = 0
    model.module.save_pretrained(folder)
    page = LayerPage(model=str(folder), layer="mlp.up_proj", part="Sparsity", rows="0", **SMALL_TEXT)
    assert "row_sparsity" in page.charts
    assert not page.errors
    page.set("segmented_control", "part", MORE)
    page.set("segmented_control", "more", "Channels")  # down has one weight in each row
    (error,) = page.errors
    assert "cannot be reached" in error
    assert page.metrics["TRIM"] == "0", "the rest of the page stays"


# ------------------------------------------------------------------------------------------------ names


def test_names_are_text_and_nothing_else(tmp_path):
    page = LayerPage(model=str(tiny.folder(tmp_path / NASTY)), rows="1", **SMALL_TEXT)
    assert len(page.charts) >= 4
    (heading,) = [text for text in page.texts if "bold" in text]
    assert heading.startswith(r"\<b\>bold\<b\> \*star\* \[x\]\(y\) \$a\$ \:red\[r\] · 48 rows")
    assert not any("<b>bold" in str(figure) for figure in page.charts.values())


def test_errors_are_text_and_nothing_else():
    page = LayerPage(model=f"./{NASTY}")
    (error,) = page.errors
    assert r"\<b\>bold\<b\> \*star\* \[x\]\(y\) \$a\$ \:red\[r\]" in error


def waiting() -> None:
    """A page that waits for a job, as AppTest runs it."""
    import streamlit as st

    from app.ui.common.waiting import result_or_stop

    result_or_stop(st.session_state["job"], "key")


def test_progress_is_text_and_nothing_else():
    job = Job()
    job.report(Progress(NASTY, 1, 4))
    test = AppTest.from_function(waiting)
    test.session_state["job"] = job
    test.run()
    (progress,) = test.get("progress")
    assert progress.proto.text.startswith(r"\<b\>bold\<b\> \*star\*")
    assert progress.proto.value == 25
    assert not test.exception


def test_cancel_ends_the_wait(own_laboratory):
    job = Job()
    test = AppTest.from_function(waiting)
    test.session_state["job"] = job
    test.run()
    (cancel,) = test.button
    cancel.click().run()
    assert job.cancelled
    assert [info.value for info in test.info] == ["Cancelled."]
    assert [button.label for button in test.button] == ["Try again"]


# ----------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        ("describe_model", trim.ModelError("there is no such model"), "there is no such model"),
        ("load_model", trim.ModelError("the file is damaged"), "the file is damaged"),
        ("load_corpus", trim.CorpusError("the text is too short"), "the text is too short"),
        ("capture", trim.NonFiniteError("1.fc1 receives NaN"), "1.fc1 receives NaN"),
        ("curves_of_layers", trim.NonFiniteError("weights hold NaN"), "weights hold NaN"),
        ("load_model", MemoryError(), "not enough memory"),
    ],
)
def test_what_fails_is_reported_and_can_be_tried_again(llama, monkeypatch, function, error, message):
    failing_once(monkeypatch, function, error)
    page = LayerPage(model=str(llama), **SMALL_TEXT)
    assert len(page.errors) == 1
    assert message in page.errors[0].replace("\\", "")
    assert page.charts == {}
    page.run()
    assert len(page.errors) == 1, "it is shown until somebody tries again"
    page.press("Try again")
    assert not page.errors
    assert len(page.charts) == 4


def test_the_earlier_layer_stays_when_the_next_cannot_be(llama, monkeypatch):
    page = LayerPage(model=str(llama), **SMALL_TEXT)
    before, title = page.charts, page.test.title[0].value
    failing_once(monkeypatch, "load_model", trim.ModelError("no memory for that type"))
    page.set("selectbox", "dtype", "float16")
    assert len(page.errors) == 1
    assert page.test.title[0].value == title
    assert page.charts == before
    assert any("Below: the last layer that could be shown" in text for text in page.texts)
    page.set("slider", "target", 50)
    assert page.metrics["Pruned"] == "50.00%"
    page.set("selectbox", "dtype", "automatic")
    assert not page.errors
    assert len(page.charts) == 4


def test_an_error_nobody_foresaw_is_gone_after_a_reload(llama, monkeypatch):
    failing_once(monkeypatch, "curves_of_layers", ZeroDivisionError())
    with pytest.raises(AssertionError, match="encountered an error"):
        LayerPage(model=str(llama), **SMALL_TEXT)
    assert len(LayerPage(model=str(llama), **SMALL_TEXT).charts) == 4


def test_a_timeout_inside_the_work_ends_the_progress(llama, monkeypatch):
    failing_once(monkeypatch, "describe_model", TimeoutError("the Hub is slow"))
    with pytest.raises(AssertionError, match="encountered an error"):
        LayerPage(model=str(llama), **SMALL_TEXT)


def test_a_text_of_ones_own(llama, tmp_path):
    text = tmp_path / "own.txt"
    text.write_text("It was a dark and stormy night. " * 200)
    page = LayerPage(model=str(llama), text=str(text), **SMALL_TEXT)
    assert len(page.charts) == 4
    assert any("own" in caption and "calibration vectors" in caption for caption in page.texts)


def test_more_vectors_than_tokens(llama):
    page = LayerPage(model=str(llama), windows="4", length="8", vectors="9")
    assert len(page.errors) == 1
    assert "input vectors" in page.errors[0]


# ------------------------------------------------------------------------------------------------ memory


def test_a_session_holds_on_to_few_studies(llama, own_laboratory):
    own_laboratory._tables[StudyKey] = JobTable(3, lambda study: 1)
    page = LayerPage(model=str(llama), rows="1,2", **SMALL_TEXT)
    for score in ("magnitude", "wanda"):
        page.set("segmented_control", "score", score)
        for path in page.test.selectbox(key="layer").options:
            page.set("selectbox", "layer", path)
    gc.collect()
    alive = [each for each in gc.get_objects() if type(each) is studies.Study]
    # Beside those that are kept, the one that the page shows and one that was made since something was dropped.
    assert sum(each.key.model.source == str(llama) for each in alive) <= 3 + 2


# ----------------------------------------------------------------------------------------- sensitivities


def test_fisher_row_weights(llama):
    plain = LayerPage(model=str(llama), rows="3", **SMALL_TEXT)
    before, metrics = plain.charts, plain.metrics
    page = LayerPage(model=str(llama), rows="3", row_weights="Fisher", **SMALL_TEXT)
    assert not page.test.warning
    assert "Fisher" in dict(page.linked[0]["meanings"])["Optimal"]
    model = trim.load_model(llama)
    windows = trim.load_corpus("demo", model.tokenizer, windows=4, length=32, seed=0)
    sensitivity = trim.sensitivity(model, windows)["1.mlp.gate_proj"]
    assert page.charts == before, "TRIM does not know them"
    assert page.metrics["Optimal"] != metrics["Optimal"]
    page.set("segmented_control", "part", "Rows")
    np.testing.assert_allclose(page.test.dataframe[0].value["sensitivity"], [sensitivity[3]])
    page.set("segmented_control", "part", "Gap")
    page.set("segmented_control", "gap_rows_view", "Against sensitivity")
    assert "gap_rows" in page.charts
    assert not page.errors
    page.set("segmented_control", "row_weights", "all alike")
    assert page.metrics == metrics
    assert "gap_rows" in page.charts
    assert not page.errors


def test_sensitivities_that_cannot_be_measured_leave_the_rest(llama, monkeypatch):
    page = LayerPage(model=str(llama), **SMALL_TEXT)
    metrics = page.metrics
    failing_once(monkeypatch, "sensitivity", trim.ModelError("no gradient reaches it"))
    page.set("segmented_control", "row_weights", "Fisher")
    assert len(page.errors) == 1
    assert page.metrics == metrics
    assert len(page.charts) == 4
    page.press("Try again")
    assert not page.errors
    assert page.metrics["Optimal"] != metrics["Optimal"]
