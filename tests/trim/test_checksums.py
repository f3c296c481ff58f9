"""Checksums of files: their cache, several at a time, and their progress."""

import hashlib

import pytest

from trim import cache, checksums
from trim.progress import Progress

pytestmark = pytest.mark.usefixtures("own_cache")


def test_a_checksum_is_cached_until_the_file_changes(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert checksums.cached_sha256_of_file(path) == known
    with monkeypatch.context() as patch:
        patch.setattr(checksums, "sha256_of_file", lambda _: pytest.fail("read again"))
        assert checksums.cached_sha256_of_file(path) == known
    (kept,) = (cache.cache_folder() / "checksums").iterdir()
    kept.write_bytes(kept.read_bytes().replace(b"b", b"c"))
    assert checksums.cached_sha256_of_file(path) == known
    path.write_bytes(b"abcd")
    assert checksums.cached_sha256_of_file(path) != known


def test_checksums_come_in_the_order_of_the_files_and_each_is_reported(tmp_path):
    files, told = [tmp_path / str(number) for number in range(5)], list[Progress]()
    for number, path in enumerate(files):
        path.write_bytes(bytes([number]) * 1_000_000 * (5 - number))
    made = checksums.checksums(files, checksums.sha256_of_file, "Reading", told.append)
    assert made == [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    assert [step.fraction for step in told] == [done / 5 for done in range(6)]
    assert {step.what for step in told} == {"Reading"}


def test_no_files_have_no_checksums():
    assert checksums.checksums([], checksums.sha256_of_file, "Reading", None) == []


def test_what_a_file_or_the_listener_raises_ends_the_work(tmp_path):
    (tmp_path / "there").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="missing"):
        checksums.checksums(
            [tmp_path / "there", tmp_path / "missing"], checksums.sha256_of_file, "Reading", None
        )

    def stop(step: Progress) -> None:
        if step.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checksums.checksums([tmp_path / "there"] * 9, checksums.sha256_of_file, "Reading", stop)
