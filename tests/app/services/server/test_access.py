"""The presenter's code cannot be tried out, and readers see no path."""

import inspect
import os
from unittest.mock import Mock

import pytest

from app.services.server.access import (
    FIRST_WAIT_SECONDS,
    FREE_TRIES,
    MAX_WAIT_SECONDS,
    PresenterNeededError,
    Seminar,
)

CODE = "open sesame"


@pytest.fixture
def timed() -> tuple[Seminar, Mock]:
    """A seminar by a clock that is set by hand."""
    clock = Mock(return_value=1000.0)
    made = Seminar(CODE, clock=clock)
    made.who = lambda: "somebody"
    return made, clock


def test_outside_of_a_seminar_everybody_may():
    nobody = Seminar.from_environment({})
    assert nobody.may()
    assert not nobody.on
    nobody.require("Anything", "/any/model")
    assert nobody.without_paths("/a/b/c") == "/a/b/c"


@pytest.mark.parametrize("code", ["", "short", " short  ", "x" * 201])
def test_a_seminar_without_a_proper_code_does_not_start(code):
    with pytest.raises(ValueError, match="8 to 200 characters"):
        Seminar.from_environment({"TRIM_SEMINAR": "1", "TRIM_PRESENTER_CODE": code})


def test_the_code_makes_one_session_the_presenters():
    made = Seminar(CODE)
    made.who = lambda: "first"
    with pytest.raises(PresenterNeededError, match="not the presenter's code"):
        made.unlock("open sesamE")
    made.unlock(CODE)
    assert made.may()
    made.who = lambda: "second"
    assert not made.may()
    made.who = lambda: None  # a thread without a session
    assert not made.may()
    with pytest.raises(PresenterNeededError):
        made.unlock(CODE)
    made.who = lambda: "first"
    made.lock()
    assert not made.may()


def test_the_code_is_compared_in_constant_time():
    assert "hmac.compare_digest" in inspect.getsource(Seminar.unlock)


def test_wrong_codes_make_the_whole_server_wait(timed):
    made, clock = timed
    for each in range(FREE_TRIES):
        made.who = lambda each=each: f"tab {each}"  # another tab, the same count
        with pytest.raises(PresenterNeededError, match="not the presenter's code"):
            made.unlock("wrong code")
    made.who = lambda: "yet another tab"
    clock.return_value += FIRST_WAIT_SECONDS - 1
    with pytest.raises(PresenterNeededError, match="next try is possible in 1 s"):
        made.unlock(CODE)
    clock.return_value += 1.1
    with pytest.raises(PresenterNeededError, match=f"in {2 * FIRST_WAIT_SECONDS:.0f} s"):
        made.unlock("wrong again")
    clock.return_value += 2 * FIRST_WAIT_SECONDS + 1
    made.unlock(CODE)
    assert made.may()
    made.who = lambda: "another"
    with pytest.raises(PresenterNeededError) as refused:  # a right code begins the count anew
        made.unlock("wrong")
    assert "next try" not in str(refused.value)


def test_the_wait_is_bounded(timed):
    made, clock = timed
    for _ in range(40):
        with pytest.raises(PresenterNeededError):
            made.unlock("wrong code")
        clock.return_value += MAX_WAIT_SECONDS
    made.unlock(CODE)


def test_presenters_are_bounded(timed):
    made, _ = timed
    for each in range(100):
        made.who = lambda each=each: f"tab {each}"
        made.unlock(CODE)
    made.who = lambda: "tab 0"
    assert not made.may()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cannot read /srv/lab/runs/mine/config.json (gone)", "cannot read …/config.json (gone)"),
        ("“/srv/lab/model.gguf” is not a model", "“…/model.gguf” is not a model"),
        ("see ~/lab/runs, then", "see …/runs, then"),
        (r"C:\lab\runs\mine is full", "…/mine is full"),
        ("rows/s, 1/2/3, and/or, https://arxiv.org/abs/2505.16743", None),
        ("Qwen/Qwen2.5-0.5B and runs/first", None),
    ],
)
def test_readers_see_no_path(seminar, text, shown):
    assert seminar.without_paths(text) == (shown or text)
    seminar.unlock(CODE)
    assert seminar.without_paths(text) == text


def test_folders_with_blanks_are_hidden_as_well(seminar, tmp_path, monkeypatch):
    folder = tmp_path / "my lab, with blanks"
    monkeypatch.setenv("TRIM_RUNS", str(folder))
    shown = seminar.without_paths(f"The disk of {folder}/mine is full; so is {os.getcwd()}")
    assert str(tmp_path) not in shown
    assert "with blanks" not in shown
    assert os.getcwd() not in shown
    assert "/mine" in shown
