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
        patch.setattr(checksums, "sha256_of_file", lambda *_: pytest.fail("read again"))
        assert checksums.cached_sha256_of_file(path) == known
    (kept,) = (cache.cache_folder() / "checksums").iterdir()
    kept.write_bytes(kept.read_bytes().replace(b"b", b"c"))
    assert checksums.cached_sha256_of_file(path) == known
    path.write_bytes(b"abcd")
    assert checksums.cached_sha256_of_file(path) != known


def test_checksums_come_in_the_order_of_the_files_and_bytes_are_reported(tmp_path):
    files, told = [tmp_path / str(number) for number in range(5)], list[Progress]()
    for number, path in enumerate(files):
        path.write_bytes(bytes([number]) * 1_000_000 * (5 - number))
    made = checksums.checksums(files, checksums.sha256_of_file, "Reading", told.append)
    assert made == [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
    assert {(step.what, step.of) for step in told} == {("Reading", 15_000_000)}
    assert (told[0].fraction, told[-1].fraction) == (0, 1)
    made = checksums.checksums(files, lambda path, read: path.name, "Reading", told.append)  # as if cached
    assert (made, told[-1].fraction) == (list("01234"), 1)


def test_one_large_file_reports_on_the_way_and_can_be_stopped_there(tmp_path, monkeypatch):
    (tmp_path / "large").write_bytes(bytes(10_000))
    monkeypatch.setattr(checksums, "PIECE_BYTES", 1)
    monkeypatch.setattr(checksums, "REPORT_SECONDS", 0)

    def stop(step: Progress) -> None:
        if step.done:
            assert step.done < step.of
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        checksums.checksums([tmp_path / "large"], checksums.sha256_of_file, "Reading", stop)


def test_no_files_have_no_checksums():
    assert checksums.checksums([], checksums.sha256_of_file, "Reading", None) == []


def test_what_a_file_raises_ends_the_work(tmp_path):
    (tmp_path / "there").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="missing"):
        checksums.checksums(
            [tmp_path / "there", tmp_path / "missing"], checksums.sha256_of_file, "Reading", None
        )
