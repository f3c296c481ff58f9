"""Models whose files change, before or while a run reads them, and models of another shape."""

import json
import shutil
import struct
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file

import trim
from tests.trim import rough
from tests.trim.rough import edit_weight, pruned
from trim.models.tensor_files import TensorFiles
from trim.runs import writer as run_writer
from trim.runs.json_files import settings_fingerprint

pytestmark = pytest.mark.usefixtures("nothing_left")


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


def test_masks_on_a_model_of_another_shape(own_llama, tmp_path):
    run = pruned(own_llama, tmp_path / "run")
    other = trim.load_model(rough.make_model("llama", tmp_path / "wide", intermediate_size=64), device="cpu")
    before = other.layers["0.self_attn.q_proj"].weight.clone()
    with pytest.raises(trim.ModelError, match=r"do not fit.*0\.mlp\.gate_proj is \(48, 32\)"):
        trim.apply_run(run, other)
    assert torch.equal(other.layers["0.self_attn.q_proj"].weight, before)
