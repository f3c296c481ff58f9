"""Addresses that nobody meant: every parameter of every page, from a stranger."""

import string
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

import trim
from app.services.jobs.manager import JOBS
from app.services.layer.laboratory import Laboratory
from app.services.results.picks import Pick
from app.services.runs.store import RunStore
from app.services.server.access import PresenterNeededError, Seminar
from app.ui.common import search_options
from app.ui.common.selection import MAX_ROWS, RowsError, parse_rows
from tests.app.page import visit
from tests.app.small import study
from tests.app.small_runs import make_run
from trim.errors import RunError, TrimError

PLACES = (
    "../../etc/passwd", "/etc/passwd", "..\\..\\x", "C:\\x", "file:///etc/passwd", "mine/../mine", ".", "mine\0",
)  # fmt: skip
MARKS = (
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[a](javascript:alert(1))", "$x$", "{{7*7}}", "%s%n",
)  # fmt: skip
NUMBERS = (
    "-1", "0", "1e999", "nan", "inf", "-inf", "2147483648", "9" * 400, "0x10", "1_0", "٣", "½", "--", "1,5",
)  # fmt: skip
WORDS = (
    "", " ", "true", "None", "null", "[]", "mine", "mine/0.mlp.gate_proj", "mine/0.mlp.gate_proj/uniform", "a/b/c/d",
)  # fmt: skip
anything = st.one_of(
    st.sampled_from(PLACES + MARKS + NUMBERS + WORDS),
    st.text(max_size=30),
    st.text(string.digits + "-–,. ", max_size=12),
    st.integers().map(str),
    st.floats().map(str),
    st.text(min_size=300, max_size=400),
)
# A visit takes a fifth of a second: whole pages get all parameters at once; what reads them is drilled with more.
VISITS = settings(
    max_examples=settings.default.max_examples // 4,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

LAYER = (
    "model", "text", "windows", "length", "vectors", "seed", "block", "layer", "score", "target", "rows", "part",
    "layer_quality", "row_quality", "iterations", "rates", "negative_rates", "cap", "row_weights", "shown",
)  # fmt: skip
LEARN = (
    "step", "reveal", "run", "loudness", "factor", "iteration", "outliers", "real_block", "model_sparsity",
)  # fmt: skip
PARAMETERS = {
    "model": ("run", "from", "present"),
    "runs": ("run", "search", "kind", "present"),
    "compare": ("a", "b", "c", "d", "rows", "present"),
    "paper": ("paper_run", "paper_layer", "paper_second", "present"),
    "stored": ("run", "layer", "rows", "part", "more", "cosine", "present"),
    "learn": (*LEARN, "present"),
    "": (*LAYER, "more", "cosine", "present"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two runs, and nothing that came with the app."""
    made = tmp_path_factory.mktemp("runs")
    make_run(made / "mine")
    make_run(made / "other", "optimal", blocks=1)
    return made


@pytest.fixture
def laboratory(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laboratory]:
    """A server with those runs and one open layer, on which nothing else can be computed."""
    monkeypatch.setenv("TRIM_RUNS", str(folder))
    monkeypatch.setattr("app.services.runs.store.STORE._shipped", lambda: tmp_path)
    made, layer = Laboratory(), study()
    monkeypatch.setattr(made, "open_studies", lambda: [layer])
    for place in ("waiting", "seminar"):
        monkeypatch.setattr(f"app.ui.common.{place}.laboratory", lambda: made)
    return made


# ---------------------------------------------------------------------------------------- what reads parameters


@given(anything)
def test_a_pick_is_refused_or_means_itself(text):
    try:
        pick = Pick.parse(text)
    except RunError:
        return
    assert str(pick) == text


@given(name=anything)
def test_an_id_finds_a_run_or_nothing(folder, name):
    store = RunStore(lambda: folder, lambda: folder / "none")
    try:
        found = store.find(name)
    except RunError:
        return
    assert found.path.parent == folder


@given(name=anything, layer=anything)
def test_a_layer_of_a_run_is_refused_with_a_message(folder, name, layer):
    store = RunStore(lambda: folder, lambda: folder / "none")
    for run_id in (name, "mine"):
        with pytest.raises(RunError):
            store.layer(run_id, f"{layer}?")


@given(name=anything)
def test_no_job_has_such_a_name(name):
    try:
        assert not JOBS.state(name).active
        assert JOBS.record(name) is None
    except RunError:
        pass


@given(anything)
def test_rows_are_rows_of_the_layer(text):
    try:
        rows = parse_rows(text, 12)
    except RowsError:
        return
    assert rows == sorted(set(rows))
    assert all(0 <= row < 12 for row in rows)
    assert len(rows) <= MAX_ROWS


@given(target=st.floats(0.01, 0.99), rates=anything, negative=anything, iterations=st.integers(1, 100))
def test_search_options_are_settings_or_refused(target, rates, negative, iterations):
    options = search_options.default_options() | {
        "learning_rates": rates,
        "negative_learning_rates": negative,
        "iterations": iterations,
    }
    try:
        made = search_options.settings(target, options)
    except TrimError:
        return
    assert isinstance(made, trim.SearchSettings)


@given(given=anything)
def test_no_guess_is_the_code(given):
    made = Seminar("open sesame", clock=lambda: 0.0)
    made.who = lambda: "guest"
    with pytest.raises(PresenterNeededError):
        made.unlock(given)
    assert not made.may()


def controls() -> None:
    """Every control whose value is in the address of the Layer page, on one page without charts."""
    import streamlit as st

    from app.services.runs.layer import LayerView
    from app.services.runs.store import STORE
    from app.ui.common.address import store_address
    from app.ui.common.choose import choose_model, choose_text
    from app.ui.common.parts import choose_part
    from app.ui.common.search_options import choose_search_options, choose_shown, fisher_wanted
    from app.ui.common.selection import choose_rows
    from app.ui.layer.parts import PARTS

    store_address()
    choose_model(["cpu"])
    choose_text()
    choose_search_options()
    choose_shown()
    fisher_wanted()
    layer = LayerView.of(STORE.open("mine"), STORE.layer("mine", "0.mlp.gate_proj"))
    choose_rows(layer.rows, lambda: layer)
    st.slider("target", 1, 99, 70, key="target", bind="query-params")
    choose_part(PARTS)


@VISITS
@given(values=st.lists(anything, min_size=len(LAYER), max_size=len(LAYER)))
def test_every_bound_control_takes_any_address(laboratory, values):
    test = AppTest.from_function(controls, default_timeout=60)
    for name, value in zip(LAYER, values, strict=True):
        test.query_params[name] = value
    test.run()
    assert not test.exception, [each.value for each in test.exception]
    assert 1 <= test.slider(key="target").value <= 99
    assert 1 <= test.number_input(key="windows").value <= 4096


# --------------------------------------------------------------------------------------------------- whole pages


@pytest.mark.parametrize("page", PARAMETERS)
def test_every_page_survives_any_address(laboratory, seminar, page):
    names = PARAMETERS[page]

    @VISITS
    @given(st.lists(anything, min_size=len(names), max_size=len(names)))
    def drill(values: list[str]) -> None:
        test = visit(page, **dict(zip(names, values, strict=True)))
        assert test.title or test.subheader or test.get("bidi_component")
        assert not laboratory.unfinished()

    drill()
