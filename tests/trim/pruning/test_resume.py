"""Runs that stopped: they end as if they had not, and what was edited or damaged is named."""

import errno
import os
import shutil

import pytest

import trim
from tests.trim import rough
from tests.trim.rough import pruned
from tests.trim.runs.test_folder import SETTINGS
from trim.runs import writer as run_writer

pytestmark = pytest.mark.usefixtures("nothing_left")


def test_ctrl_c_keeps_what_is_done(own_llama, stopped, tmp_path):
    run = trim.open_run(stopped)
    assert (run.blocks, run.complete) == ([0], False)
    assert list(run.events())[-1]["by"] == "KeyboardInterrupt"
    with pytest.raises(trim.RunError, match=r"not a complete run.*resume"):
        trim.export(stopped, tmp_path / "out")
    trim.resume(stopped)
    pruned(own_llama, tmp_path / "whole")
    rough.assert_same_blocks(stopped, tmp_path / "whole")
    assert trim.resume(stopped).complete
    assert not (stopped / "calibration.safetensors").exists()


def test_a_run_is_not_overwritten(own_llama, stopped):
    with pytest.raises(trim.RunError, match=r"this very run already, not complete.*resume"):
        pruned(own_llama, stopped)
    with pytest.raises(trim.RunError, match=r"other settings \(request\.target\)"):
        pruned(own_llama, stopped, target=0.6)


def test_edited_settings_are_refused(stopped):
    path = stopped / "config.json"
    path.write_text(path.read_text().replace('"target": 0.5', '"target": 0.6'))
    with pytest.raises(trim.RunError, match=r"config\.json was edited"):
        trim.resume(stopped)


def test_other_versions_and_devices_are_refused(stopped, monkeypatch):
    monkeypatch.setattr("platform.python_version", lambda: "3.0")
    with pytest.raises(trim.RunError, match=r"other versions of its libraries.*python"):
        trim.resume(stopped)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: os.truncate(path, path.stat().st_size - 100),
        lambda path: path.write_bytes(path.read_bytes()[:-5] + b"other"),
        lambda path: path.unlink(),
    ],
    ids=["cut", "altered", "gone"],
)
def test_damaged_blocks_are_named_and_repaired(own_llama, tmp_path, damage):
    run = pruned(own_llama, tmp_path / "run")
    shutil.copytree(tmp_path / "run", tmp_path / "whole")
    damage(tmp_path / "run" / "blocks" / "001.safetensors")
    with pytest.raises(trim.RunError, match=r"001\.safetensors is damaged.*--repair"):
        trim.resume(run.path)
    with pytest.raises(trim.RunError, match=r"began with tokens of your own"):
        trim.resume(run.path, repair=True)
    repaired = trim.resume(run.path, repair=True, tokens=rough.random_tokens())
    assert repaired.complete
    rough.assert_same_blocks(run.path, tmp_path / "whole")


def test_a_block_that_may_not_be_read_is_not_made_again(stopped, monkeypatch):
    def denied(*_: object) -> str:
        raise PermissionError(errno.EACCES, "Permission denied")

    blocks = trim.open_run(stopped).blocks
    monkeypatch.setattr("trim.pruning.prune.sha256_of_file", denied)
    with pytest.raises(trim.RunError, match=r"000\.safetensors cannot be read \(Permission denied\); check"):
        trim.resume(stopped, repair=True)
    assert trim.open_run(stopped).blocks == blocks


def test_a_second_process_is_refused(own_llama, stopped):
    with (
        run_writer.RunWriter.reopen(stopped),
        pytest.raises(trim.RunLockedError, match="in use by another process"),
    ):
        trim.resume(stopped)
    assert trim.resume(stopped).complete


def test_resume_of_what_is_not_a_complete_model(tmp_path):
    with pytest.raises(trim.RunError, match="missing does not exist; check the path"):
        trim.resume(tmp_path / "missing")
    assert not (tmp_path / "missing").exists()
    with run_writer.RunWriter.create(tmp_path / "layer", SETTINGS, kind="layer"):
        pass
    with pytest.raises(trim.RunError, match="single layers"):
        trim.resume(tmp_path / "layer")
