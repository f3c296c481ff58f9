"""X-rays of checkpoints that a few independent lines have pruned, against counts of numpy."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import trim
from tests.diagnostics.test_concentration import naive_gini
from tests.trim import tiny
from tests.trim.models import gguf_files
from trim.cli import main
from trim.evaluation import xray_layer
from trim.evaluation.xray_text import findings, xray_to_json
from trim.methods.least_squares import TextProducts
from trim.methods.solve import solve
from trim.models.gguf_header import read_gguf_header

LAYER = "1.mlp.up_proj"
TENSOR = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    """A folder with a tiny dense model."""
    return tiny.folder(tmp_path_factory.mktemp("dense"))


@pytest.fixture
def pruned(dense, tmp_path):
    """A function that writes a copy of the dense model with every block's matrices changed."""

    def write(change):
        weights = load_file(dense / "model.safetensors")
        for name, weight in weights.items():
            if ".layers." in name and weight.dim() == 2:
                weights[name] = torch.from_numpy(change(name, weight.numpy().copy())).contiguous()
        folder = tmp_path / "pruned"
        folder.mkdir()
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        for file in dense.iterdir():
            if file.suffix == ".json":
                (folder / file.name).write_bytes(file.read_bytes())
        return folder

    return write


def smallest_of_rows(share):
    """Prune the smallest magnitudes of each row."""

    def change(name, weight):
        count = round(share * weight.shape[1])
        np.put_along_axis(weight, np.abs(weight).argsort(axis=1, kind="stable")[:, :count], 0, axis=1)
        return weight

    return change


def layer_of(found, name=LAYER):
    return next(layer for layer in found.layers if layer.name == name)


def test_zeros_by_layer_row_and_column(dense, pruned):
    def change(name, weight):
        if name == TENSOR:
            weight[3] = 0
            weight[:, 5] = 0
            weight[1, :7] = 0
        return weight

    folder = pruned(change)
    weight = load_file(folder / "model.safetensors")[TENSOR].numpy()
    found = trim.xray(folder)
    layer = layer_of(found)
    np.testing.assert_array_equal(layer.row_zeros, (weight == 0).sum(axis=1))
    np.testing.assert_array_equal(layer.column_zeros, (weight == 0).sum(axis=0))
    assert (layer.shape, layer.dead_rows, layer.dead_columns, layer.fit) == ((48, 32), 1, 1, None)
    assert np.isnan(layer.gini[3])
    ginis = [naive_gini(abs(row[row != 0])) for row in weight[[0, 1, 40]]]
    np.testing.assert_allclose(layer.gini[[0, 1, 40]], ginis, rtol=1e-6)
    assert [each.zeros for each in found.layers if each.name != LAYER] == [0] * (7 * tiny.BLOCKS - 1)
    assert len(found.layers) == len(trim.load_model(dense).layers)
    assert "Rows differ in 1 of 1 layers with zeros, most in 1.mlp.up_proj: from 3.1% to 100.0%." in findings(
        found
    )


def test_a_magnitude_mask_of_rows_is_recognised(dense, pruned):
    found = trim.xray(pruned(smallest_of_rows(0.5)), dense)
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


def test_reading_in_parts_gives_the_same_numbers_and_can_be_cancelled(dense, pruned, tmp_path, monkeypatch):
    def change(name, weight):
        groups = smallest_of_rows(0.5)(name, weight.reshape(-1, 4)).reshape(weight.shape)
        groups[-1, -4:] = 1.0
        groups[0, :2] *= 1.01
        return groups

    folder = pruned(change)
    weights = load_file(folder / "model.safetensors")
    stacked = torch.stack([weights[f"model.layers.{block}.mlp.up_proj.weight"] for block in range(3)])
    save_file(weights | {"model.layers.0.experts": stacked}, folder / "model.safetensors", {"format": "pt"})
    whole = xray_to_json(trim.xray(folder, dense))
    assert {layer["groups_that_break_it"] for layer in whole["layers"]} == {1}
    monkeypatch.setattr(xray_layer, "_PART_NUMBERS", 96)  # three rows
    reported = []
    parts = xray_to_json(trim.xray(folder, dense, progress=reported.append))
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
        trim.xray(folder, progress=stop)
    assert len(heard) == 100


