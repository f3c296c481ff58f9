"""Seminar mode: what a reader may not do is refused where it is done and not shown on any page; the launcher."""

import io
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import trim
from app import seminar as launcher
from app.services.jobs import continuations
from app.services.jobs.manager import RunJobs
from app.services.layer import keep
from app.services.layer.background import Job
from app.services.layer.keys import ModelKey
from app.services.layer.laboratory import Laboratory
from app.services.runs import files as run_files
from app.services.runs import importing as run_import
from app.services.runs import uploads as texts
from app.services.runs.store import STORE
from app.services.server.access import PresenterNeededError, Seminar
from app.ui.common.text import literal
from tests.app.page import ROOT, linked, run_page, visit
from tests.app.small import study
from tests.app.small_runs import make_run
from trim.evaluation.settings import Sampling

CODE = "open sesame"
PAGES = ("", "model", "runs", "compare", "learn", "paper", "xray", "stored")


# -------------------------------------------------------------------------------------------------- the guard


def test_every_service_that_changes_something_asks_the_guard(seminar, tmp_path, monkeypatch):
    monkeypatch.setenv("TRIM_RUNS", str(tmp_path))
    make_run(tmp_path / "mine")
    jobs, entry, laboratory = RunJobs(lambda: tmp_path), STORE.find("mine"), Laboratory()
    layer = study()
    outcome = layer.outcome(trim.SearchSettings(0.5))
    attempts = {
        "Pruning": lambda: jobs.prune(["demo"], "mine too"),
        "Resuming": lambda: jobs.resume("mine"),
        "Continuing a prompt": lambda: jobs.run_command("key", "a prompt", ["generate"]),
        "Continuing": lambda: continuations.begin_continuations(
            jobs, "Hello", Sampling(1, 0.0, 0), [entry.run]
        ),
        "Stopping": lambda: jobs.cancel("mine"),
        "Renaming": lambda: run_files.rename(entry, "other", ""),
        "Deleting": lambda: run_files.delete(entry),
        "Importing": lambda: run_import.import_run(io.BytesIO(b""), tmp_path, lambda _: False),
        "Keeping": lambda: keep.keep(layer, outcome, "trim", "kept"),
        "Uploading": lambda: texts.store_text("a.txt", b"text"),
        "Opening a model": lambda: laboratory.description("demo"),
        "Loading a model": lambda: laboratory.model(ModelKey()),
        "Preparing a layer": lambda: laboratory.study(layer.key, None),
        "Computing something again": lambda: laboratory.forget(layer.key),
        "A search with other options": lambda: layer.outcome(trim.SearchSettings(0.5, iterations=99)),
    }
    before = sorted(tmp_path.rglob("*"))
    for what, attempt in attempts.items():
        with pytest.raises(PresenterNeededError, match=f"^{what}.*presenter's code"):
            attempt()
    assert sorted(tmp_path.rglob("*")) == before
    assert not laboratory.unfinished()


def test_a_reader_may_move_the_target(seminar):
    assert study().outcome(trim.SearchSettings(0.61)).result.counts.sum() == round(0.61 * 12 * 20)


def test_the_presenter_opens_only_the_models_of_the_seminar(seminar, tmp_path):
    seminar.unlock(CODE)
    jobs = RunJobs(lambda: tmp_path)
    for attempt in (
        lambda: Laboratory().description(str(tmp_path)),
        lambda: Laboratory().model(ModelKey("someone/else")),
        lambda: jobs.prune([str(tmp_path)], "a path"),
    ):
        with pytest.raises(PresenterNeededError, match="limited to the models of this seminar: demo"):
            attempt()


def test_one_job_at_a_time_whatever_its_kind(seminar, tmp_path):
    seminar.unlock(CODE)
    jobs = RunJobs(lambda: tmp_path)
    with (
        jobs.turn(Job()),
        pytest.raises(trim.TrimError, match="layer is being prepared"),
    ):
        jobs.prune(["demo"], "meanwhile")


def test_jobs_do_not_receive_the_code(seminar, tmp_path, monkeypatch):
    monkeypatch.setenv("TRIM_PRESENTER_CODE", CODE)
    monkeypatch.setenv("TRIM_SEMINAR", "1")
    told = {}

    def refuse(*_, env: dict, **__):
        told.update(env)
        raise OSError("not in this test")

    monkeypatch.setattr("app.services.jobs.manager.subprocess.Popen", refuse)
    seminar.unlock(CODE)
    with pytest.raises(trim.TrimError, match="cannot be started"):
        RunJobs(lambda: tmp_path).prune(["demo"], "mine")
    assert told
    assert not [name for name in told if name.startswith(("TRIM_SEMINAR", "TRIM_PRESENTER"))]


# ------------------------------------------------------------------------------------------------------ pages


