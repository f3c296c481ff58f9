"""The cache's folder, its limit, and what is left in it after interruptions."""

import contextlib
import os
import time
from pathlib import Path

import pytest

import trim
from trim import cache


@pytest.fixture(autouse=True)
def _own(own_cache: Path) -> None:
    """Every test here has a cache of its own."""


def entry(kind: str, name: str, size_bytes: int, age_seconds: float) -> Path:
    folder = cache.cache_folder() / kind / name
    folder.mkdir(parents=True)
    (folder / "content").write_bytes(b"x" * size_bytes)
    then = time.time() - age_seconds
    os.utime(folder, (then, then))
    return folder


def test_the_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("TRIM_CACHE", "~/elsewhere")
    assert cache.cache_folder() == Path.home() / "elsewhere"
    monkeypatch.delenv("TRIM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert cache.cache_folder() == tmp_path / "trim-lab"
    monkeypatch.setattr("sys.platform", "darwin")
    assert cache.cache_folder() == Path.home() / "Library" / "Caches" / "trim-lab"
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "trim-lab"


def test_the_limit_is_a_number(monkeypatch: pytest.MonkeyPatch):
    assert cache.limit_bytes() == 20 * 2**30
    monkeypatch.setenv("TRIM_CACHE_LIMIT_BYTES", "5000")
    assert cache.limit_bytes() == 5000
    for nonsense in ("20 GB", "-1", "", "²"):
        monkeypatch.setenv("TRIM_CACHE_LIMIT_BYTES", nonsense)
        with pytest.raises(trim.SettingsError, match="whole number"):
            cache.limit_bytes()


def test_captures_go_before_models_and_old_before_new(monkeypatch: pytest.MonkeyPatch):
    old, new = entry("captures", "old", 1000, 60), entry("captures", "new", 1000, 30)
    model, used = entry("models", "old", 1000, 3600), entry("models", "used", 1000, 7200)
    assert cache.usage_bytes() == dict.fromkeys(cache.KINDS, 0) | {"captures": 2000, "models": 2000}
    monkeypatch.setenv("TRIM_CACHE_LIMIT_BYTES", "3000")
    cache.shrink_to_limit()
    assert [path.exists() for path in (old, new, model, used)] == [False, True, True, True]
    monkeypatch.setenv("TRIM_CACHE_LIMIT_BYTES", "1500")
    cache.shrink_to_limit(keep=used)
    assert [path.exists() for path in (old, new, model, used)] == [False, False, False, True]


def test_clear_leaves_what_is_not_ours():
    entry("captures", "a", 1000, 0)
    entry("models", "b", 500, 0)
    other = cache.cache_folder() / "somebody's letters.txt"
    other.write_text("keep")
    assert cache.clear() == 1500
    assert cache.clear() == 0
    assert other.read_text() == "keep"
    assert sum(cache.usage_bytes().values()) == 0


def test_what_a_killed_process_left_goes_after_a_day():
    young, left = entry("models", ".a-young", 10, 60), entry("models", ".a-left", 10, 2 * 24 * 3600)
    cache.shrink_to_limit()
    assert young.exists()
    assert not left.exists()


def test_a_new_folder_is_whole_or_absent():
    target = cache.cache_folder() / "models" / "a"
    with contextlib.suppress(ZeroDivisionError), cache.new_folder(target) as folder:
        (folder / "half").write_text("x")
        raise ZeroDivisionError
    assert list(target.parent.iterdir()) == []
    for content in ("first", "second"):
        with cache.new_folder(target) as folder:
            (folder / "content").write_text(content)
    assert (target / "content").read_text() == "first"  # whoever is done first
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_that_cannot_take_its_name_is_an_error():
    target = cache.cache_folder() / "models" / "a"
    target.parent.mkdir(parents=True)
    target.write_text("a file")
    with pytest.raises(OSError), cache.new_folder(target) as folder:  # noqa: PT011 (the kind differs by system)
        (folder / "content").write_text("x")
    assert list(target.parent.iterdir()) == [target]


def test_a_new_file_is_whole_or_absent():
    target = cache.cache_folder() / "captures" / "a" / "b"
    with contextlib.suppress(ZeroDivisionError), cache.new_file(target) as path:
        path.write_text("half")
        raise ZeroDivisionError
    assert list(target.parent.iterdir()) == []
    with cache.new_file(target) as path:
        path.write_text("whole")
    assert [found.read_text() for found in target.parent.iterdir()] == ["whole"]


def test_a_checksum_is_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert cache.file_sha256(path) == known
    with monkeypatch.context() as patch:
        patch.setattr(cache.hashlib, "file_digest", lambda *_: pytest.fail("read again"))
        assert cache.file_sha256(path) == known
    (remembered,) = (cache.cache_folder() / "checksums").iterdir()
    remembered.write_text("no checksum")
    assert cache.file_sha256(path) == known
    path.write_bytes(b"abcd")
    assert cache.file_sha256(path) != known
