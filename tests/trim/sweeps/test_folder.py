"""Folders of sweeps: from where they hold, and those that cannot be opened or are in use."""

import json

import pytest

import trim
from tests.trim.sweeps.grids import SHARED
from trim.cache import fingerprint


def test_paths_hold_from_any_folder(model, tmp_path, monkeypatch):
    (tmp_path / "text.txt").write_text("we the people " * 200)
    (tmp_path / "model").symlink_to(model)
    monkeypatch.chdir(tmp_path)
    text = trim.EvaluationText("text.txt", windows=2, length=16)
    grid = trim.SweepSettings("model", {"target": (0.5,)}, SHARED | {"corpus": "text.txt"}, (text,))
    trim.create_sweep("s", grid)
    monkeypatch.chdir("/")
    sweep = trim.run_sweep(trim.open_sweep(tmp_path / "s"))
    assert [outcome.problem for outcome in sweep.outcomes()] == [None]
    assert sweep.outcomes()[0].done


def test_folders_that_cannot_be_opened(done, tmp_path):
    folder = tmp_path / "sweeps" / "s"
    folder.mkdir(parents=True)
    config = json.loads((done.path / "sweep.json").read_text())

    def say(content: object, message: str) -> None:
        (folder / "sweep.json").write_text(content if isinstance(content, str) else json.dumps(content))
        with pytest.raises(trim.RunError, match=message):
            trim.open_sweep(folder)
        (entry,) = trim.list_sweeps(folder.parent)
        assert entry.opened is None
        assert entry.problem

    say(config | {"schema": 2}, "schema 2, and this version reads schema 1")
    say("{", "damaged")
    say(config | {"settings": 3}, "damaged")
    strange = config["settings"] | {"grid": {"new": [1]}}
    say(config | {"settings": strange, "fingerprint": fingerprint(strange)}, "is not a setting")
    say(config | {"settings": config["settings"] | {"shared": ["x"]}}, "damaged")
    say(config | {"settings": config["settings"] | {"grid": {"target": [0.5]}}}, "was edited")
    older = config["settings"] | {"texts": [{"corpus": "demo", "windows": 1, "length": 16, "whole": False}]}
    (folder / "sweep.json").write_text(
        json.dumps(config | {"settings": older, "fingerprint": fingerprint(older)})
    )
    (text,) = trim.open_sweep(folder).settings.texts  # from before windows could begin with BOS
    assert text.bos
    with pytest.raises(trim.RunError, match=r"no sweep\.json"):
        trim.open_sweep(tmp_path)


def test_a_second_process_is_refused(done):
    with done.locked(), pytest.raises(trim.RunLockedError):
        trim.run_sweep(done)
