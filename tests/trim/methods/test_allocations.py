"""The baselines inside a layer, and which combinations of settings make sense."""

import math
from dataclasses import replace

import pytest
import torch

import trim
from tests.app.small import layer_sample
from trim.methods.allocations import ScoredLayer, allocate_layer, allocate_pattern, allocate_variant
from trim.methods.choices import ALLOCATIONS
from trim.methods.pattern import Pattern
from trim.methods.quality import layer_quality
from trim.runs.settings import PruneSettings


def make_layer():
    return layer_sample(10, 24, 7, seed=4).scored("wanda")


def reordered(layer, score):
    """The same layer by other scores."""
    return ScoredLayer(trim.retention_curves(layer.curves.weight, layer.curves.inputs, score), score)


@pytest.mark.parametrize("name", ALLOCATIONS)
def test_counts_masks_and_scores_agree(name):
    layer = make_layer()
    score = layer.score
    # One weight more than the settings' target: the total counts.
    allocation = ALLOCATIONS[name](layer, 145, trim.SearchSettings(0.6))
    keep = trim.keep_mask(layer.curves.ranks, allocation.counts)
    for row in range(len(score)):
        kept, gone = score[row, keep[row]], score[row, ~keep[row]]
        assert not len(kept) or kept.min() >= gone.max()  # a row may lose all under `layer`
    assert allocation.keep is None or torch.equal(allocation.keep, keep)
    if name != "variant":
        assert int(allocation.counts.sum()) == 145


def test_variant_is_one_share_for_all_rows():
    layer = make_layer()
    allocation = allocate_variant(layer, 144, trim.SearchSettings(0.6))
    ascending = layer.score.sort(dim=1).values.double()
    shares = ascending.cumsum(dim=1) / ascending.sum(dim=1, keepdim=True)
    held = [
        float(shares[row, count - 1]) if count else 0.0
        for row, count in enumerate(allocation.counts.tolist())
    ]
    nexts = [float(shares[row, count]) for row, count in enumerate(allocation.counts.tolist())]
    assert max(held) <= min(nexts)
    assert 0.55 < float(allocation.counts.sum()) / layer.score.numel() <= 0.6


def test_variant_with_a_row_of_zeros():
    layer = make_layer()
    layer.score[4] = 0
    allocation = allocate_variant(reordered(layer, layer.score), 120, trim.SearchSettings(0.5))
    assert allocation.counts[4] == 12


@pytest.mark.parametrize("target", [1e-9, 0.1, 0.6, 0.949])
@pytest.mark.parametrize("ties", [False, True])
def test_layer_prunes_the_lowest_scores_whatever_their_rows(target, ties):
    layer = make_layer()
    if ties:
        layer = reordered(layer, (2 * layer.score).floor())
    score = layer.score
    total = round(target * score.numel())
    counts = allocate_layer(layer, total, trim.SearchSettings(target)).counts
    expected = torch.ones(score.numel(), dtype=torch.bool)
    expected[score.flatten().argsort(stable=True)[:total]] = False
    assert torch.equal(trim.keep_mask(layer.curves.ranks, counts), expected.view_as(score))
    assert int(counts.sum()) == total
    assert target < 0.5 or int(counts.max()) > 0.95 * score.shape[1]  # rows are not capped


@pytest.mark.parametrize(("text", "zeros", "group"), [("2:4", 2, 4), ("1:2", 1, 2), ("6:8", 6, 8)])
def test_patterns(text, zeros, group):
    layer = make_layer()
    curves, pattern = layer.curves, Pattern.parse(text)
    allocation = allocate_pattern(layer, pattern)
    groups = (~allocation.keep).view(10, -1, group)
    assert bool((groups.sum(dim=2) == zeros).all())
    assert pattern.sparsity == zeros / group == float(allocation.counts.double().mean()) / 24
    for kept, values in zip(allocation.keep.view(-1, group), layer.score.view(-1, group), strict=True):
        assert values[kept].min() >= values[~kept].max()
    pruned = (curves.weight * allocation.keep) @ curves.inputs
    expected = torch.nn.functional.cosine_similarity(curves.output.flatten(), pruned.flatten(), dim=0)
    assert float(layer_quality(allocation.retained, "cosim_flat")) == pytest.approx(float(expected), abs=1e-6)
    assert math.isfinite(float(layer_quality(allocation.retained, "mae")))
    assert math.isfinite(float(layer_quality(allocation.retained, "psnr_dim")))


def test_equal_scores_lose_the_first_of_the_group():
    layer = make_layer()
    keep = allocate_pattern(replace(layer, score=torch.ones_like(layer.score)), Pattern(2, 4)).keep
    assert torch.equal(keep.view(-1, 4), torch.tensor([False, False, True, True]).expand(60, 4))


@pytest.mark.parametrize("text", ["", "4", "4:2", "0:4", "2:4:8", "a:b", "2:2"])
def test_no_patterns(text):
    with pytest.raises(trim.SettingsError, match="a pattern is n:m"):
        Pattern.parse(text)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give the sparsity of the model"),
        ({"target": 1.2}, "above 0 and below 1"),
        ({"target": 0.97}, "row cap"),
        ({"target": 0.7, "allocation": "best"}, "allocation must be one of"),
        ({"target": 0.7, "score": "luck"}, "score must be one of"),
        ({"target": 0.7, "budget": "owls"}, "closest names: owl"),
        ({"target": 0.7, "layers": "1.*"}, "must be a list"),
        ({"target": 0.7, "batch": 0}, "at least one window"),
        ({"target": 0.7, "owl_width": 0.9}, "OWL's width"),
        ({"target": 0.7, "alpha_width": 0}, "AlphaPruning's width"),
        ({"target": 0.7, "alpha_fit": "mid"}, "alpha_fit"),
        ({"pattern": "2:4"}, "trim would have nothing to decide.*solved, alps, sparsegpt"),
        ({"pattern": "2:4", "allocation": "uniform", "target": 0.7}, "leave the target out"),
        ({"pattern": "2:4", "allocation": "uniform", "budget": "owl"}, "owl would have nothing to decide"),
        ({"pattern": "2:4", "allocation": "optimal"}, "nothing to"),
        ({"target": 0.7, "row_weights": "hessian"}, "row_weights must be one of"),
        ({"target": 0.7, "sensitivity_windows": 0}, "at least one window"),
        ({"target": 0.7, "iterations": 0}, "iteration"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(trim.SettingsError, match=message):
        PruneSettings("demo", **settings)


def test_settings_travel_as_json():
    settings = PruneSettings("demo", target=0.7, layers=["1.*"], learning_rates=[0.1], budget="owl")
    assert PruneSettings.from_json(settings.to_json()) == settings
    with pytest.raises(trim.SettingsError, match="another version"):
        PruneSettings.from_json({"model": "demo", "target": 0.5, "temperature": 1})
