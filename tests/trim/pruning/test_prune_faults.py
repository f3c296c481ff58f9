"""What goes wrong while a model is pruned: the message names the place and what to do, and no hook is left."""

import errno
import json
import os
import shutil
from unittest.mock import Mock

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor

import trim
from tests.trim import rough
from tests.trim.rough import edit_weight, pruned
from trim.models.replay import BlockCall

pytestmark = pytest.mark.usefixtures("nothing_left")


def test_a_full_disk(own_llama, tmp_path, monkeypatch):
    write, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) > 12:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(trim.RunError, match=r"No space left on device.*python -m trim resume"):
        pruned(own_llama, tmp_path / "run")
    monkeypatch.setattr(os, "fsync", write)
    trim.resume(tmp_path / "run")
    pruned(own_llama, tmp_path / "whole")
    rough.assert_same_blocks(tmp_path / "run", tmp_path / "whole")


def test_a_full_disk_while_exporting(own_llama, tmp_path, monkeypatch):
    run = pruned(own_llama, tmp_path / "run")
    monkeypatch.setattr(os, "fsync", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(trim.RunError, match=r"No space left on device.*export again"):
        trim.export(run, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "run"]


def test_outputs_that_cannot_be_written(own_llama, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(trim.RunError, match="choose another folder"):
        pruned(own_llama, tmp_path / "file" / "run")
    run = pruned(own_llama, tmp_path / "run")
    with pytest.raises(trim.RunError, match="exists already"):
        trim.export(run, own_llama)
    with pytest.raises(trim.RunError, match="is a file, not a folder; choose another folder"):
        trim.export(run, tmp_path / "file" / "out")


@pytest.mark.parametrize("budget", ["uniform", "owl", "alphapruning", "optimal"])
def test_nan_in_a_weight_names_the_layer(own_llama, tmp_path, own_cache, budget):
    edit_weight(
        own_llama,
        "model.layers.1.self_attn.v_proj.weight",
        lambda weight: weight.index_fill_(0, torch.tensor(3), torch.nan),
    )
    with pytest.raises(trim.NonFiniteError, match=r"1\.self_attn\.v_proj has a weight"):
        pruned(own_llama, tmp_path / "run", budget=budget)
    assert trim.open_run(tmp_path / "run").blocks == ([0] if budget == "uniform" else [])


def test_nan_in_an_activation_names_the_layer(own_llama, tmp_path):
    edit_weight(
        own_llama, "model.layers.1.post_attention_layernorm.weight", lambda weight: weight * torch.inf
    )
    with pytest.raises(trim.NonFiniteError, match=r"1\.mlp\.gate_proj receives NaN or infinite"):
        pruned(own_llama, tmp_path / "run")


def out_of_memory_above(limit, monkeypatch, only_after=0):
    """Blocks that have room for so many windows only."""
    replay, calls = BlockCall.replay, []

    def limited(self, block, states):
        if isinstance(states, FakeTensor):  # of the trial without numbers
            return replay(self, block, states)
        calls.append(len(states))
        if len(states) > limit and len(calls) > only_after:
            raise torch.OutOfMemoryError("no room")
        return replay(self, block, states)

    monkeypatch.setattr(BlockCall, "replay", limited)


@pytest.mark.parametrize("only_after", [0, 3, 5])
def test_memory_that_runs_out_makes_batches_smaller(own_llama, tmp_path, monkeypatch, only_after):
    notes = []
    with monkeypatch.context() as patch:
        out_of_memory_above(2, patch, only_after)
        run = pruned(
            own_llama,
            tmp_path / "run",
            batch=4,
            listener=lambda event: notes.append(getattr(event, "text", "")),
        )
    assert any("memory ran out" in note for note in notes)
    assert run.complete
    segments = [run.manifest["blocks"][str(index)]["propagated"] for index in range(3)]
    assert segments[1][-1][1] == 2
    # The last block made again, from the record of its batches: the same, bit for bit.
    shutil.copytree(run.path, tmp_path / "again")
    path = tmp_path / "again" / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["complete"] = False
    del manifest["blocks"]["2"]
    path.write_text(json.dumps(manifest))
    trim.resume(tmp_path / "again", tokens=rough.random_tokens())
    rough.assert_same_blocks(run.path, tmp_path / "again")


def test_one_window_that_does_not_fit(own_llama, tmp_path, monkeypatch):
    out_of_memory_above(0, monkeypatch)
    with pytest.raises(trim.NotEnoughMemoryError, match="--length"):
        pruned(own_llama, tmp_path / "run", batch=4)


LLAMA = "transformers.models.llama.modeling_llama"
NEVER_CALLED = r"0\.mlp\.gate_proj is never called; leave such layers out"


@pytest.mark.parametrize(
    ("place", "stand_in", "settings", "error", "message"),
    [
        (
            "trim.calibration.capture.curves_of_layers",
            Mock(side_effect=MemoryError),
            {},
            trim.NotEnoughMemoryError,
            r"0\.self_attn\.q_proj.*--vectors",
        ),
        (
            "shutil.disk_usage",
            lambda folder: shutil._ntuple_diskusage(100, 100, 0),
            {"activation_bytes": 0},
            trim.SettingsError,
            "fewer or shorter windows",
        ),
        (
            f"{LLAMA}.LlamaDecoderLayer.forward",
            lambda self, states, **more: {"states": states},
            {},
            trim.ModelError,
            "LlamaDecoderLayer returns dict",
        ),
        *(
            (
                f"{LLAMA}.LlamaMLP.forward",
                lambda self, states: states,
                settings,
                trim.ModelError,
                NEVER_CALLED,
            )
            for settings in ({}, {"recalculate_inputs": True}, {"refit": True})
        ),
        (
            "trim.calibration.text_pass.InputListener._receive",
            Mock(side_effect=ZeroDivisionError),
            {},
            ZeroDivisionError,
            None,
        ),
    ],
)
def test_what_goes_wrong_on_the_way(
    own_llama, tmp_path, monkeypatch, place, stand_in, settings, error, message
):
    monkeypatch.setattr(place, stand_in)
    with pytest.raises(error, match=message):
        pruned(own_llama, tmp_path / "run", **settings)


def test_texts_that_do_not_fit_the_model(own_llama, tmp_path):
    with pytest.raises(trim.CorpusError, match="at most 128 tokens"):
        trim.prune(own_llama, tmp_path / "run", target=0.5, length=200, windows=2, device="cpu")
    with pytest.raises(trim.CorpusError, match="beyond the model's vocabulary"):
        pruned(own_llama, tmp_path / "run", tokens=torch.full((2, 8), 5000))
    with pytest.raises(trim.SettingsError, match="not empty"):
        pruned(own_llama, tmp_path / "run", tokens=torch.empty((0, 8), dtype=torch.int64))
    with pytest.raises(trim.SettingsError, match="input vectors"):
        pruned(own_llama, tmp_path / "run", vectors_per_sequence=17)
    assert not (tmp_path / "run").exists()
