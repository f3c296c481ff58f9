"""Fused passes on a CUDA device, there and back: each kernel against plain code, whole blocks, and whole runs."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

import trim
from tests.gpu.layers import on_gpu
from tests.trim import rough, tiny
from trim.calibration.calibration import Calibration
from trim.calibration.sensitivity import row_sensitivity
from trim.models import fusion, streamed
from trim.models.replay import record_calls
from trim.models.streamed import StreamedModel

pytestmark = on_gpu

GPU = torch.device("cuda", 0)
TYPES = [torch.float16, torch.bfloat16, torch.float32]


def normal(dtype: torch.dtype, *shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator(GPU).manual_seed(seed)
    return torch.randn(shape, generator=generator, device=GPU).to(dtype)


def assert_rounded_alike(found: Tensor, expected: Tensor, share: float) -> None:
    """At most `share` of the numbers differ, and those by no more than four times the type's precision."""
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    assert found.stride() == expected.stride()
    apart = (found.double() - expected.double()).abs()
    unit = torch.finfo(expected.dtype).eps * expected.double().abs() + torch.finfo(expected.dtype).tiny
    assert float((apart / unit).max()) <= 4
    assert float((apart > 0).double().mean()) <= share


def assert_gradients_alike(
    found: Sequence[Tensor], plain: Callable, given: Sequence[Tensor], *arriving: Tensor
):
    """Gradients of 16-bit types are the plain code's, but for a last bit here and there; sums are in float32."""
    given = [values.detach().requires_grad_() for values in given]
    expected = torch.autograd.grad(plain(*given), given, arriving)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        step = torch.finfo(one.dtype).eps
        torch.testing.assert_close(one, other, rtol=4 * step, atol=4 * step * float(other.abs().max()))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(2, 3, 4096), (700, 5120), (5, 32), (3, 7, 4, 48), (2, 11000)])
def test_norms(shape, dtype):
    from trim.kernels import block as block_kernels

    states, weight = 3 * normal(dtype, *shape), normal(dtype, shape[-1], seed=1)
    found = block_kernels.rms_norm(states, weight, 1e-5)
    # In float32 the order of the sum shows in the last bit; a 16-bit type rounds nearly all of that away.
    share = 1.0 if dtype == torch.float32 else 0.002
    assert_rounded_alike(found, fusion.plain_norm(states, weight, 1e-5), share)
    arriving = normal(dtype, *shape, seed=2)
    found = block_kernels.rms_norm_backward(arriving, states, weight, 1e-5)
    assert_gradients_alike(
        [found], lambda values: fusion.plain_norm(values, weight, 1e-5), [states], arriving
    )


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("batch", "heads", "key_heads", "length", "dimensions", "tables"),
    [
        (2, 32, 32, 40, 128, 1),
        (3, 14, 2, 17, 64, 3),
        (2, 3, 1, 5, 80, 1),
        (1, 72, 8, 3, 96, 1),
        (1, 1, 1, 1, 2, 1),
    ],
)
def test_rotary_embeddings_are_bitwise_the_same(batch, heads, key_heads, length, dimensions, tables, dtype):
    from trim.kernels import block as block_kernels

    query, key = (
        normal(dtype, batch, length, number * dimensions, seed=number).view(batch, length, number, -1)
        for number in (heads, key_heads)
    )
    cosine, sine = (normal(dtype, tables, length, dimensions, seed=seed) for seed in (100, 101))
    as_views = [states.transpose(1, 2) for states in (query, key)]
    for given in (as_views, [states.contiguous() for states in as_views]):
        found = block_kernels.rotary(*given, cosine, sine)
        expected = fusion.plain_rotary(*given, cosine, sine)
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one, other)
            assert one.transpose(1, 2).is_contiguous() == other.transpose(1, 2).is_contiguous()
        arriving = normal(dtype, *query.transpose(1, 2).shape, seed=102)
        as_it_comes = arriving.transpose(1, 2).contiguous().transpose(1, 2)
        for gradient in (arriving, as_it_comes, arriving[:, :1].expand_as(arriving)):
            found = block_kernels.rotary_backward(gradient, cosine, sine)
            assert_gradients_alike(
                [found],
                lambda one: fusion.plain_rotary(one, one, cosine, sine)[0],
                given[:1],
                gradient,
            )


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(2, 3, 11008), (5,), (4097, 48)])
def test_gated_activations(shape, dtype):
    from trim.kernels import block as block_kernels

    gate, up = 4 * normal(dtype, *shape), normal(dtype, *shape, seed=1)
    gate.view(-1)[:3] = torch.tensor([0.0, 80.0, -90.0], dtype=dtype)
    found = block_kernels.silu_product(gate, up)
    assert_rounded_alike(found, fusion.plain_gated(gate, up), 0.001)
    arriving = normal(dtype, *shape, seed=2)
    found = block_kernels.silu_product_backward(arriving, gate, up)
    assert_gradients_alike(found, fusion.plain_gated, [gate, up], arriving)


