"""The kept weights of a block, tuned together."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import trim
from tests.trim import rough
from trim.models.replay import BlockCall
from trim.pruning import tune


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(8, 24, bias=False), nn.Linear(24, 8, bias=False)

    def forward(self, states):
        return states + self.down(torch.relu(self.up(states)))


@torch.inference_mode()
def tuned(mask=None, aimed_at=None):
    torch.manual_seed(0)
    block, states = Block(), torch.randn(32, 8, 8)
    dense_output = block(states) if aimed_at is None else aimed_at
    keep = {f"0.{name}": torch.rand(part.weight.shape) > 0.5 for name, part in block.named_children()}
    for name, part in block.named_children():
        part.weight.data *= keep[f"0.{name}"]

    def text_pass(values):
        return SimpleNamespace(
            states=SimpleNamespace(read=lambda part, device: values[part]),
            calibration=SimpleNamespace(windows=32, held_out=4, length=8, mask=mask),
            model=SimpleNamespace(device=torch.device("cpu")),
            call=lambda index, part: BlockCall((), {}),
        )

    dense = SimpleNamespace(text=text_pass(dense_output))
    return block, keep, tune.tune_block(0, block, keep, text_pass(states), dense)


def test_a_tuned_block_loses_less_and_keeps_its_zeros():
    block, keep, found = tuned()
    assert found.after < 0.8 * found.before
    for name, part in block.named_children():
        weight = found.weights[f"0.{name}"]
        assert not weight[~keep[f"0.{name}"]].any()
        assert not torch.equal(weight, part.weight)  # the block itself stays as it is
    again = tuned()[2]
    assert all(torch.equal(weight, again.weights[name]) for name, weight in found.weights.items())
    assert torch.are_deterministic_algorithms_enabled() is False


def test_padding_does_not_count():
    mask = torch.ones(32, 8, dtype=torch.bool)
    mask[:, 5:] = False
    aimed_at = torch.randn(32, 8, 8)
    aimed_at[:, 5:] = torch.nan
    assert np.isfinite(tuned(mask, aimed_at)[2].after)


def test_what_is_not_a_number_leaves_the_block_as_it_was():
    found = tuned(aimed_at=torch.full((32, 8, 8), torch.nan))[2]
    assert found.weights == {}


pruned = partial(
    rough.pruned,
    tokens=rough.random_tokens(32),
    target=0.6,
    allocation="solved",
    row_weights="ones",
    tune=True,
)


def halved(error, weights, keep):
    return tune.Tuned({name: weight.detach() / 2 for name, weight in weights.items()}, 0.5, 0.25)


def test_a_tuned_run_is_kept_and_resumed(llama, tmp_path, monkeypatch):
    monkeypatch.setattr(tune, "_tune", halved)
    whole = pruned(llama, tmp_path / "whole")
    solved = pruned(llama, tmp_path / "solved", tune=False, windows=28)
    assert {tuple(entry["tuned"]) for entry in whole.manifest["blocks"].values()} == {(0.5, 0.25)}
    first = whole.layers[0]
    record = whole.layer(first)
    assert record.row_moved.min() > 0.3 > solved.layer(first).row_moved.min()
    model = trim.load_model(llama, device="cpu")
    dense = model.layers[first].weight.clone()
    trim.apply_run(whole, model)
    weight = model.layers[first].weight
    kept = torch.from_numpy(record.keep())
    assert torch.equal(weight[kept], torch.from_numpy(record.kept_weights).float())
    moved = (weight - dense * kept).norm(dim=1) / (dense * kept).norm(dim=1)
    np.testing.assert_allclose(record.row_moved, moved.detach(), rtol=1e-5)
    rough.stopped(pruned, llama, tmp_path / "stopped")
    trim.resume(tmp_path / "stopped")
    rough.assert_same_blocks(whole.path, tmp_path / "stopped")


def test_one_that_gains_nothing_says_so(llama, tmp_path, monkeypatch):
    monkeypatch.setattr(tune, "_tune", lambda *asked: tune.Tuned({}, 0.5, 0.5))
    reported = []
    pruned(llama, tmp_path / "run", listener=lambda event: reported.append(getattr(event, "text", "")))
    assert "block 0: tuned weights lose more on the windows held out; they stay as they were" in reported


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"allocation": "trim"}, "leave it out"), ({"allocation": "alps"}, "--allocation solved")],
)
def test_weights_that_nothing_aims_at_are_not_tuned(llama, tmp_path, settings, words):
    with pytest.raises(trim.SettingsError, match=words):
        pruned(llama, tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_one_window_cannot_be_held_out_and_tuned(llama, tmp_path):
    with pytest.raises(trim.SettingsError, match="--tune is judged on windows that it does not see"):
        pruned(llama, tmp_path / "run", tokens=rough.random_tokens(1), layers=["*_proj"])
