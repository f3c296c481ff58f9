"""Masks of a checkpoint that a peer has pruned, against those of the library's methods at its sparsity."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import trim
from tests.trim.evaluation.checkpoints import LAYER, TENSOR
from trim.methods.least_squares import TextProducts
from trim.methods.solve import solve


def norms_of_inputs(checkpoint, windows):
    """The norm of each input feature of each matrix, as Wanda's authors need it: √(Σ x²)."""
    module, squares = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float64), {}

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
def test_a_checkpoint_of_a_peer_is_recognised(folder, pruned, pattern):
    windows = torch.randint(3, 256, (4, 16), generator=torch.Generator().manual_seed(0))
    norms, masks = norms_of_inputs(folder, windows), {}

    def change(name, weight):
        score = np.abs(weight) * norms[name]
        lost = lowest_of_groups(score, 4 if pattern else score.shape[1])
        masks[name] = ~lost, ~lowest_of_groups(score, score.shape[1])
        return np.where(lost, 0, weight)

    checkpoint = pruned(change)
    seen = trim.xray(checkpoint, folder)
    assert (seen.sparsity, None if seen.pattern is None else str(seen.pattern)) == (0.5, pattern)
    assert {layer.fit.broken for layer in seen.layers if layer.fit} == ({0} if pattern else set())
    model = trim.load_model(folder)
    found = trim.agreements(str(checkpoint), model, windows)
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
    weight = load_file(checkpoint / "model.safetensors")[TENSOR]
    output = sample.weight.double() @ sample.inputs.double()
    lost = (weight.double() - sample.weight.double()) @ sample.inputs.double()
    one = next(each for each in found if each.name == LAYER)
    assert one.error == pytest.approx(float(lost.square().sum() / output.square().sum()), rel=1e-5)
    with pytest.raises(trim.SettingsError, match=r"no layer of .* has zeros"):
        trim.agreements(str(folder), model, windows)


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
