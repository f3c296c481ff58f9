"""Whole runs whose kept weights are refitted: records, export, resume, refusals."""

import json
from functools import partial

import numpy as np
import pytest
import torch

import trim
from tests.trim import rough
from trim.calibration.text_pass import DensePass
from trim.sweeps.cell import drop_masks

pruned = partial(rough.pruned, tokens=rough.random_tokens(32), target=0.6, allocation="uniform", refit=True)


@pytest.mark.parametrize("family", ["llama", "qwen2", "opt"])
def test_a_refitted_run_and_its_export(family, tmp_path):
    """Masks are those of the same scores; the export holds what the run keeps; less of every output is lost."""
    folder = rough.make_model(family, tmp_path / "model")
    # Every token is an input vector: what is minimised is what is measured.
    run = pruned(folder, tmp_path / "run", vectors_per_sequence=16)
    exported = trim.export(run, tmp_path / "out")
    assert "refitted" in (exported / "README.md").read_text()
    after, dense = (trim.load_model(path, device="cpu") for path in (exported, folder))
    for name in run.layers:
        record, weight = run.layer(name), after.layers[name].weight
        keep = torch.from_numpy(record.keep())
        assert not bool(weight[~keep].any())
        if record.kept_weights is None:  # it lost more on the windows held out
            assert record.error_left is None
            assert torch.equal(weight[keep], dense.layers[name].weight[keep])
            continue
        assert 0 < record.error_left < 1
        assert torch.equal(weight[keep], torch.from_numpy(record.kept_weights).float())
        assert bool((weight[keep] != dense.layers[name].weight[keep]).any())
    assert any(run.layer(name).kept_weights is not None for name in run.layers)
    trim.apply_run(run, dense)
    assert all(torch.equal(dense.layers[name].weight, after.layers[name].weight) for name in run.layers)
    plain = pruned(folder, tmp_path / "plain", refit=False)
    first = run.layers[0]  # what later ones receive differs
    np.testing.assert_array_equal(run.layer(first).packed_mask, plain.layer(first).packed_mask)
    assert plain.layer(first).error_left is None


@pytest.mark.parametrize(
    "more",
    [
        {"allocation": "optimal", "budget": "optimal", "sensitivity_windows": 4},
        {"allocation": "trim", "budget": "owl", "recalculate_inputs": True},
        {"pattern": "2:4", "target": None},
        {"score": "magnitude", "layers": ["*.mlp.*"]},
    ],
    ids=str,
)
def test_it_goes_with_every_method(llama, tmp_path, own_cache, more):
    run = pruned(llama, tmp_path / "run", **more)
    assert run.complete
    for name in run.layers:
        record = run.layer(name)
        if record.kept_weights is not None:
            assert len(record.kept_weights) == record.rows * record.columns - record.pruned
    assert any(run.layer(name).kept_weights is not None for name in run.layers)
    assert np.isfinite(trim.evaluate(run.path, [trim.EvaluationText("demo", 2, 32)])[0].result.perplexity)


def test_a_refit_that_does_not_help_is_left_out(llama, tmp_path, monkeypatch):
    """The layer keeps its weights, and the progress says so."""
    monkeypatch.setattr("trim.pruning.layer.refit", lambda weight, keep, text: weight.float() * keep * 1.5)
    reported = []
    run = pruned(llama, tmp_path / "run", listener=lambda event: reported.append(getattr(event, "text", "")))
    assert all(run.layer(name).kept_weights is None for name in run.layers)
    name = run.layers[0]
    assert (
        f"{name}: refitted weights lose more on the windows held out; its weights stay as they are"
        in reported
    )


def test_one_window_cannot_be_held_out_and_fitted(llama, tmp_path):
    with pytest.raises(trim.SettingsError, match="2 windows"):
        pruned(llama, tmp_path / "run", tokens=rough.random_tokens(1))
    assert not (tmp_path / "run").exists()