def test_moved_revived_and_damaged_weights_are_reported(dense, pruned, tmp_path):
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

    found = trim.xray(pruned(change), dense)
    layer = layer_of(found)
    assert (layer.not_finite, layer.parent.changed) == (2, 1.0)
    text = " ".join(findings(found))
    assert "Kept weights changed in 2 of 21 layers, most in 1.mlp.up_proj" in text
    assert "2 weights are NaN or infinite, in 1.mlp.up_proj." in text
    json.dumps(xray_to_json(found), allow_nan=False)
    before, after = (
        load_file(each / "model.safetensors")[moved].double().numpy() for each in (dense, tmp_path / "pruned")
    )
    kept = after != 0
    compared = layer_of(found, "0.mlp.up_proj").parent
    distance = np.linalg.norm((after - before)[kept]) / np.linalg.norm(before[kept])
    assert compared.moved == pytest.approx(distance, rel=1e-6)
    ranks = np.abs(before).argsort(axis=1).argsort(axis=1)
    smallest = ranks >= (~kept).sum(axis=1)[:, None]
    assert compared.magnitude == (kept & smallest).sum() / (kept | smallest).sum()
    again = trim.xray(dense, dense)
    assert findings(again)[0].startswith("Not pruned: none of its ")


def test_the_parent_of_another_shape_is_named_and_the_rest_is_shown(pruned, tmp_path):
    other = tiny.folder(tmp_path / "other", "opt")
    found = trim.xray(pruned(smallest_of_rows(0.5)), other)
    assert len(found.unmatched) == len(found.layers)
    assert found.sparsity == 0.5
    assert any("has no layer of the same name and shape for" in sentence for sentence in findings(found))


def test_experts_that_are_one_tensor_are_layers_by_their_number(dense, tmp_path):
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


def test_quantized_layers_are_named_and_the_rest_is_shown(tmp_path):
    kept = torch.ones(4, 8)
    kept[0] = 0
    tensors = {
        "model.layers.0.mlp.up_proj.weight": kept,
        "model.layers.0.mlp.down_proj.qweight": torch.zeros(4, 8, dtype=torch.int32),
        "model.layers.0.mlp.down_proj.scales": torch.ones(4, 8),
        "model.layers.1.mlp.up_proj.weight": torch.zeros(4, 8, dtype=torch.float8_e4m3fn),
    }
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    found = trim.xray(tmp_path)
    assert {layer.name: layer.zeros for layer in found.layers} == {"0.mlp.up_proj": 8}
    assert found.quantized == {"0.mlp.down_proj": "int32", "1.mlp.up_proj": "F8_E4M3"}
    (message,) = [sentence for sentence in findings(found) if "quantized" in sentence]
    assert message.startswith(
        "2 more layers are quantized (type F8_E4M3, int32) and left out: 0.mlp.down_proj, 1.mlp.up"
    )
    del tensors["model.layers.0.mlp.up_proj.weight"]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(trim.ModelError, match=r"all 2 layers of .* are quantized"):
        trim.xray(tmp_path)


