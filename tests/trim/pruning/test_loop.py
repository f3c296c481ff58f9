"""Whole models: the loop over blocks against plain transformers, and its exact sparsities."""

import contextlib
import json
import re

import numpy as np
import pytest
import torch
from torch import nn

import trim
from tests.trim import rough
from tests.trim.rough import pruned
from trim.calibration.calibration import Calibration
from trim.calibration.layers import linear_layers
from trim.calibration.text_pass import text_pass
from trim.models.architecture import find_blocks
from trim.models.streamed import StreamedModel
from trim.runs.settings import PruneSettings

CPU = torch.device("cpu")


def hidden_states(module, tokens, mask=None):
    """What enters each block, and what leaves the last one, by plain transformers."""
    states, blocks = [], find_blocks(module)
    last = []
    with contextlib.ExitStack() as hooks, torch.inference_mode():
        for block in blocks:
            hooks.enter_context(
                block.register_forward_pre_hook(
                    lambda _, given, more: states.append(given[0]), with_kwargs=True
                )
            )
        hooks.enter_context(
            blocks[-1].register_forward_hook(lambda block, given, output: last.append(output))
        )
        module(tokens, attention_mask=None if mask is None else mask.long(), use_cache=False)
    return [*states, *last]


@pytest.mark.parametrize("family", rough.FAMILIES)
def test_blocks_compute_what_the_whole_model_computes(family, tmp_path):
    """At no sparsity, in batches that do not divide the windows, with padding on the left and without."""
    folder = rough.make_model(family, tmp_path / "model")
    tokens = rough.random_tokens()
    mask = torch.ones_like(tokens, dtype=torch.bool)
    mask[1, :5] = mask[4, :9] = False
    for padding in (None, mask):
        model = StreamedModel(folder, device=CPU)
        calibration = Calibration.of(tokens, padding)
        expected = hidden_states(rough.load(folder), tokens, padding)
        with torch.inference_mode(), text_pass(model, calibration, batch=4, folder=tmp_path) as text:
            for index in range(3):
                with model.block(index) as block:
                    before = text.states.states.clone()
                    torch.testing.assert_close(before[mask], expected[index][mask])
                    text.capture(index, block, linear_layers(block, index, model.layers))
                    assert torch.equal(text.states.states, before), (
                        "capturing must not change what it looks at"
                    )
                    text.propagate(index, block)
            torch.testing.assert_close(text.states.states[mask], expected[3][mask])
        assert not [name for name, part in model.module.named_parameters() if not part.is_meta]


@pytest.mark.parametrize("family", rough.FAMILIES)
def test_every_family_end_to_end(family, tmp_path):
    """Layer and model sparsities are exact to the weight; what is exported is the masked original."""
    folder = rough.make_model(family, tmp_path / "model")
    run = pruned(folder, tmp_path / "run", target=0.63)
    original, result = rough.load(folder), rough.load(trim.export(run, tmp_path / "out"))
    before, after = original.state_dict(), result.state_dict()
    weights = gone = 0
    masked = {}
    for index, block in enumerate(find_blocks(original)):
        for path, layer in block.named_modules():
            if isinstance(layer, nn.Linear):
                name = f"{index}.{path}"
                record = run.layer(name)
                total = record.rows * record.columns
                assert abs(record.pruned - 0.63 * total) <= 1
                assert record.pruned == run.budgets["totals"][name]
                np.testing.assert_array_equal((~record.keep()).sum(axis=1), record.counts)
                weights, gone = weights + total, gone + record.pruned
                masked[id(layer.weight)] = torch.from_numpy(record.keep())
    assert abs(gone / weights - 0.63) <= 0.5 / weights + 1e-12
    assert run.metrics["sparsity"]["realised"] == gone / weights
    for name, parameter in original.named_parameters():
        expected = parameter * masked[id(parameter)] if id(parameter) in masked else parameter
        assert torch.equal(after[name], expected), name
    assert before.keys() == after.keys()
    with torch.inference_mode():
        assert bool(torch.isfinite(result(rough.random_tokens()).logits).all())