def test_text_on_pages_has_no_path(seminar):
    assert "srv" not in literal("broken: /srv/lab/model.gguf")


@pytest.fixture
def own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of runs with one of the user's, and a laboratory in which nothing is open."""
    monkeypatch.setenv("TRIM_RUNS", str(tmp_path))
    made = Laboratory()
    for place in ("waiting", "seminar"):
        monkeypatch.setattr(f"app.ui.common.{place}.laboratory", lambda: made)
    make_run(tmp_path / "mine")
    return tmp_path


def labels(test: AppTest) -> set[str]:
    """Return the labels of all buttons."""
    return {button.label for button in test.button}


@pytest.mark.parametrize("page", PAGES)
def test_readers_see_every_page_and_no_control_that_changes_anything(seminar, own_runs, page):
    test = visit(page, run="mine", **{"from": "mine"} if page == "model" else {})
    assert not labels(test) & {
        "Start",
        "Keep as a run",
        "Delete it",
        "Import",
        "Resume",
        "Save name and note",
    }
    assert not test.get("file_uploader")
    assert str(own_runs) not in repr(test.main) + repr(test.sidebar)


def test_the_layer_page_points_readers_to_stored_layers(seminar, own_runs):
    test = visit("", model="/srv/somebody/else", text="/etc/hostname")
    assert any("No layer is open on this server yet" in each.value for each in test.info)
    assert not [box for box in test.selectbox if box.label == "Model"]


def test_readers_explore_what_the_presenter_has_open(seminar, own_runs, monkeypatch):
    layer = study()
    monkeypatch.setattr(Laboratory, "open_studies", lambda _: [layer])
    test = visit("", target="40", iterations="99")
    assert test.title[0].value == literal("0.mlp.gate_proj")
    assert [panel["name"] for panel in linked(test)[0]["panels"]] == [
        "gini",
        "cosine",
        "row_sparsity",
        "rate",
    ]
    assert layer.latest.result.settings == trim.SearchSettings(0.4)
    test.slider(key="target").set_value(60).run()
    assert layer.latest.result.settings == trim.SearchSettings(0.6)


def test_session_state_makes_nobody_the_presenter(seminar, own_runs):
    test = visit("model")
    for name in ("presenter", "unlocked", "SEMINAR", "started_run", "may", "new_run"):
        test.session_state[name] = True
    test.session_state["started_run"] = "mine"
    assert "Start" not in labels(run_page(test))


def test_the_code_is_entered_in_the_side_bar(seminar, own_runs):
    test = visit("model")
    test.text_input(key="presenter_code").set_value("wrong one").run()
    next(each for each in test.button if each.label == "Unlock").click().run()
    assert any("not the presenter" in each.value for each in test.error)
    test.text_input(key="presenter_code").set_value(CODE)
    next(each for each in test.button if each.label == "Unlock").click().run()
    assert any("You are the presenter" in each.value for each in test.markdown)
    next(each for each in test.button if each.label == "Become a reader again").click().run()
    assert "Unlock" in labels(test)


# ----------------------------------------------------------------------------------------------- the launcher


def test_it_listens_elsewhere_only_as_a_seminar(monkeypatch, capsys):
    started = {}

    def become(program: str, command: list[str], environment: dict) -> None:
        started.update(command=command, environment=environment)

    monkeypatch.setattr(launcher.os, "execve", become)
    monkeypatch.setattr(launcher, "check_port", lambda *_: None)
    monkeypatch.delenv("TRIM_PRESENTER_CODE", raising=False)
    assert launcher.main(["--port", "8502", "--model", "a/b", "--host", "lab.example.org"]) == 0
    message, code = capsys.readouterr().out, started["environment"]["TRIM_PRESENTER_CODE"]
    assert code in message
    assert "http://lab.example.org:8502" in message
    assert len(code) == 14
    assert code != launcher.new_code()
    options = " ".join(started["command"])
    assert "--server.address 0.0.0.0" in options
    assert "--server.allowedHosts lab.example.org" in options
    made = Seminar.from_environment(started["environment"])
    assert made.models == {"demo", "a/b"}
    assert 'address = "127.0.0.1"' in (ROOT / ".streamlit/config.toml").read_text()


def test_a_code_of_ones_own_is_taken_and_not_printed(monkeypatch, capsys):
    monkeypatch.setattr(launcher.os, "execve", lambda *_: None)
    monkeypatch.setattr(launcher, "check_port", lambda *_: None)
    monkeypatch.setenv("TRIM_PRESENTER_CODE", CODE)
    assert launcher.main(["--listen", "127.0.0.1"]) == 0
    message = capsys.readouterr().out
    assert CODE not in message
    assert "http://127.0.0.1:8501" in message
    monkeypatch.setenv("TRIM_PRESENTER_CODE", "short")
    assert launcher.main([]) == 2
