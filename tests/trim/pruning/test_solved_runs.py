"""Whole runs whose masks and kept weights are solved together: records, export, resume, refusals."""

import json
from functools import partial

import numpy as np
import pytest
import torch

import trim
from tests.trim import rough
from trim.methods import solve as module
from trim.pruning.events import Note

pruned = partial(
    rough.pruned, tokens=rough.random_tokens(8), target=0.6, allocation="solved", layers=["0.*", "1.*"]
)


@pytest.mark.parametrize(
    ("allocation", "more"),
    [
        ("solved", {"budget": "optimal", "sensitivity_windows": 2}),
        ("solved", {"pattern": "2:4", "target": None}),
        ("alps", {"recalculate_inputs": True}),
        ("sparsegpt", {"budget": "owl"}),
    ],
)
def test_a_run_its_records_and_its_export(llama, tmp_path, own_cache, allocation, more):
    run = pruned(llama, tmp_path / "run", allocation=allocation, **more)
    sparsity = 0.5 if "pattern" in more else 0.6
    assert run.metrics["sparsity"]["realised"] == pytest.approx(sparsity, abs=1e-3)
    after, dense = (
        trim.load_model(path, device="cpu") for path in (trim.export(run, tmp_path / "out"), llama)
    )
    assert "solved together with the mask" in (tmp_path / "out" / "README.md").read_text()
    for name in run.layers:
        record, weight = run.layer(name), after.layers[name].weight
        keep = torch.from_numpy(record.keep())
        assert record.allocation == allocation
        assert record.search is None
        np.testing.assert_array_equal((~keep).sum(dim=1).numpy(), record.counts)
        assert torch.equal(weight[keep], torch.from_numpy(record.kept_weights).float())
        assert not bool(weight[~keep].any())
        assert bool((weight != dense.layers[name].weight * keep).any())
        weights = dense.layers[name].weight * keep
        moved = (weight - weights).norm(dim=1) / weights.norm(dim=1)
        np.testing.assert_allclose(record.row_moved, moved.detach().numpy(), rtol=1e-3, equal_nan=True)
        left = record.row_error / record.row_error_masked  # the layer's is their weighted mean
        assert left.min() - 1e-5 <= record.error_left <= left.max() + 1e-5
        if "pattern" in more:
            assert set(record.counts.tolist()) == {record.columns // 2}
    if allocation == "solved" and "pattern" not in more:  # row counts are an outcome
        assert any(len(set(run.layer(name).counts.tolist())) > 2 for name in run.layers)
        assert run.layer(run.layers[0]).sensitivity is not None


@pytest.mark.parametrize(
    "more", [{}, {"allocation": "sparsegpt"}, {"allocation": "uniform", "refit": True}], ids=str
)
def test_a_run_that_was_stopped_ends_bit_for_bit_the_same(llama, tmp_path, own_cache, more):
    whole = pruned(llama, tmp_path / "whole", **more)
    rough.stopped(pruned, llama, tmp_path / "stopped", **more)
    trim.resume(tmp_path / "stopped")
    rough.assert_same_blocks(whole.path, tmp_path / "stopped")


def test_a_search_that_diverges_is_named_and_refitted(llama, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_alternate", lambda scaled, *rest: (scaled * torch.nan, 3))
    reported = []
    run = pruned(llama, tmp_path / "run", row_weights="ones", listener=reported.append)
    notes = [event.text for event in reported if isinstance(event, Note)]
    assert [note.partition(":")[0] for note in notes] == list(run.layers)
    assert "diverged" in notes[0]
    assert all(np.isfinite(run.layer(name).kept_weights).all() for name in run.layers)


@pytest.mark.parametrize("allocation", ["solved", "alps", "sparsegpt"])
def test_too_little_text_says_how_much_is_needed(llama, tmp_path, allocation):
    with pytest.raises(trim.SettingsError, match=r"48 for 0\.mlp\.down_proj, and the text has 32; use more"):
        pruned(llama, tmp_path / "run", tokens=rough.random_tokens(2), allocation=allocation)
    assert not (tmp_path / "run").exists()


def test_a_layer_that_loses_nothing(llama, tmp_path):
    budgets = tmp_path / "budgets.json"
    names = [name for name in trim.load_model(llama, device="cpu").layers if name.startswith("0.mlp.")]
    budgets.write_text(json.dumps({"*": 0.6, names[0]: 0.0}))
    run = pruned(llama, tmp_path / "run", target=None, budget=str(budgets), layers=names, row_weights="ones")
    dense, *others = (run.layer(name) for name in names)
    assert (dense.pruned, dense.kept_weights, dense.row_moved) == (0, None, None)
    assert all(record.pruned and record.kept_weights is not None for record in others)
