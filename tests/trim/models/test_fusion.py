"""Which parts of a block are fused, and when: on the CPU, with the plain code standing in for the kernels."""

import contextlib
import sys
from collections import Counter
from types import ModuleType

import pytest
import torch
from transformers.models.llama import modeling_llama

import trim.kernels
from tests.trim import rough, tiny
from trim.calibration.calibration import Calibration
from trim.calibration.sensitivity import row_sensitivity
from trim.models import fusion
from trim.models.fusion import plain_gated, plain_norm, plain_rotary
from trim.models.replay import record_calls
from trim.models.streamed import StreamedModel

CPU = torch.device("cpu")


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Counter:
    """How often each kernel was called, where the plain code is called in its place."""
    calls: Counter = Counter()
    kernels = ModuleType("trim.kernels.block")

    def stand_in(name, plain):
        def counted(*arguments):
            calls[name] += 1
            return plain(*arguments)

        setattr(kernels, name, counted)

    stand_in("rms_norm", fusion.plain_norm)
    stand_in("rms_norm_backward", lambda gradient, *given: gradients(plain_norm, given, [gradient], 1)[0])
    stand_in("rotary", fusion.plain_rotary)
    stand_in("rotary_backward", lambda gradient, *tables: rotated_back(gradient, *tables))
    stand_in("silu_product", fusion.plain_gated)
    stand_in("silu_product_backward", lambda gradient, *given: gradients(plain_gated, given, [gradient], 2))
    monkeypatch.setitem(sys.modules, "trim.kernels.block", kernels)
    monkeypatch.setattr(trim.kernels, "block", kernels, raising=False)
    monkeypatch.setattr(fusion, "has_kernels", lambda device: True)
    return calls


def rotated_back(gradient, cosine, sine):
    return gradients(lambda one: plain_rotary(one, one, cosine, sine)[0], [gradient], [gradient], 1)[0]


def gradients(plain, given, arriving, number):
    """Gradients with respect to the first few of what is given, by torch."""
    with torch.enable_grad():
        first = [values.detach().requires_grad_() for values in given[:number]]
        left = plain(*first, *given[number:])
        return torch.autograd.grad(left, first, arriving)


def first_block(family: str):
    """A block and a call of it."""
    module = tiny.module(family)
    blocks = (module.model.decoder if family == "opt" else module.model).layers
    states, calls = record_calls(module, list(blocks), rough.random_tokens(2, 8), None)
    return blocks[0], lambda entering=states: calls[0].for_gradients().replay(blocks[0], entering)


FUSED = {
    "llama": {"rms_norm": 2, "rotary": 1, "silu_product": 1},
    "qwen2": {"rms_norm": 2, "rotary": 1, "silu_product": 1},
    "mistral": {"rms_norm": 2, "rotary": 1, "silu_product": 1},
    "qwen3": {"rms_norm": 4, "rotary": 1, "silu_product": 1},
    "gemma": {"rotary": 1},  # a norm and an activation of its own
    "opt": {},
}


@pytest.mark.parametrize("family", FUSED)
def test_what_is_fused_in_each_family(family, called):
    block, run = first_block(family)
    with torch.inference_mode():
        plain = run()
        assert not called
        with fusion.fused(block, CPU):
            fused = run()
        assert called == FUSED[family]
        assert torch.equal(fused, plain)
        assert torch.equal(run(), plain)
    assert called == FUSED[family]


def test_hooks_on_linear_layers_see_what_they_saw(called):
    block, run = first_block("llama")

    def inputs():
        seen = []
        layers = [part for part in block.modules() if isinstance(part, torch.nn.Linear)]
        with contextlib.ExitStack() as hooks, torch.inference_mode():
            for layer in layers:
                hooks.enter_context(layer.register_forward_pre_hook(lambda _, given: seen.append(given[0])))
            run()
        return seen

    plain = inputs()
    with fusion.fused(block, CPU):
        fused = inputs()
    assert len(fused) == 7
    assert all(torch.equal(one, other) for one, other in zip(fused, plain, strict=True))
    same = [[one is other for other in fused] for one in fused]
    assert same == [[one is other for other in plain] for one in plain]


