"""X-rays of checkpoints that a few independent lines have pruned, against counts of numpy."""

import json
import re

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import trim
from tests.diagnostics.test_concentration import naive_gini
from tests.trim import tiny
from tests.trim.evaluation.checkpoints import LAYER, TENSOR, smallest_of_rows
from trim.cli import main
from trim.evaluation import xray_layer
from trim.evaluation.xray_text import findings, xray_to_json


def layer_of(found, name=LAYER):
    return next(layer for layer in found.layers if layer.name == name)


def test_zeros_by_layer_row_and_column(folder, pruned):
    def change(name, weight):
        if name == TENSOR:
            weight[3] = 0
            weight[:, 5] = 0
            weight[1, :7] = 0
        return weight

    checkpoint = pruned(change)
    weight = load_file(checkpoint / "model.safetensors")[TENSOR].numpy()
    found = trim.xray(checkpoint)
    layer = layer_of(found)
    np.testing.assert_array_equal(layer.row_zeros, (weight == 0).sum(axis=1))
    np.testing.assert_array_equal(layer.column_zeros, (weight == 0).sum(axis=0))
    assert (layer.shape, layer.dead_rows, layer.dead_columns, layer.fit) == ((48, 32), 1, 1, None)
    assert np.isnan(layer.gini[3])
    ginis = [naive_gini(abs(row[row != 0])) for row in weight[[0, 1, 40]]]
    np.testing.assert_allclose(layer.gini[[0, 1, 40]], ginis, rtol=1e-6)
    assert [each.zeros for each in found.layers if each.name != LAYER] == [0] * (7 * tiny.BLOCKS - 1)
    assert len(found.layers) == len(trim.load_model(folder).layers)
    assert "Rows differ in 1 of 1 layers with zeros, most in 1.mlp.up_proj: from 3.1% to 100.0%." in findings(
        found
    )


