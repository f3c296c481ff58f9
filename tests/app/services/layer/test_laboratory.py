"""What the server shares: cancelled at any stage, requested twice, with a cache that fails."""

import dataclasses
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import trim
from app.services.layer.background import Cancelled, Job
from app.services.layer.keys import ModelKey, SampleKey, SignalKey, SolutionKey, StudyKey
from app.services.layer.laboratory import Laboratory
from app.services.layer.tensor_layer import TensorLayer
from trim.models import loaded

PATIENCE_SECONDS = 120  # functions may have to be compiled first
SAMPLE = SampleKey(windows=4, length=16)


@pytest.fixture
def key(llama: Path, own_laboratory: Laboratory) -> StudyKey:
    return StudyKey(ModelKey(str(llama), "cpu"), SAMPLE, "1.mlp.gate_proj", "wanda")


class Stuck:
    """A function that does not look up in its first call, until it is let go."""

    def __init__(self, patch: pytest.MonkeyPatch, place: object, name: str) -> None:
        self.begun, self.free = threading.Event(), threading.Event()
        function = getattr(place, name)

        def first_waits(*arguments: object, **options: object) -> object:
            if not self.begun.is_set():
                self.begun.set()
                assert self.free.wait(PATIENCE_SECONDS)
            return function(*arguments, **options)

        patch.setattr(place, name, first_waits)


@pytest.fixture(params=["fetch", "load", "load_corpus", "capture", "curves"])
def stuck(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Stuck]]:
    """A stage that hangs: downloading or unpacking, loading, tokenizing, capturing, computing curves."""
    place, name = {
        "fetch": (loaded.sources, "fetch"),
        "load": (loaded.FetchedModel, "load"),
        "curves": (TensorLayer, "__init__"),
    }.get(request.param, (trim, request.param))
    made = Stuck(monkeypatch, place, name)
    yield request.param, made
    made.free.set()


def study_job(laboratory: Laboratory, key: StudyKey) -> Job:
    return laboratory.study(key, laboratory.model(key.model).result(PATIENCE_SECONDS))


def test_cancel_holds_at_every_stage(own_laboratory, key, stuck):
    stage, function = stuck
    in_model = stage in ("fetch", "load")
    job = own_laboratory.model(key.model) if in_model else study_job(own_laboratory, key)
    assert function.begun.wait(PATIENCE_SECONDS)
    assert own_laboratory.unfinished()
    begin = time.monotonic()
    job.cancel()
    with pytest.raises(Cancelled):
        job.result(PATIENCE_SECONDS)
    assert time.monotonic() - begin < 1
    assert own_laboratory.unfinished() == []
    own_laboratory.forget(key.model if in_model else key)
    again = own_laboratory.model(key.model) if in_model else study_job(own_laboratory, key)
    if stage == "capture":  # two at once would hear each other; it waits, and says so
        assert not again.wait(0.3)
        assert again.progress.what == "Waiting for the work before this"
    else:
        again.result(PATIENCE_SECONDS)
        assert not function.free.is_set()
    function.free.set()
    assert again.result(PATIENCE_SECONDS) is not None


def test_what_is_cached_goes_past_what_is_not(own_laboratory, key, monkeypatch):
    study_job(own_laboratory, key).result(PATIENCE_SECONDS)
    own_laboratory.forget(key)
    waiting = Stuck(monkeypatch, trim, "capture")
    slow = study_job(own_laboratory, dataclasses.replace(key, sample=SampleKey(windows=5, length=16)))
    assert waiting.begun.wait(PATIENCE_SECONDS)
    assert study_job(own_laboratory, key).result(PATIENCE_SECONDS).key == key
    assert study_job(own_laboratory, dataclasses.replace(key, layer="0.mlp.up_proj")).result(PATIENCE_SECONDS)
    assert not slow.done
    waiting.free.set()
    assert slow.result(PATIENCE_SECONDS)


def test_a_second_tab_waits_for_the_same_job(own_laboratory, key, monkeypatch):
    waiting = Stuck(monkeypatch, loaded.FetchedModel, "load")
    first = own_laboratory.model(key.model)
    assert waiting.begun.wait(PATIENCE_SECONDS)
    assert own_laboratory.model(key.model) is first
    other = own_laboratory.model(dataclasses.replace(key.model, dtype="float64"))
    assert isinstance(other.progress.what, str)
    waiting.free.set()
    assert first.result(PATIENCE_SECONDS).layers
    with pytest.raises(trim.SettingsError):
        other.result(PATIENCE_SECONDS)


