"""Memory: how much is computed at once, and blocks that are computed again."""

from collections.abc import Callable

import torch

import trim
from tests.trim import rough
from trim.recovery import memory
from trim.recovery.run import recomputed


def test_memory_decides_how_much_is_computed_at_once(monkeypatch):
    sizes = memory.ModelSizes(10**6, 10**5, 10**4, 4, 100, 1000, 4)

    def free(bytes: float) -> Callable[[torch.device], int]:
        return lambda device: int(bytes)

    cpu = torch.device("cpu")
    monkeypatch.setattr(memory, "available_bytes", free(10**9))
    whole = memory.plan_memory(sizes, 8, 100, cpu)
    assert (whole.windows, whole.checkpointing) == (8, False)
    monkeypatch.setattr(memory, "available_bytes", free(whole.bytes - 1))
    assert memory.plan_memory(sizes, 8, 100, cpu).windows == 4
    one = memory.plan_memory(sizes, 1, 100, cpu)
    monkeypatch.setattr(memory, "available_bytes", free(one.bytes - 1))
    again = memory.plan_memory(sizes, 1, 100, cpu)
    assert again.checkpointing
    assert again.bytes < one.bytes


def test_blocks_that_are_computed_again_give_the_same_gradients(dense):
    model = trim.load_model(dense, device="cpu")
    tokens = rough.random_tokens(2, 8)
    weight = model.layers["1.mlp.up_proj"].weight.requires_grad_(True)

    def gradient() -> torch.Tensor:
        model.module(input_ids=tokens).logits.square().mean().backward()
        found = weight.grad
        weight.grad = None
        return found

    plain = gradient()
    with recomputed(model.blocks):
        assert torch.equal(gradient(), plain)
    assert "forward" not in vars(model.blocks[0])
