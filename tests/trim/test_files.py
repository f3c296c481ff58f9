"""Files that are complete or absent, and a folder that only one process writes."""

import errno
import os
from unittest.mock import Mock

import pytest

import trim
from tests.processes import python
from trim.files import FolderLock, atomic_file, is_locked, write_atomically


def test_a_second_process_is_refused_and_a_dead_one_is_not(tmp_path):
    held = FolderLock(tmp_path)
    take = f"from trim.files import FolderLock; from pathlib import Path; FolderLock(Path({str(tmp_path)!r}))"
    with pytest.raises(
        AssertionError, match=rf"RunLockedError.* another process \(process id {os.getpid()}\)"
    ):
        python(take)
    assert is_locked(tmp_path)
    held.release()
    assert not is_locked(tmp_path)
    assert not is_locked(tmp_path / "nowhere")
    with pytest.raises(AssertionError, match=r"^-9: "):
        python(take + "; import os; os.kill(os.getpid(), 9)")
    FolderLock(tmp_path).release()


def test_a_full_disk_keeps_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "manifest.json"
    write_atomically(path, b"whole")
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(
        trim.RunError, match=r"manifest\.json cannot be written \(No space left on device\).*resume"
    ):
        write_atomically(path, b"half")
    assert path.read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["manifest.json"]


def test_an_interrupted_file_leaves_nothing(tmp_path):
    def interrupted():
        with atomic_file(tmp_path / "x") as file:
            file.write(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.listdir(tmp_path) == []
