"""Kept weights: Adam on them alone, and what the type of the files does not hold."""

import shutil

import pytest
import torch
from safetensors.torch import save_file

import trim
from tests.trim.recovery.models import weights
from trim.recovery.kept import BETAS, KeptWeights
from trim.recovery.pair import open_pair
from trim.recovery.result import write_model


def test_kept_weights_that_the_type_of_the_files_does_not_hold(checkpoint, dense, tmp_path):
    half = tmp_path / "half"
    shutil.copytree(checkpoint, half)
    save_file({name: each.half() for name, each in weights(checkpoint).items()}, half / "model.safetensors")
    pair = open_pair(half, dense, torch.float32)
    _, student = pair.load(torch.device("cpu"), torch.float32, None)
    named = dict(student.module.named_parameters())
    kept = KeptWeights((name, named[name]) for name in pair.trained)
    after = kept.values.clone()
    after[:3] = 1e-9
    found = write_model(tmp_path / "small", pair, kept, kept.values, after, "", None)
    assert (found["rounded"], found["of"] - found["zeros"]) == (
        3,
        sum(
            int(each.count_nonzero())
            for name, each in weights(half).items()
            if "proj" in name and each.ndim > 1
        )
        - 3,
    )
    after[0] = 1e6
    with pytest.raises(trim.ModelError, match="exceeds the range of float16"):
        write_model(tmp_path / "large", pair, kept, kept.values, after, "", None)
    assert not (tmp_path / "large").exists()


def test_adam_on_kept_weights_is_adam():
    torch.manual_seed(0)
    matrix = torch.nn.Parameter(torch.randn(4, 6) * (torch.rand(4, 6) < 0.5))
    vector = torch.nn.Parameter(torch.randn(6))
    twins = [torch.nn.Parameter(each.detach().clone()) for each in (matrix, vector)]
    mask = (matrix != 0).float().detach()
    kept = KeptWeights([("matrix", matrix), ("vector", vector)])
    kept.collect_gradients()
    assert len(kept) == int(mask.sum()) + 6
    adam = torch.optim.Adam(twins, lr=0.01, betas=BETAS)
    for _ in range(3):
        inputs = torch.randn(5, 6)
        ((inputs * vector) @ matrix.t()).square().sum().backward()
        ((inputs * twins[1]) @ (twins[0] * mask).t()).square().sum().backward()
        torch.nn.utils.clip_grad_norm_(twins, 1.0)
        assert matrix.grad is None
        kept.step(0.01, 1.0)
        adam.step()
        adam.zero_grad()
    torch.testing.assert_close(matrix, twins[0])
    torch.testing.assert_close(vector, twins[1])