def test_of_a_checkpoint_cut_short_the_rest_is_shown(dense, pruned, tmp_path):
    folder = pruned(smallest_of_rows(0.5))
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    parts = {
        f"part-{place}.safetensors": [name for name in weights if f".{place}." in name] for place in range(3)
    }
    for file, names in parts.items():
        save_file({name: weights[name] for name in names}, folder / file, {"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, names in parts.items() for name in names}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    whole = {layer.name: layer.zeros for layer in trim.xray(folder).layers}
    assert len(whole) == 21
    cut = folder / "part-1.safetensors"
    content = cut.read_bytes()
    cut.write_bytes(content[:-1])  # of the tensor that lies last
    found = trim.xray(folder, dense)
    (lost,) = found.lost
    assert {layer.name: layer.zeros for layer in found.layers} == {
        name: zeros for name, zeros in whole.items() if f"model.layers.{name}.weight" != lost
    }
    assert findings(found)[-2:] == [
        f"{cut} is damaged or was not downloaded to its end (it has {len(content) - 1:,} bytes, and its header "
        f"describes {len(content):,}); get it again from where the model comes from",
        f"1 tensor is lost with it: {lost}. All numbers describe the other tensors.",
    ]
    cut.write_bytes(content[:20])
    (folder / "part-2.safetensors").unlink()
    found = trim.xray(folder)
    assert {layer.name for layer in found.layers} == {name for name in whole if name.startswith("0.")}
    assert set(found.lost) == {*parts["part-1.safetensors"], *parts["part-2.safetensors"]}
    assert [
        "its header is cut short" in message or "is missing; get it" in message for message in found.damaged
    ] == [True] * 2
    (folder / "part-0.safetensors").write_bytes(b"")
    with pytest.raises(trim.ModelError, match=r"part-0.safetensors is damaged or was not"):
        trim.xray(folder)
    with pytest.raises(trim.ModelError, match=r"lacks 1 of the 3 parts"):  # what computes with it needs all
        trim.load_model(folder)


def test_of_a_gguf_file_cut_short_the_rest_is_shown(dense, tmp_path, own_cache):
    path, module = tmp_path / "cut.gguf", tiny.module("qwen2")
    with torch.no_grad():
        for block in module.model.layers:
            block.mlp.up_proj.weight[:3] = 0
    gguf_files.write(path, module, "qwen2", {})
    whole = trim.xray(path)
    path.write_bytes(path.read_bytes()[:-1])
    header = read_gguf_header(path, partly=True)
    last = max(header.tensors, key=lambda name: header.tensors[name].start)
    found = trim.xray(path, path)
    assert (found.lost, found.sparsity > 0) == ((last,), True)
    assert findings(found)[-2:] == [
        "cut.gguf is damaged or was not downloaded to its end; download it again",
        f"1 tensor is lost with it: {last}. All numbers describe the other tensors.",
    ]
    assert len(whole.layers) == len(found.layers) + last.startswith("blk.")
    zeros = {layer.name: layer.zeros for layer in whole.layers}
    assert {layer.name: layer.zeros for layer in found.layers}.items() <= zeros.items()
    with pytest.raises(trim.ModelError, match=r"cut\.gguf is damaged or was not downloaded to its end"):
        trim.load_model(path)


def test_a_checkpoint_without_blocks_is_refused(tmp_path):
    save_file({"weight": torch.ones(4, 4)}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(trim.ModelError, match="has no blocks: none of its 1 tensors is a matrix"):
        trim.xray(tmp_path)


def norms_of_inputs(folder, windows):
    """The norm of each input feature of each matrix, as Wanda's authors need it: √(Σ x²)."""
    module, squares = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64), {}

    def listen(name):
        return lambda _, given: squares.update({name: given[0].flatten(0, -2).square().sum(dim=0).numpy()})

    for name, part in module.named_modules():
        if isinstance(part, torch.nn.Linear):
            part.register_forward_pre_hook(listen(f"{name}.weight"))
    with torch.no_grad():
        module(windows)
    return {name: np.sqrt(each) for name, each in squares.items()}


def lowest_of_groups(score, size):
    """True for the lower half of the scores of every `size` neighbours in a row."""
    groups = score.reshape(len(score), -1, size)
    found = np.zeros(groups.shape, bool)
    np.put_along_axis(found, groups.argsort(axis=2, kind="stable")[..., : size // 2], True, axis=2)
    return found.reshape(score.shape)


@pytest.mark.parametrize("pattern", [None, "2:4"])
def test_a_checkpoint_of_a_peer_is_recognised(dense, pruned, pattern):
    windows = torch.randint(3, 256, (4, 16), generator=torch.Generator().manual_seed(0))
    norms, masks = norms_of_inputs(dense, windows), {}

    def change(name, weight):
        score = np.abs(weight) * norms[name]
        lost = lowest_of_groups(score, 4 if pattern else score.shape[1])
        masks[name] = ~lost, ~lowest_of_groups(score, score.shape[1])
        return np.where(lost, 0, weight)

    folder = pruned(change)
    seen = trim.xray(folder, dense)
    assert (seen.sparsity, None if seen.pattern is None else str(seen.pattern)) == (0.5, pattern)
    assert {layer.fit.broken for layer in seen.layers if layer.fit} == ({0} if pattern else set())
    model = trim.load_model(dense)
    found = trim.agreements(str(folder), model, windows)
    assert [each.name for each in found] == list(model.layers)
    for each in found:
        own, uniform = masks[f"model.layers.{each.name}.weight"]
        # Its rows lose as many as uniform, by the same scores.
        expected = (own & uniform).sum() / (own | uniform).sum()
        assert each.kept_by_both["rows"] == each.kept_by_both["uniform"] == expected
        assert (expected == 1) == (pattern is None)
        assert 0.3 < each.kept_by_both["trim"] <= 1
        assert 0.3 < each.kept_by_both["optimal"] < 1
    sample = trim.capture(model, windows, [LAYER])[LAYER]
    weight = load_file(folder / "model.safetensors")[TENSOR]
    output = sample.weight.double() @ sample.inputs.double()
    lost = (weight.double() - sample.weight.double()) @ sample.inputs.double()
    one = next(each for each in found if each.name == LAYER)
    assert one.error == pytest.approx(float(lost.square().sum() / output.square().sum()), rel=1e-5)
    with pytest.raises(trim.SettingsError, match=r"no layer of .* has zeros"):
        trim.agreements(str(dense), model, windows)


def test_masks_of_any_methods_and_scores_are_of_one_sparsity():
    generator = torch.Generator().manual_seed(0)
    weight, inputs = (torch.randn(*shape, generator=generator) for shape in ((6, 20), (20, 24)))
    sample = trim.LayerSample("0.mlp.up_proj", weight, inputs, inputs.square().sum(dim=1).sqrt())
    gram = inputs @ inputs.T
    sample = replace(sample, text=TextProducts(gram, gram))
    pairs = [
        ("wanda", "uniform"),
        ("", "solved"),
        ("magnitude", "layer"),
        ("wanda", "optimal"),
        ("magnitude", "trim"),
    ]
    masks = trim.method_masks(sample, 0.7, pairs)
    assert list(masks) == pairs
    assert {int((~mask).sum()) for mask in masks.values()} == {84}
    wanda = (weight.abs() * sample.input_norm).double().numpy()
    for row, kept in enumerate(masks["wanda", "uniform"].numpy()):
        assert set(np.flatnonzero(kept)) == set(np.argsort(wanda[row])[14:])
    least = np.sort(weight.abs().flatten().numpy())[84]
    np.testing.assert_array_equal(masks["magnitude", "layer"].numpy(), weight.abs().numpy() >= least)
    assert torch.equal(masks["", "solved"], solve(weight, sample.text, 84).keep)
    for pair, why in {
        ("wanda", "best"): "allocation 'best' is not one of uniform, trim",
        ("", "trim"): "score '' is not one of wanda, magnitude",
    }.items():
        with pytest.raises(trim.SettingsError, match=why):
            trim.method_masks(sample, 0.7, [pair])
    with pytest.raises(trim.SettingsError, match="capture it with products=True"):
        trim.method_masks(replace(sample, text=None), 0.7, [("", "alps")])


def test_the_command(dense, pruned, capsys):
    folder = pruned(smallest_of_rows(0.5))
    command = ["xray", str(folder), "--parent", str(dense)]
    text = ["--corpus", "demo", "--windows", "2", "--length", "16", "--device", "cpu", "--losses"]
    assert main([*command, *text]) == 0
    shown = capsys.readouterr().out
    assert "50.0% of its" in shown
    assert "mlp.down_proj          3     50.0%" in shown
    assert "Wanda at the checkpoint's row counts" in shown
    assert re.search(r"Pruning adds -?[\d.e-]+ nats per token", shown)
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["layers"][0]["sparsity"] == 0.5
    assert main(["xray", str(folder), "--corpus", "demo"]) == 2
    assert "name it with --parent" in capsys.readouterr().err
