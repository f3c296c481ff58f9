"""The cache's folder, its limit, and what is left in it after interruptions."""

import contextlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import trim
from trim import cache
from trim.files import new_file, new_folder

pytestmark = pytest.mark.usefixtures("own_cache")


def entry(kind: str, name: str, size_bytes: int, age_seconds: float) -> Path:
    folder = cache.cache_folder() / kind / name
    folder.mkdir(parents=True)
    (folder / "content").write_bytes(b"x" * size_bytes)
    then = time.time() - age_seconds
    os.utime(folder, (then, then))
    return folder


def test_the_folder_can_be_chosen(monkeypatch, tmp_path):
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


def test_the_limit_is_a_number(monkeypatch):
    assert cache.limit_bytes() == 20 * 2**30
    monkeypatch.setenv("TRIM_CACHE_LIMIT_BYTES", "5000")
    assert cache.limit_bytes() == 5000
    for nonsense in ("20 GB", "-1", "", "²"):
        monkeypatch.setenv("TRIM_CACHE_LIMIT_BYTES", nonsense)
        with pytest.raises(trim.SettingsError, match="whole number"):
            cache.limit_bytes()


def test_captures_go_before_models_and_old_before_new(monkeypatch):
    old, new = entry("captures", "old", 1000, 60), entry("captures", "new", 1000, 30)
    model, used = entry("models", "old", 1000, 3600), entry("models", "used", 1000, 7200)
    assert cache.usage_bytes() == dict.fromkeys(cache.KINDS, 0) | {"captures": 2000, "models": 2000}
    monkeypatch.setenv("TRIM_CACHE_LIMIT_BYTES", "3000")
    cache.shrink_to_limit()
    assert [path.exists() for path in (old, new, model, used)] == [False, True, True, True]
    monkeypatch.setenv("TRIM_CACHE_LIMIT_BYTES", "1500")
    cache.shrink_to_limit(keep=used)
    assert [path.exists() for path in (old, new, model, used)] == [False, False, False, True]


def test_what_does_not_fit_makes_room_and_what_fits_is_not_measured_again(monkeypatch):
    monkeypatch.setenv("TRIM_CACHE_LIMIT_BYTES", "1500")
    old = entry("captures", "old", 400, 3600)
    paths = [cache.entry_path("budgets", {"a": number}) for number in range(3)]
    cache.store([(paths[0], bytes(400))])
    with monkeypatch.context() as patch:
        patch.setattr(cache, "shrink_to_limit", lambda _: pytest.fail("measured again"))
        cache.store([(paths[1], bytes(400))])
    assert old.exists()
    cache.store([(paths[2], bytes(400))])
    assert [path.exists() for path in (old, *paths)] == [False, True, True, True]


def test_threads_that_store_at_once_measure_once(monkeypatch):
    measured = []

    def measure(keep: object) -> int:
        measured.append(keep)
        time.sleep(0.05)
        return 10_000

    monkeypatch.setattr(cache, "shrink_to_limit", measure)
    paths = [cache.entry_path("checksums", {"file": number}) for number in range(4)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda path: cache.store([(path, b"sum")]), paths))
    assert len(measured) == 1


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


def test_a_new_folder_is_complete_or_absent():
    target = cache.cache_folder() / "models" / "a"
    with contextlib.suppress(ZeroDivisionError), new_folder(target) as folder:
        (folder / "half").write_text("x")
        raise ZeroDivisionError
    assert list(target.parent.iterdir()) == []
    for content in ("first", "second"):
        with new_folder(target) as folder:
            (folder / "content").write_text(content)
    assert (target / "content").read_text() == "first"  # whoever is done first
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_that_cannot_take_its_name_is_an_error():
    target = cache.cache_folder() / "models" / "a"
    target.parent.mkdir(parents=True)
    target.write_text("a file")
    with pytest.raises(OSError), new_folder(target) as folder:  # noqa: PT011 (the kind differs by system)
        (folder / "content").write_text("x")
    assert list(target.parent.iterdir()) == [target]


def test_a_new_file_is_complete_or_absent():
    target = cache.cache_folder() / "captures" / "a" / "b"
    with contextlib.suppress(ZeroDivisionError), new_file(target) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert list(target.parent.iterdir()) == []
    with new_file(target) as file:
        file.write(b"whole")
    assert [found.read_text() for found in target.parent.iterdir()] == ["whole"]


def test_files_and_folders_have_the_rights_that_the_user_gives_new_ones(tmp_path):
    with new_file(tmp_path / "file") as file:
        file.write(b"x")
    with new_folder(tmp_path / "folder"):
        pass
    (tmp_path / "plain").touch()
    (tmp_path / "plain-folder").mkdir()
    modes = {path.name: path.stat().st_mode for path in tmp_path.iterdir()}
    assert modes["file"] == modes["plain"]
    assert modes["folder"] == modes["plain-folder"]


def test_what_is_in_the_cache_is_not_measured_again_and_a_damaged_file_is():
    path = cache.entry_path("budgets", {"a": 1})
    measured: list[str] = []

    def text(value: str) -> str:
        def measure() -> str:
            measured.append(value)
            return value

        return cache.cached(path, measure, parse=bytes.decode, pack=str.encode)

    assert text("first") == "first"
    os.utime(path, (0, 0))
    assert text("second") == "first"
    assert path.stat().st_mtime > 0, "it was used just now, and goes last"
    path.write_bytes(path.read_bytes()[1:])
    assert [text("third"), text("fourth")] == ["third", "third"]
    assert measured == ["first", "third"]


def test_a_cache_that_cannot_be_written_costs_a_warning(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("TRIM_CACHE", str(tmp_path / "file"))
    for value in (1.0, 2.0):
        with pytest.warns(trim.CacheWarning, match="TRIM_CACHE"):
            assert cache.cached_numbers({"a": 1}, lambda value=value: [value]) == [value]


def test_numbers_may_be_nan():
    for _ in range(2):
        numbers = cache.cached_numbers({"a": 1}, lambda: [1.5, float("nan")])
        assert numbers == [1.5, pytest.approx(float("nan"), nan_ok=True)]


def test_a_limit_that_is_not_a_number_is_found_before_the_work(monkeypatch):
    monkeypatch.setenv("TRIM_CACHE_LIMIT_BYTES", "much")
    with pytest.raises(trim.SettingsError, match="whole number"):
        cache.cached_numbers({"a": 1}, lambda: pytest.fail("measured"))
    with pytest.raises(trim.SettingsError, match="whole number"):
        cache.cached_folder(cache.cache_folder() / "texts" / "a", lambda folder: pytest.fail("made"))