def test_only_its_own_model_takes_it(llama, tmp_path):
    run = pruned(llama, tmp_path / "run")
    other = rough.make_model("llama", tmp_path / "other", seed=1)
    with pytest.raises(trim.RunError, match="prune that model itself"):
        trim.export(run, tmp_path / "out", model=other)
    loaded = trim.load_model(other, device="cpu")
    before = [layer.weight.clone() for layer in loaded.layers.values()]
    with pytest.raises(trim.RunError, match="prune that model itself"):
        trim.apply_run(run, loaded)
    assert all(map(torch.equal, before, (layer.weight for layer in loaded.layers.values())))
    with pytest.raises(trim.RunError, match="prune that model itself"):
        trim.evaluate(run.path, [trim.EvaluationText("demo", 1, 16)], model=other)
    assert (trim.export(run, tmp_path / "out", model=llama) / "model.safetensors").exists()


def test_a_model_that_has_changed_is_to_be_pruned_again(tmp_path):
    folder = rough.make_model("llama", tmp_path / "model")
    run = pruned(folder, tmp_path / "run")
    rough.make_model("llama", folder, seed=1)
    for work in (lambda: trim.export(run, tmp_path / "out"), lambda: trim.evaluate(run.path)):
        with pytest.raises(trim.ModelError, match="restore it, or prune it again"):
            work()


def test_layers_that_lose_nothing_keep_their_weights(llama, tmp_path):
    budgets = tmp_path / "budgets.json"
    budgets.write_text(json.dumps({"*": 0.6, "*.down_proj": 0.0}))
    run = pruned(llama, tmp_path / "run", target=None, budget=budgets)
    after, dense = (
        trim.load_model(path, device="cpu") for path in (trim.export(run, tmp_path / "out"), llama)
    )
    for name in run.layers:
        same = torch.equal(after.layers[name].weight, dense.layers[name].weight)
        if name.endswith("down_proj"):
            assert same
            assert run.layer(name).error_left is None
        else:
            assert not same


def test_memory_that_runs_out_on_the_dense_way(llama, tmp_path, monkeypatch):
    """The batch there is halved, and a resumed run repeats it."""
    whole, propagate = [], DensePass.propagate

    def full_once(self, index, block, segments=None):
        output = self.text.output

        def once(index, block, part):
            if part.stop - part.start > 2:
                raise torch.OutOfMemoryError("full")
            return output(index, block, part)

        monkeypatch.setattr(self.text, "output", once)
        whole.append(segments)
        return propagate(self, index, block, segments)

    monkeypatch.setattr(DensePass, "propagate", full_once)
    run = pruned(llama, tmp_path / "whole", batch=6)
    assert run.manifest["blocks"]["0"]["dense_propagated"] == [[0, 6], [0, 3], [0, 1]]
    assert run.manifest["blocks"]["0"]["propagated"] == [[0, 6]]
    rough.stopped(pruned, llama, tmp_path / "stopped", batch=6)
    trim.resume(tmp_path / "stopped")
    assert any(whole)
    rough.assert_same_blocks(run.path, tmp_path / "stopped")


def test_without_masks_there_are_no_refitted_weights(llama, tmp_path):
    run = pruned(llama, tmp_path / "run")
    before = sum(path.stat().st_size for path in (run.path / "blocks").iterdir())
    left = run.layer(run.layers[0]).error_left
    drop_masks(run.path)
    run = trim.open_run(run.path)
    record = run.layer(run.layers[0])
    assert (record.packed_mask, record.kept_weights, record.error_left) == (None, None, left)
    assert sum(path.stat().st_size for path in (run.path / "blocks").iterdir()) < before
    with pytest.raises(trim.RunError, match="without masks"):
        trim.export(run, tmp_path / "out")


def test_a_record_whose_weights_do_not_fit_its_mask(llama, tmp_path):
    run = pruned(llama, tmp_path / "run")
    record = run.layer(run.layers[0])
    with pytest.raises(trim.RunError, match="kept_weights is float16"):
        type(record)(**(vars(record) | {"kept_weights": record.kept_weights[1:]}))