@pytest.mark.parametrize("dtype", TYPES[:2])
@pytest.mark.parametrize("wide_weight", [False, True])
def test_outputs_of_experts_are_added_bitwise_the_same(dtype, wide_weight):
    from trim.kernels import block as block_kernels

    for tokens, width in ([0, 2, 3, 7], 48), ([5], 2048), ([0, 1, 1, 1, 9, 9], 3000):
        result, output = normal(dtype, 10, width), normal(dtype, len(tokens), width, seed=1)
        weight = normal(torch.float32 if wide_weight else dtype, len(tokens), seed=2)
        expected = result.clone()
        for place, token in enumerate(tokens):
            expected[token] += (output[place] * weight[place : place + 1]).to(dtype)
        block_kernels.add_weighted(result, torch.tensor(tokens, device=GPU), output, weight)
        assert torch.equal(result, expected)


def test_tensors_of_more_than_two_billion_numbers():
    from trim.kernels import block as block_kernels

    if torch.cuda.mem_get_info(GPU)[0] < 30e9:
        pytest.skip("needs 30 GB of GPU memory")
    rows, columns = 2**19 + 3, 4096
    states = torch.zeros(rows, columns, dtype=torch.float16, device=GPU)
    states[-2:] = normal(torch.float16, 2, columns)
    weight = normal(torch.float16, columns, seed=1)
    found = block_kernels.rms_norm(states, weight, 1e-5)[-2:]
    assert_rounded_alike(found, fusion.plain_norm(states[-2:], weight, 1e-5), 0.002)
    found = block_kernels.rms_norm_backward(states, states, weight, 1e-5)[-2:]
    plain_norm = functools.partial(fusion.plain_norm, weight=weight, epsilon=1e-5)
    assert_gradients_alike([found], plain_norm, [states[-2:]], states[-2:])
    found = block_kernels.silu_product(states, states)[-2:]
    assert_rounded_alike(found, fusion.plain_gated(states[-2:], states[-2:]), 0.001)
    found = [values[-2:] for values in block_kernels.silu_product_backward(states, states, states)]
    assert_gradients_alike(found, fusion.plain_gated, [states[-2:], states[-2:]], states[-2:])
    heads = states.view(1, rows, 32, 128).transpose(1, 2)
    tables = [
        normal(torch.float16, 1, 2, 128, seed=seed).repeat(1, rows // 2 + 1, 1)[:, :rows] for seed in (2, 3)
    ]
    found = block_kernels.rotary(heads, heads[:, :1], *tables)[0]
    last = [values[..., -2:, :] for values in (heads, heads[:, :1], *tables)]
    assert torch.equal(found[..., -2:, :], fusion.plain_rotary(*last)[0])
    found = block_kernels.rotary_backward(heads, *tables)[..., -2:, :]
    assert_gradients_alike(
        [found], lambda one: fusion.plain_rotary(one, one, *last[2:])[0], last[:1], last[0]
    )


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral", "gemma", "opt"])
def test_whole_blocks(family, dtype, tmp_path, monkeypatch):
    model = StreamedModel(rough.make_model(family, tmp_path / "model"), device=GPU, dtype=dtype)
    with model.embedding() as module:
        states, calls = record_calls(module, model.blocks, rough.random_tokens(4, 40).to(GPU), None)
    with torch.inference_mode():
        with model.block(0) as block:
            assert any("forward" in vars(part) for part in block.modules()) == (
                family not in ("gemma", "opt")
            )
            fused = calls[0].replay(block, states)
        monkeypatch.setattr(fusion, "has_kernels", lambda device: False)
        with model.block(0) as block:
            assert not any("forward" in vars(part) for part in block.modules())
            plain = calls[0].replay(block, states)
    step = torch.finfo(fused.dtype).eps
    torch.testing.assert_close(fused, plain, rtol=16 * step, atol=64 * step)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "mistral"])
