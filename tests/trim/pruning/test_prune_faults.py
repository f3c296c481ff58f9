"""Whatever goes wrong on the way: nothing is lost, the message names the file and what to do, and no hook is left."""

import errno
import json
import os
import shutil
import struct
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch._subclasses.fake_tensor import FakeTensor

import trim
from tests.trim import rough
from tests.trim.rough import pruned
from tests.trim.runs.test_folder import SETTINGS
from trim.models.replay import BlockCall
from trim.models.streamed import StreamedModel
from trim.models.tensor_files import TensorFiles
from trim.runs import writer as run_writer
from trim.runs.json_files import settings_fingerprint


@pytest.fixture(autouse=True)
def streamed(monkeypatch):
    """Every model that a test streams; afterwards none holds hooks, weights or stand-ins."""
    models = []
    begin = StreamedModel.__init__

    def remember(self, *arguments, **options):
        begin(self, *arguments, **options)
        models.append(self)

    monkeypatch.setattr(StreamedModel, "__init__", remember)
    yield models
    for model in models:
        for name, part in model.module.named_modules():
            assert not part._forward_pre_hooks, name
            assert not part._forward_hooks, name
            assert "forward" not in part.__dict__, name
        assert all(parameter.is_meta for parameter in model.module.parameters())


@pytest.fixture
def stopped(own_llama, tmp_path):
    """A run that was stopped after its first block."""
    rough.stopped(pruned, own_llama, tmp_path / "run")
    return tmp_path / "run"


def edit_weight(folder, name, change):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors[name] = change(tensors[name].clone())
    save_file(tensors, path, metadata={"format": "pt"})


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


def test_a_model_that_has_changed_is_refused(own_llama, stopped, tmp_path):
    edit_weight(own_llama, "model.layers.2.mlp.up_proj.weight", lambda weight: weight * 1.01)
    with pytest.raises(trim.RunError, match="the model's files have changed since the run began"):
        trim.resume(stopped)
    assert trim.open_run(stopped).blocks == [0]


def flip(folder, name, start, count):
    """Change the signs of some numbers of a tensor in place: the file keeps its size and its header."""
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    (length,) = struct.unpack("<Q", content[:8])
    first = 8 + length + json.loads(content[8 : 8 + length])[name]["data_offsets"][0]
    for place in range(first + start + 3, first + start + count, 4):
        content[place] ^= 0x80
    path.write_bytes(content)


LAST = "model.layers.2.mlp.down_proj.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: shutil.rmtree(folder), r"cannot be read any more \(No such file"),
        (lambda folder: flip(folder, LAST, 0, 400), "was written to while it was in use"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b""),
            "was written to while it was in use",
        ),
    ],
)
def test_a_model_that_changes_during_the_run(own_llama, tmp_path, change, message):
    def listener(event):
        if type(event).__name__ == "BlockDone" and event.block == 0:
            change(own_llama)

    with pytest.raises(trim.ModelError, match=message):
        pruned(own_llama, tmp_path / "run", listener=listener)
    assert trim.open_run(tmp_path / "run").blocks == [0]


def test_a_model_that_changes_where_its_fingerprint_does_not_look(own_llama, stopped, monkeypatch):
    monkeypatch.setattr("trim.models.tensor_files._SAMPLE_BYTES", 64)
    path = stopped / "config.json"
    config = json.loads(path.read_text())
    config["settings"]["model"]["weights"] = TensorFiles(own_llama).fingerprint()
    path.write_text(json.dumps(config | {"fingerprint": settings_fingerprint(config["settings"])}))
    flip(own_llama, LAST, 0, 16)
    with pytest.raises(trim.RunError, match=r"the weights in .* have changed since the run began"):
        trim.resume(stopped)
    flip(own_llama, LAST, 0, 16)
    assert trim.resume(stopped).complete


def test_killed_before_the_checksums_of_the_model_are_written(own_llama, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(run_writer.RunWriter, "write_model_files", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            pruned(own_llama, tmp_path / "run")
    assert "model_files" not in trim.open_run(tmp_path / "run").manifest
    assert set(trim.resume(tmp_path / "run").manifest["model_files"]) == {"model.safetensors"}


def test_export_of_a_model_that_has_changed(own_llama, tmp_path):
    run = pruned(own_llama, tmp_path / "run")
    edit_weight(own_llama, "model.layers.2.mlp.up_proj.weight", lambda weight: weight * 1.01)
    with pytest.raises(trim.ModelError, match=r"has changed.*trim apply"):
        trim.export(run, tmp_path / "out")
    out = trim.export(run, tmp_path / "out", model=own_llama)
    weight = load_file(out / "model.safetensors")["model.layers.2.mlp.up_proj.weight"]
    keep = torch.from_numpy(run.layer("2.mlp.up_proj").keep())
    original = load_file(own_llama / "model.safetensors")["model.layers.2.mlp.up_proj.weight"]
    assert torch.equal(weight, original * keep)


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


def test_a_second_process_is_refused(own_llama, stopped):
    with (
        run_writer.RunWriter.reopen(stopped),
        pytest.raises(trim.RunLockedError, match="in use by another process"),
    ):
        trim.resume(stopped)
    assert trim.resume(stopped).complete


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
    with pytest.raises(trim.RunError, match="cannot be written"):
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
    with pytest.raises(trim.SettingsError, match="input vectors"):
        pruned(own_llama, tmp_path / "run", vectors_per_sequence=17)
    assert not (tmp_path / "run").exists()


def test_masks_on_a_model_of_another_shape(own_llama, tmp_path):
    run = pruned(own_llama, tmp_path / "run")
    other = trim.load_model(rough.make_model("llama", tmp_path / "wide", intermediate_size=64), device="cpu")
    before = other.layers["0.self_attn.q_proj"].weight.clone()
    with pytest.raises(trim.ModelError, match=r"do not fit.*0\.mlp\.gate_proj is \(48, 32\)"):
        trim.apply_run(run, other)
    assert torch.equal(other.layers["0.self_attn.q_proj"].weight, before)


def test_resume_of_what_is_not_a_complete_model(tmp_path):
    with pytest.raises(trim.RunError, match="not a folder"):
        trim.resume(tmp_path / "missing")
    assert not (tmp_path / "missing").exists()
    with run_writer.RunWriter.create(tmp_path / "layer", SETTINGS, kind="layer"):
        pass
    with pytest.raises(trim.RunError, match="single layers"):
        trim.resume(tmp_path / "layer")