def test_a_preview_comes_before_the_result(own_laboratory, key, monkeypatch):
    monkeypatch.setattr("trim.calibration.capture.CPU_PASS_TOKENS", 16 * 8)
    key = dataclasses.replace(key, sample=SampleKey(windows=12, length=16))
    previews, make = [], TensorLayer.__init__

    def note(layer: TensorLayer, sample: trim.LayerSample, score: str) -> None:
        previews.append(sample.inputs.shape[1])
        make(layer, sample, score)

    monkeypatch.setattr(TensorLayer, "__init__", note)
    whole = study_job(own_laboratory, key).result(PATIENCE_SECONDS)
    assert previews == [16, 24]
    assert whole.vectors == 24


def test_models_make_room_for_one_that_does_not_fit(own_laboratory, key, monkeypatch):
    study_job(own_laboratory, key).result(PATIENCE_SECONDS)
    calls, load = [], loaded.FetchedModel.load

    def first_fails(*arguments: object) -> trim.Model:
        calls.append(len(own_laboratory._tables[ModelKey].succeeded()))
        if len(calls) == 1:
            raise trim.NotEnoughMemoryError("full")
        return load(*arguments)

    monkeypatch.setattr(loaded.FetchedModel, "load", first_fails)
    assert own_laboratory.model(ModelKey(key.model.source, "cpu", "float16")).result(PATIENCE_SECONDS)
    assert calls == [1, 0]


def test_row_sparsities_are_learned_from_other_vectors_windows_or_texts(own_laboratory, key, tmp_path):
    model = own_laboratory.model(key.model).result(PATIENCE_SECONDS)
    other, settings = tmp_path / "other.txt", trim.SearchSettings(0.5)
    other.write_text("Few words. " * 500)
    for drawn, texts in (("vectors", ()), ("windows", ()), ("texts", (str(other),))):
        asked = SignalKey(key, settings, drawn, 2, 8, texts)
        found = own_laboratory.signal(asked, model).result(PATIENCE_SECONDS)
        assert found.sparsity.shape == (2, model.layers[key.layer].out_features)
        assert (found.gini[0] != found.gini[1]).any() == (drawn != "vectors")
        assert own_laboratory.started(asked)
        measured = own_laboratory.measured_signal(key, settings)
        assert measured is not None
        assert (measured[0], measured[1].titles) == (asked, found.titles)
    assert found.titles == (key.sample.corpus, str(other))


def test_a_layer_is_solved_alongside_trim_and_the_optimum(own_laboratory, key, monkeypatch):
    """From one pass of the text, at any target and by any solver; cancelled, and with too little text."""
    model = own_laboratory.model(key.model).result(PATIENCE_SECONDS)
    study = study_job(own_laboratory, key).result(PATIENCE_SECONDS)
    captured, capture = [], trim.capture
    monkeypatch.setattr(
        trim, "capture", lambda *given, **asked: captured.append(asked) or capture(*given, **asked)
    )

    def job(target: float, solver: str, of: StudyKey = key) -> Job:
        outcome = study.outcome(trim.SearchSettings(target))
        return own_laboratory.solution(
            SolutionKey(of, outcome.result.settings, False, solver), model, outcome
        )

    for target, solver in ((0.5, "solved"), (0.6, "sparsegpt")):
        found = job(target, solver).result(PATIENCE_SECONDS)
        assert int(found.counts.sum()) == int(study.outcome(trim.SearchSettings(target)).result.counts.sum())
        assert list(found.errors) == ["trim", "optimal"]
        assert found.of_layer(found.error) < found.of_layer(found.errors["trim"])
    assert [asked["products"] for asked in captured] == [True]
    solving = job(0.7, "alps")
    solving.cancel()
    with pytest.raises(Cancelled):
        solving.result(PATIENCE_SECONDS)
    short = dataclasses.replace(key, sample=dataclasses.replace(SAMPLE, windows=1, length=8))
    with pytest.raises(trim.SettingsError, match="and the text has 8; use more or longer windows"):
        job(0.5, "solved", short).result(PATIENCE_SECONDS)