def test_the_loop_sees_pruned_blocks_before_and_this_one_dense(llama, tmp_path):
    """Against a slow oracle: mask the blocks so far with plain transformers, capture, score, allocate."""
    tokens = rough.random_tokens()
    run = pruned(llama, tmp_path / "run", allocation="uniform", tokens=tokens)
    for index in range(3):
        model = trim.load_model(llama, device="cpu")
        for name in run.layers:
            if int(name[0]) < index:
                model.layers[name].weight.mul_(torch.from_numpy(run.layer(name).keep()))
        model.fingerprint = f"pruned up to {index}"
        for name, sample in trim.capture(model, tokens, layers=[f"{index}.*"]).items():
            score = trim.wanda_score(sample.weight, sample.input_norm)
            rows, columns = score.shape
            counts = trim.uniform_counts(rows, rows * columns // 2)
            order = score.argsort(dim=1, stable=True)
            expected = torch.ones(rows, columns, dtype=torch.bool)
            for row in range(rows):
                expected[row, order[row, : counts[row]]] = False
            assert (expected.numpy() == run.layer(name).keep()).mean() > 0.999


def test_recalculated_inputs_follow_the_order_of_use(llama, tmp_path):
    groups = []
    run = pruned(
        llama,
        tmp_path / "run",
        recalculate_inputs=True,
        progress=lambda step: groups.extend(re.findall("calibration text(?: for )?(.*)", step.what)),
    )
    of_block = [
        "{0}.self_attn.q_proj, {0}.self_attn.k_proj, {0}.self_attn.v_proj",
        "{0}.self_attn.o_proj",
        "{0}.mlp.gate_proj, {0}.mlp.up_proj",
        "{0}.mlp.down_proj",
    ]
    assert groups == [group.format(index) for index in range(3) for group in of_block]
    plain = pruned(llama, tmp_path / "plain")
    same, other = "0.self_attn.q_proj", "0.mlp.down_proj"
    np.testing.assert_array_equal(run.layer(same).keep(), plain.layer(same).keep())
    assert (run.layer(other).keep() != plain.layer(other).keep()).any()
    assert run.metrics["sparsity"] == plain.metrics["sparsity"]


def test_recalculated_vectors_leave_the_scores_alone(llama, tmp_path):
    """Against a slow oracle: scores of the dense block, input vectors after the block's earlier layers were pruned."""
    groups = []
    tokens = rough.random_tokens()
    run = pruned(
        llama,
        tmp_path / "run",
        tokens=tokens,
        recalculate_inputs=True,
        recalculation="vectors",
        progress=lambda step: groups.extend(re.findall("calibration text(?: for )?(.*)", step.what)),
    )
    # One pass for the norms of all; the first group needs no other.
    assert groups[:4] == ["", "0.self_attn.o_proj", "0.mlp.gate_proj, 0.mlp.up_proj", "0.mlp.down_proj"]
    assert len(groups) == 12
    dense = trim.capture(trim.load_model(llama, device="cpu"), tokens, layers=["0.*"])
    model = trim.load_model(llama, device="cpu")
    name = "0.mlp.down_proj"
    for earlier in dense.keys() - {name}:
        model.layers[earlier].weight.mul_(torch.from_numpy(run.layer(earlier).keep()))
    model.fingerprint = "pruned before the down-projection"
    inputs = trim.capture(model, tokens, layers=[name])[name].inputs
    score = trim.wanda_score(dense[name].weight, dense[name].input_norm)
    result = trim.search(trim.retention_curves(dense[name].weight, inputs, score), trim.SearchSettings(0.5))
    record = run.layer(name)
    assert record.search.learning_rate == result.learning_rate
    assert record.realised_quality == pytest.approx(result.realised_quality, rel=1e-5)
    assert (record.keep() == trim.keep_mask(score.argsort().argsort(), result.counts).numpy()).mean() > 0.995
    # Wanda looks at norms alone: it prunes what it prunes of the dense block.
    wanda = [
        pruned(llama, tmp_path / str(number), allocation="uniform", tokens=tokens, **more)
        for number, more in enumerate([{}, {"recalculate_inputs": True, "recalculation": "vectors"}])
    ]
    for name in run.layers:
        np.testing.assert_array_equal(*(each.layer(name).keep() for each in wanda))


def test_what_was_asked_for_is_reported_unrounded(llama, tmp_path):
    """The target, or what a budget file adds up to, not the nearest whole number of weights."""
    small = {"layers": ("0.self_attn.k_proj", "1.mlp.up_proj")}
    run = pruned(llama, tmp_path / "run", target=0.7003, **small)
    found = run.metrics["sparsity"]
    assert found["requested"] == 0.7003
    assert 0 < abs(found["realised"] - 0.7003) <= 0.5 / run.metrics["weights"]["of"]
    (tmp_path / "file.json").write_text(json.dumps({"*": 0.3333, "1.mlp.up_proj": 0.7003}))
    run = pruned(llama, tmp_path / "file", target=None, budget=str(tmp_path / "file.json"), **small)
    one, other = (run.layer(name).rows * run.layer(name).columns for name in run.layers)
    expected = (0.3333 * one + 0.7003 * other) / (one + other)
    assert run.metrics["sparsity"]["requested"] == pytest.approx(expected, rel=1e-12)


def test_padding_never_counts(llama, tmp_path):
    """Whatever stands under the padding, the masks are the same."""
    tokens, mask = rough.random_tokens(), torch.ones(6, 16, dtype=torch.bool)
    mask[0, :7] = mask[3, :2] = False
    runs = []
    for seed in (1, 2):
        under = torch.where(mask, tokens, rough.random_tokens(seed=seed))
        runs.append(pruned(llama, tmp_path / str(seed), tokens=under, mask=mask))
    assert (runs[0].request.windows, runs[0].request.length) == tokens.shape == (6, 16)
    for name in runs[0].layers:
        one, two = (run.layer(name) for run in runs)
        np.testing.assert_array_equal(one.keep(), two.keep())
        np.testing.assert_allclose(one.cosine, two.cosine, atol=1e-6)


def test_batches_and_places_of_activations_do_not_matter(llama, tmp_path):
    whole = pruned(llama, tmp_path / "ram", batch=6)
    places = []
    spilled = pruned(
        llama,
        tmp_path / "disk",
        batch=6,
        activation_bytes=0,
        listener=lambda event: places.append(getattr(event, "activations", None)),
    )
    assert "disk" in places
    rough.assert_same_blocks(whole.path, spilled.path)
    assert not list((tmp_path / "disk").glob(".activations*"))
    single = pruned(llama, tmp_path / "single", batch=1)
    for name in whole.layers:
        assert (whole.layer(name).keep() == single.layer(name).keep()).mean() > 0.99


@pytest.mark.parametrize("allocation", ["uniform", "trim", "variant", "layer"])
@pytest.mark.parametrize("budget", ["uniform", "owl", "alphapruning", "file.json"])
@pytest.mark.parametrize("score", ["wanda", "magnitude"])
def test_every_combination_that_makes_sense(llama, tmp_path, allocation, budget, score):
    if budget == "file.json":
        (tmp_path / budget).write_text(json.dumps({"*": 0.5, "1.*": 0.8}))
        budget = str(tmp_path / budget)
    run = pruned(llama, tmp_path / "run", target=0.6, allocation=allocation, budget=budget, score=score)
    for name in run.layers:
        record = run.layer(name)
        assert (record.allocation, record.score) == (allocation, score)
        assert (record.search is not None) == (allocation == "trim")
        if allocation == "variant":
            assert record.sparsity <= record.budget + 1e-12
        else:
            assert record.pruned == round(record.budget * record.rows * record.columns)
    weights = run.metrics["weights"]["of"]
    assert run.metrics["sparsity"]["requested"] == 0.6
    if allocation != "variant":
        assert abs(run.metrics["sparsity"]["realised"] - 0.6) <= 0.5 / weights + 1e-12
    blocks = {index: run.numbers(f"{index}.mlp.up_proj")["budget"] for index in range(3)}
    if run.request.budget == "uniform":
        assert max(blocks.values()) - min(blocks.values()) < 0.001
    else:
        assert max(blocks.values()) - min(blocks.values()) > 0.01


def test_patterns(llama, tmp_path):
    run = pruned(llama, tmp_path / "run", target=None, pattern="2:4", allocation="uniform")
    for name in run.layers:
        groups = run.layer(name).keep().reshape(-1, 4)
        assert (groups.sum(axis=1) == 2).all()
    with pytest.raises(trim.SettingsError, match="do not divide"):
        pruned(llama, tmp_path / "other", target=None, pattern="3:5", allocation="uniform")


def test_a_file_sets_the_target_itself_and_layers_may_stay_dense(llama, tmp_path):
    path = tmp_path / "budgets.json"
    path.write_text(json.dumps({"*": 0.5, "1.mlp.*": 0.0}))
    run = pruned(llama, tmp_path / "run", target=None, budget=path)
    assert run.layer("1.mlp.up_proj").pruned == 0
    assert run.layer("0.mlp.up_proj").sparsity == 0.5
    again = pruned(llama, tmp_path / "again", target=None, budget=run.path / "budgets.json")
    rough.assert_same_blocks(run.path, again.path)
    some = pruned(llama, tmp_path / "some", layers=["*.mlp.*"])
    assert all(".mlp." in name for name in some.layers)
    assert some.metrics["sparsity"]["realised"] == 0.5
    with pytest.raises(trim.LayerNotFoundError, match="closest names"):
        pruned(llama, tmp_path / "none", layers=["*.mpl.*"])


def test_the_name_of_a_run_says_what_it_is():
    assert PruneSettings("demo", target=0.7).name == "demo trim 70%"
    assert PruneSettings("a/b", pattern="2:4", allocation="uniform").name == "b 2:4"
    assert PruneSettings("demo", target=0.7, budget="owl").name == "demo trim 70% owl"
    assert PruneSettings("demo", 0.7, refit=True).name == "demo trim 70%, refitted"
    assert (
        PruneSettings("demo", 0.7, "solved", budget="optimal", refit=True).name == "demo solved 70% optimal"
    )
