"""Masks and weights solved together on a GPU: as little lost as on the CPU, and the same after a stop."""

import pytest
import torch

import trim
from tests.gpu.layers import on_gpu
from tests.trim import rough
from tests.trim.refit_cases import layer, objective, products
from trim.methods.alps import alps
from trim.methods.masks import keep_largest
from trim.methods.pattern import Pattern
from trim.methods.solve import solve
from trim.methods.sparsegpt import sparsegpt

pytestmark = on_gpu


@pytest.mark.parametrize("kept", [0, 1, 700, 12_000, 29_999, 30_000])
def test_the_largest_are_those_of_the_cpu(kept):
    values = torch.randn(100, 300, generator=torch.Generator().manual_seed(0)).abs()
    values[::7, ::3] = 0.5
    values[::5, ::2] = 0
    assert torch.equal(keep_largest(values.cuda(), kept).cpu(), keep_largest(values, kept))


@pytest.mark.parametrize("pattern", [None, Pattern(2, 4)])
@pytest.mark.parametrize("method", [solve, alps, sparsegpt])
def test_what_is_lost_is_that_of_the_cpu(method, pattern):
    weight, _, *texts = layer(300, 400, 3000)
    total = weight.numel() // 2
    on_cpu = method(weight, products(*texts), total, pattern=pattern)
    on_gpu = method(weight.cuda(), products(*(values.cuda() for values in texts)), total, pattern=pattern)
    assert int((~on_gpu.keep).sum()) == total
    assert float((on_gpu.keep.cpu() == on_cpu.keep).double().mean()) > 0.9
    one, other = (objective(weight, each.cpu(), *texts).sum() for each in (on_cpu.weight, on_gpu.weight))
    assert float(other / one) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_solved_run_that_was_stopped(dtype, tmp_path):
    folder = rough.make_model("llama", tmp_path / "model")
    options = {"tokens": rough.random_tokens(), "target": 0.6, "allocation": "solved", "dtype": dtype}
    whole = trim.prune(folder, tmp_path / "whole", **options)
    rough.stopped(trim.prune, folder, tmp_path / "run", **options)
    trim.resume(tmp_path / "run")
    rough.assert_same_blocks(tmp_path / "run", whole.path)
