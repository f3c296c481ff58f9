"""Whole models pruned by the optimal method: every combination, exact totals, resume, and what the run keeps."""

import shutil
from functools import partial

import numpy as np
import pytest
import torch
from safetensors.torch import load

from tests.trim import rough
from trim import cache
from trim.methods.counts import largest_count
from trim.pruning.prune import resume
from trim.runs.folder import open_run
from trim.runs.settings import PruneSettings

pytestmark = pytest.mark.usefixtures("own_cache")


pruned = partial(rough.pruned, target=0.6, allocation="optimal", sensitivity_windows=4)


@pytest.mark.parametrize(
    ("allocation", "budget", "row_weights"),
    [
        ("optimal", "optimal", "fisher"),
        ("optimal", "optimal", "ones"),
        ("optimal", "uniform", "fisher"),
        ("optimal", "owl", "fisher"),
        ("optimal", "alphapruning", "ones"),
        ("trim", "optimal", "fisher"),
        ("uniform", "optimal", "ones"),
    ],
)
def test_allocations_and_budgets_combine_freely(llama, tmp_path, allocation, budget, row_weights):
    run = pruned(llama, tmp_path / "run", allocation=allocation, budget=budget, row_weights=row_weights)
    pruned_weights = weights = 0
    for name in run.layers:
        record = run.layer(name)
        assert (record.allocation, record.name) == (allocation, name)
        assert record.pruned == round(record.budget * record.rows * record.columns)
        assert int(record.counts.max()) <= largest_count(record.columns, 0.99)
        assert (record.search is not None) == (allocation == "trim")
        assert (record.sensitivity is not None) == (row_weights == "fisher")
        pruned_weights, weights = pruned_weights + record.pruned, weights + record.rows * record.columns
    assert pruned_weights == round(0.6 * weights)
    budgets = [run.numbers(name)["budget"] for name in run.layers]
    assert (max(budgets) - min(budgets) < 0.002) == (budget == "uniform")
    assert run.budgets["method"] == budget
    assert not list((tmp_path / "run").glob("*.safetensors"))


def test_other_families(tmp_path):
    for family in ("qwen2", "gemma3", "opt"):  # tied; two kinds of blocks; a projection after the blocks
        folder = rough.make_model(family, tmp_path / family)
        run = pruned(folder, tmp_path / f"{family}-run", budget="optimal")
        assert run.metrics["sparsity"]["realised"] == pytest.approx(0.6, abs=1e-4)


def test_a_stopped_run_ends_as_if_it_had_not_been(llama, tmp_path, monkeypatch):
    whole = pruned(llama, tmp_path / "whole", budget="optimal")
    rough.stopped(pruned, llama, tmp_path / "stopped", budget="optimal")
    # Neither the cache nor another measurement may be needed.
    monkeypatch.setattr("trim.pruning.plan_optimal.row_sensitivity", None)
    monkeypatch.setattr("trim.pruning.plan_optimal.cached_sensitivity", None)
    again = resume(tmp_path / "stopped")
    assert open_run(tmp_path / "stopped").complete
    for name in whole.layers:
        one, other = whole.layer(name), again.layer(name)
        assert np.array_equal(one.packed_mask, other.packed_mask)
        assert np.array_equal(one.sensitivity, other.sensitivity)


@pytest.mark.parametrize(("layers", "number"), [(("*.q_proj", "1.mlp.*"), 6), (("1.*",), 7)])
def test_only_some_layers(llama, tmp_path, layers, number):
    run = pruned(llama, tmp_path / "run", budget="optimal", layers=layers)
    assert len(run.layers) == number
    assert run.metrics["sparsity"]["realised"] == pytest.approx(0.6, abs=1e-3)


def test_the_row_cap(llama, tmp_path):
    assert PruneSettings("m", 0.7).row_cap == 0.95
    assert PruneSettings("m", 0.7, allocation="optimal").row_cap == 0.99
    assert PruneSettings("m", 0.7, budget="optimal").row_cap == 0.99
    run = pruned(llama, tmp_path / "run", budget="optimal", max_row_sparsity=0.65)
    assert max(int(run.layer(name).counts.max() / run.layer(name).columns > 0.65) for name in run.layers) == 0


def test_what_does_not_depend_on_the_target_is_measured_once(llama, tmp_path, own_cache, monkeypatch):
    pruned(llama, tmp_path / "first")
    entries = list((own_cache / "captures").glob("*.safetensors"))
    assert len(entries) == 1
    before = entries[0].stat().st_ino
    second = pruned(llama, tmp_path / "second", target=0.7, budget="optimal")
    assert [entry.stat().st_ino for entry in (own_cache / "captures").glob("*.safetensors")] == [before]
    assert len(list((own_cache / "budgets").glob("*.safetensors"))) == 1
    monkeypatch.setattr("trim.pruning.plan_optimal._prices", None)
    again = pruned(llama, tmp_path / "again", target=0.7, budget="optimal", allocation="uniform")
    assert again.budgets["layers"] == second.budgets["layers"]


def test_prices_made_on_the_gradients_way_are_those_of_a_pass_of_their_own(
    llama, tmp_path, own_cache, monkeypatch
):
    pruned(llama, tmp_path / "before")  # sensitivities without prices
    apart = pruned(llama, tmp_path / "apart", budget="optimal")
    (prices,) = (own_cache / "budgets").glob("*.safetensors")
    content = cache.load_entry(prices, load)
    shutil.rmtree(own_cache)
    monkeypatch.setattr("trim.pruning.plan_optimal._prices", None)
    together = pruned(llama, tmp_path / "together", budget="optimal")
    assert together.budgets == apart.budgets
    again = cache.load_entry(prices, load)
    assert again.keys() == content.keys()
    assert all(torch.equal(again[name], pair) for name, pair in content.items())
