"""Where a run may be made: checked before anything slow starts."""

import os

import pytest

import trim
from tests.trim.runs.conftest import SETTINGS
from trim.runs.places import require_free, require_storable, require_writable
from trim.runs.writer import RunWriter


def test_a_place_is_checked_before_anything_is_made(folder):
    request = SETTINGS["request"]
    with pytest.raises(trim.RunError, match=r"other settings \(request\.target\)"):
        require_free(folder, request | {"target": 0.6})
    with pytest.raises(trim.RunError, match="this very run already, complete"):
        require_free(folder, request)
    with pytest.raises(trim.RunError, match=r"config\.json is a file, not a folder; choose"):
        require_free(folder / "config.json", request)
    with pytest.raises(trim.RunError, match=r"is a file, not a folder, so .*new cannot be made"):
        require_free(folder / "config.json/new", request)
    require_free(folder / "new/newer", request)
    assert not (folder / "new").exists()


def test_a_run_begins_where_another_was_killed_before_it_began(folder):
    new = folder.parent / "new"
    new.mkdir()
    for name in ("manifest.json", ".lock", ".config.json-0123456789ab"):
        (new / name).touch()
    require_free(new, SETTINGS["request"])
    with RunWriter.create(new, SETTINGS):
        pass
    assert {path.name for path in new.iterdir()} == {"manifest.json", "config.json", "lock", ".lock"}


def test_a_folder_that_may_not_be_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(trim.RunError, match=r"Permission denied.*make it writable for you"):
        require_writable(tmp_path / "run")
    with pytest.raises(trim.RunError, match=r"cannot be stored in .*make it writable for you"):
        require_storable(tmp_path)