@pytest.mark.parametrize("family", FUSED)
def test_a_gradient_goes_back_through_what_is_fused(family, called):
    block, run = first_block(family)
    block.requires_grad_(False)

    def there_and_back():
        with torch.enable_grad():
            entering = torch.randn(2, 8, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
            leaving = run(entering)
            return leaving, *torch.autograd.grad(leaving, entering, torch.cos(leaving.detach()))

    plain, plain_gradient = there_and_back()
    assert not called
    with fusion.fused(block, CPU):
        fused, gradient = there_and_back()
    back = {f"{name}_backward": number * (1 + (name == "rotary")) for name, number in FUSED[family].items()}
    assert called == FUSED[family] | back
    assert torch.equal(fused, plain)
    torch.testing.assert_close(gradient, plain_gradient)


def test_no_gradient_where_only_one_is_used(called):
    block, _ = first_block("llama")
    query, key = (torch.randn(2, 4, 3, 8, requires_grad=True) for _ in range(2))
    table = torch.randn(1, 3, 8)
    with fusion.fused(block, CPU), torch.enable_grad():
        turned, _ = modeling_llama.apply_rotary_pos_emb(query, key, table, table)
        found = torch.autograd.grad(turned.sum(), (query, key), allow_unused=True, retain_graph=True)
        assert found[0] is not None
        assert found[1] is None
        (once,) = torch.autograd.grad(turned.square().sum(), query, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            once.sum().backward()
    assert called == {"rotary": 1, "rotary_backward": 2}


def test_gradients_of_weights_and_tables_take_the_plain_way(called):
    block, _ = first_block("llama")
    states = torch.randn(2, 3, 32)
    heads, table = torch.randn(2, 4, 3, 8), torch.randn(1, 3, 8, requires_grad=True)
    with fusion.fused(block, CPU), torch.enable_grad():
        block.input_layernorm(states).sum().backward()
        modeling_llama.apply_rotary_pos_emb(heads, heads, table, table)[0].sum().backward()
    assert not called
    assert bool(block.input_layernorm.weight.grad.any())
    assert bool(table.grad.any())


def test_everything_is_put_back_on_any_exit(called):
    block, _ = first_block("llama")
    rotary = modeling_llama.apply_rotary_pos_emb

    def in_place() -> bool:
        return "forward" in vars(block.mlp) and modeling_llama.apply_rotary_pos_emb is not rotary

    def stopped():
        with fusion.fused(block, CPU):
            with fusion.fused(block, CPU):
                assert in_place()
            assert in_place()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert modeling_llama.apply_rotary_pos_emb is rotary
    assert not any("forward" in vars(part) for part in block.modules())


def test_code_of_another_form_stays(called, monkeypatch):
    block, run = first_block("llama")

    def other(query, key, cosine, sine):
        return query * cosine[:, None], key * sine[:, None]

    def narrow(self, hidden_states):
        variance = hidden_states.pow(2).mean(-1, keepdim=True)
        return self.weight * hidden_states * torch.rsqrt(variance + self.variance_epsilon)

    class Norm(modeling_llama.LlamaRMSNorm):
        forward = narrow

    class Mlp(modeling_llama.LlamaMLP):
        def forward(self, x, scale):
            raise AssertionError("never called in this form")

    monkeypatch.setattr(modeling_llama, "apply_rotary_pos_emb", other)
    block.input_layernorm.__class__ = Norm
    block.mlp.__class__ = Mlp
    assert not fusion.is_norm(block.input_layernorm)
    assert not fusion.is_gated(block.mlp)
    assert fusion.rotary_namespaces(block) == []
    block.mlp.__class__ = modeling_llama.LlamaMLP
    with torch.inference_mode(), fusion.fused(block, CPU):
        run()
    assert called == {"rms_norm": 1, "silu_product": 1}


def test_calls_that_no_kernel_fits_go_the_plain_way(called):
    block, _ = first_block("llama")
    states, wide = torch.randn(2, 3, 32), torch.randn(2, 3, 64)
    heads, table = torch.randn(2, 4, 3, 8), torch.randn(1, 3, 8)
    rotary = modeling_llama.apply_rotary_pos_emb
    with torch.inference_mode(), fusion.fused(block, CPU):
        norm = block.input_layernorm
        expected = fusion.plain_norm(states, norm.weight, norm.variance_epsilon)
        assert torch.equal(norm(wide[..., ::2].copy_(states)), expected)  # not contiguous
        assert norm(states.double()).dtype == torch.float64
        fused_rotary = modeling_llama.apply_rotary_pos_emb
        assert torch.equal(
            fused_rotary(heads, heads, table, sin=table)[0], rotary(heads, heads, table, table)[0]
        )
        assert torch.equal(
            fused_rotary(heads, heads, table.half(), table.half())[0],
            rotary(heads, heads, table.half(), table.half())[0],
        )
        assert not called
        fused_rotary(heads, heads, table, table)
    assert called == {"rotary": 1}


def test_whole_runs_and_sensitivities(called, tmp_path):
    folder = rough.make_model("qwen2", tmp_path / "model")
    options = {"tokens": rough.random_tokens(), "target": 0.5}
    trim.prune(folder, tmp_path / "fused", **options)
    assert called["rms_norm"] == 3 * 2 + 2 * 2  # captured in three blocks, propagated through two
    assert called["silu_product"] == 3 + 2
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fusion, "has_kernels", lambda device: False)
        trim.prune(folder, tmp_path / "plain", **options)
    rough.assert_same_blocks(tmp_path / "fused", tmp_path / "plain")
    called.clear()
    calibration = Calibration.of(rough.random_tokens())
    row_sensitivity(StreamedModel(folder, device=CPU), calibration, batch=6, folder=tmp_path)
    back = {"rms_norm_backward": 6, "rotary_backward": 6, "silu_product_backward": 3}
    assert called == {"rms_norm": 12, "rotary": 6, "silu_product": 6} | back
