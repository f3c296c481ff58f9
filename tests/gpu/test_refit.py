"""Refitted weights on a GPU: as near to the dense output as on the CPU, 16-bit types too, and the same after a stop."""

import pytest
import torch

import trim
from tests.gpu.layers import on_gpu
from tests.trim import rough
from tests.trim.refit_cases import layer, objective, refitted
from trim.calibration.products import outer_products

pytestmark = on_gpu


@pytest.mark.parametrize("shape", [(6, 20, 80), (40, 200, 1000), (300, 1100, 5000)], ids=str)
def test_what_is_left_of_the_error_is_that_of_the_cpu(shape):
    weight, keep, *texts = case = layer(*shape)
    on_cpu, on_gpu = refitted(*case), refitted(*(values.cuda() for values in case)).cpu()
    assert bool((on_gpu[~keep] == 0).all())
    one, other, masked = (objective(weight, each, *texts) for each in (on_cpu, on_gpu, weight * keep))
    # TF32 leaves some thousandths of what there is to gain.
    assert bool((other - one <= 0.01 * (masked - one)).all())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_products_of_half_types(dtype):
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(5000, 70, generator=generator).to(dtype) for _ in range(2))
    found = outer_products(left.cuda(), right.cuda())
    assert found.dtype == torch.float32
    expected = left.double().T @ right.double()
    torch.testing.assert_close(found.cpu().double(), expected, rtol=1e-3, atol=0.05)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_refitted_run_and_its_export(dtype, tmp_path):
    folder = rough.make_model("llama", tmp_path / "model")
    options = {"tokens": rough.random_tokens(), "target": 0.6, "refit": True, "dtype": dtype}
    whole = trim.prune(folder, tmp_path / "whole", vectors_per_sequence=16, **options)
    left = [
        whole.layer(name).error_left for name in whole.layers
    ]  # None: it lost more on the windows held out
    assert any(left)
    assert all(share is None or 0 < share < 1 for share in left)
    exported = trim.load_model(trim.export(whole, tmp_path / "out"), device="cpu")
    for name in whole.layers:
        keep = torch.from_numpy(whole.layer(name).keep())
        assert not bool(exported.layers[name].weight[~keep].any())
    rough.stopped(trim.prune, folder, tmp_path / "run", vectors_per_sequence=16, **options)
    trim.resume(tmp_path / "run")
    rough.assert_same_blocks(tmp_path / "run", whole.path)