def test_sensitivities(family, dtype, tmp_path, monkeypatch):
    folder = rough.make_model(family, tmp_path / "model")
    calibration = Calibration.of(rough.random_tokens(8, 32))

    def found() -> dict[str, Tensor]:
        model = StreamedModel(folder, device=GPU, dtype=dtype)
        return row_sensitivity(model, calibration, batch=4, folder=tmp_path)

    fused = found()
    monkeypatch.setattr(fusion, "has_kernels", lambda device: False)
    plain = found()
    assert list(fused) == list(plain)
    for name, values in fused.items():
        rtol, atol = (1e-4, 1e-5) if dtype == "float32" else (5e-2, 5e-3)
        torch.testing.assert_close(values, plain[name], rtol=rtol, atol=atol * float(values.max()))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_whole_runs(family, dtype, tmp_path, monkeypatch):
    folder = rough.make_model(family, tmp_path / "model")
    options = {"tokens": rough.random_tokens(8, 32), "target": 0.5, "dtype": dtype}
    fused = trim.prune(folder, tmp_path / "fused", **options)
    monkeypatch.setattr(fusion, "has_kernels", lambda device: False)
    plain = trim.prune(folder, tmp_path / "plain", **options)
    assert fused.metrics["sparsity"] == plain.metrics["sparsity"]
    for name in fused.layers:
        one, other = fused.layer(name), plain.layer(name)
        assert (one.keep() == other.keep()).mean() > 0.97
        assert one.realised_quality == pytest.approx(other.realised_quality, abs=2e-3)
        assert one.uniform_quality == pytest.approx(other.uniform_quality, abs=2e-3)
        assert abs(one.gini - other.gini).max() < 2e-2


@pytest.mark.parametrize("free", [True, False])
def test_weights_read_ahead_are_those_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: bool
):
    monkeypatch.setattr(streamed, "half_is_free", lambda device, after_bytes=0: free)
    model = StreamedModel(tiny.folder(tmp_path / "llama"), device=GPU, dtype="float32")
    for index in (0, 1, 2, 1):
        with model.block(index) as block:
            for name, parameter in block.named_parameters():
                stored = model.files.read(f"model.layers.{index}.{name}")
                assert torch.equal(parameter.cpu(), stored), name
            if 0 < index + 1 < len(model.blocks):
                (coming, *_) = model._prefetcher._coming.values()
                assert all(tensor.is_cuda == free for tensor in coming.result().tensors.values())


def test_weights_that_do_not_fit_on_the_gpu_wait_in_host_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    plain = torch.Tensor.to

    def full(tensor: torch.Tensor, *arguments: object, **options: object) -> torch.Tensor:
        if tensor.dtype == torch.uint8:
            raise torch.OutOfMemoryError("full")
        return plain(tensor, *arguments, **options)

    monkeypatch.setattr(torch.Tensor, "to", full)
    model = StreamedModel(tiny.folder(tmp_path / "llama"), device=GPU, dtype="float32")
    model.prefetch(0)
    with model.block(0) as block:
        stored = model.files.read("model.layers.0.mlp.up_proj.weight")
        assert torch.equal(block.mlp.up_proj.weight.cpu(), stored)
