"""Files that are complete or absent, and a folder that only one process writes."""

import errno
import os
from pathlib import Path
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
        trim.RunError,
        match=r"manifest\.json cannot be written \(No space left on device\); free some space there$",
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


def test_a_lock_that_cannot_be_written_leaves_no_folder(tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(trim.RunError, match=r"No space left on device.*free some space"):
        FolderLock(tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("record", "command"),
    [("config.json", "trim resume"), ("recovery.json", "trim resume"), ("sweep.json", "sweep --resume")],
)
def test_what_has_begun_says_how_it_resumes(tmp_path, record, command):
    (tmp_path / "blocks").touch()  # a file where a folder should be
    for path in (tmp_path / "blocks/000.safetensors", tmp_path / "blocks/x/y"):
        with pytest.raises(trim.RunError) as error:
            write_atomically(path, b"")
        assert "resume" not in str(error.value)
    (tmp_path / record).touch()
    with pytest.raises(trim.RunError, match=f"resumes with: .*{command} {tmp_path}$"):
        write_atomically(tmp_path / "blocks/000.safetensors", b"")