def test_a_magnitude_mask_of_rows_is_recognised(folder, pruned):
    found = trim.xray(pruned(smallest_of_rows(0.5)), folder)
    assert (found.sparsity, found.pattern) == (0.5, None)
    for layer in found.layers:
        assert layer.parent is not None
        assert vars(layer.parent) == {
            "zeros_before": 0,
            "revived": 0,
            "changed": 0,
            "moved": 0,
            "magnitude": 1,
        }
    sentences = findings(found)
    assert "Within each layer all rows have the same sparsity, to the weight." in sentences
    assert "Every kept weight is as it was: pruned, not trained or refitted." in sentences
    bits = sum(-(-layer.weights // 8) for layer in found.layers)
    assert found.bytes_on_disk - found.bytes_packed == found.weights * 4 // 2 - bits


@pytest.mark.parametrize(("zeros", "group"), [(2, 4), (3, 4), (4, 8)])
def test_the_pattern_and_where_it_breaks(pruned, zeros, group):
    def change(name, weight):
        groups = weight.reshape(len(weight), -1, group)
        np.put_along_axis(groups, np.abs(groups).argsort(axis=2)[..., :zeros], 0, axis=2)
        if name == TENSOR:
            groups[2, 1] = 1.0
        return groups.reshape(weight.shape)

    found = trim.xray(pruned(change))
    assert str(found.pattern) == f"{zeros}:{group}"
    fit = layer_of(found).fit
    assert (fit.groups, fit.broken, fit.first) == (48 * 32 // group, 1, (2, group))
    assert layer_of(found, "0.mlp.up_proj").fit.broken == 0
    assert any("breaks it in 1 of" in sentence for sentence in findings(found))


def test_reading_in_parts_gives_the_same_numbers_and_can_be_cancelled(folder, pruned, tmp_path, monkeypatch):
    def change(name, weight):
        groups = smallest_of_rows(0.5)(name, weight.reshape(-1, 4)).reshape(weight.shape)
        groups[-1, -4:] = 1.0
        groups[0, :2] *= 1.01
        return groups

    checkpoint = pruned(change)
    weights = load_file(checkpoint / "model.safetensors")
    stacked = torch.stack([weights[f"model.layers.{block}.mlp.up_proj.weight"] for block in range(3)])
    save_file(
        weights | {"model.layers.0.experts": stacked}, checkpoint / "model.safetensors", {"format": "pt"}
    )
    whole = xray_to_json(trim.xray(checkpoint, folder))
    assert {layer["groups_that_break_it"] for layer in whole["layers"]} == {1}
    monkeypatch.setattr(xray_layer, "_PART_NUMBERS", 96)  # three rows
    reported = []
    parts = xray_to_json(trim.xray(checkpoint, folder, progress=reported.append))
    for layer, other in zip(whole["layers"], parts["layers"], strict=True):
        for key, value in (layer.pop("parent") or {}).items():
            assert other["parent"][key] == pytest.approx(value, rel=1e-6)
        assert layer.items() <= other.items()
    assert parts["findings"] == whole["findings"]
    done = [each.done for each in reported]
    assert (done == sorted(done), len(done) > 300, reported[-1].fraction) == (True, True, 1.0)
    heard = []

    def stop(now):
        heard.append(now)
        if len(heard) == 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trim.xray(checkpoint, progress=stop)
    assert len(heard) == 100


def test_moved_revived_and_damaged_weights_are_reported(folder, pruned, tmp_path):
    moved = "model.layers.0.mlp.up_proj.weight"

    def change(name, weight):
        weight = smallest_of_rows(0.5)(name, weight)
        if name == TENSOR:
            weight *= 1.1
            weight[0, 0], weight[0, 1] = np.nan, np.inf
        if name == moved:
            weight *= 1.05
            weight[:, ::3] = 0
        return weight

    found = trim.xray(pruned(change), folder)
    layer = layer_of(found)
    assert (layer.not_finite, layer.parent.changed) == (2, 1.0)
    text = " ".join(findings(found))
    assert "Kept weights changed in 2 of 21 layers, most in 1.mlp.up_proj" in text
    assert "2 weights are NaN or infinite, in 1.mlp.up_proj." in text
    json.dumps(xray_to_json(found), allow_nan=False)
    before, after = (
        load_file(each / "model.safetensors")[moved].double().numpy()
        for each in (folder, tmp_path / "pruned")
    )
    kept = after != 0
    compared = layer_of(found, "0.mlp.up_proj").parent
    distance = np.linalg.norm((after - before)[kept]) / np.linalg.norm(before[kept])
    assert compared.moved == pytest.approx(distance, rel=1e-6)
    ranks = np.abs(before).argsort(axis=1).argsort(axis=1)
    smallest = ranks >= (~kept).sum(axis=1)[:, None]
    assert compared.magnitude == (kept & smallest).sum() / (kept | smallest).sum()
    again = trim.xray(folder, folder)
    assert findings(again)[0].startswith("Not pruned: none of its ")


def test_the_parent_of_another_shape_is_named_and_the_rest_is_shown(pruned, tmp_path):
    other = tiny.folder(tmp_path / "other", "opt")
    found = trim.xray(pruned(smallest_of_rows(0.5)), other)
    assert len(found.unmatched) == len(found.layers)
    assert found.sparsity == 0.5
    assert any("has no layer of the same name and shape for" in sentence for sentence in findings(found))


def test_experts_that_are_one_tensor_are_layers_by_their_number(folder, tmp_path):
    experts = torch.ones(3, 4, 8)
    experts[1, 2] = 0
    save_file(
        {
            "model.layers.0.mlp.experts.gate_up_proj": experts,
            "model.layers.0.mlp.gate.weight": torch.ones(3, 8),
            "vision.blocks.0.attn.qkv.weight": torch.ones(4, 4),
            "model.embed_tokens.weight": torch.ones(9, 8),
            "model.layers.0.norm.weight": torch.ones(8),
        },
        tmp_path / "model.safetensors",
        {"format": "pt"},
    )
    found = trim.xray(tmp_path)
    assert {layer.name: layer.zeros for layer in found.layers} == {
        "0.mlp.experts.gate_up_proj[0]": 0,
        "0.mlp.experts.gate_up_proj[1]": 8,
        "0.mlp.experts.gate_up_proj[2]": 0,
        "0.mlp.gate": 0,
        "vision.blocks.0.attn.qkv": 0,
    }
    assert found.others == 2


def test_the_command(folder, pruned, capsys):
    checkpoint = pruned(smallest_of_rows(0.5))
    command = ["xray", str(checkpoint), "--parent", str(folder)]
    text = ["--corpus", "demo", "--windows", "2", "--length", "16", "--device", "cpu", "--losses"]
    assert main([*command, *text]) == 0
    shown = capsys.readouterr().out
    assert "50.0% of its" in shown
    assert "mlp.down_proj          3     50.0%" in shown
    assert "Wanda at the checkpoint's row counts" in shown
    assert re.search(r"Pruning (adds|saves) [\d.e-]+ nats per token", shown)
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["layers"][0]["sparsity"] == 0.5
    assert main(["xray", str(checkpoint), "--corpus", "demo"]) == 2
    assert "name it with --parent" in capsys.readouterr().err
