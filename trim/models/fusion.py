"""Replace each operation between a block's matrix products by one kernel while the block runs on a GPU.

Norms, rotary embeddings and gated activations are found by what they compute: the plain code of an installed
`transformers` takes their place only where it gives what `plain_norm`, `plain_rotary` and `plain_gated` give, bit for
bit, on a few examples. Everything else, and every call that does not fit the kernels, stays as it is. Gradients go back
through them, except with respect to a norm's weight or a rotary table.

Measured against liger-kernel 0.8.5 (H200, 2026-11-29, torch 2.11; four blocks of the Llama-2-7B shape in float16, 128
windows of 2,048, whole runs of TRIM, medians of three): plain code 2.61 s, these kernels 2.12 s, liger 2.06 s. These
stay because liger supports 18 of the 51 families of `transformers` that they fit, and because 82% of the elements that
its passes compute differ from those of the plain code, and none of these.
"""

import contextlib
import functools
import inspect
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Protocol, TypeGuard

import torch
from torch import Tensor, nn

from trim.devices import DTYPES, has_kernels
from trim.kernels import block_autograd
from trim.matmul import HALF
from trim.models.experts import Experts
from trim.models.replaced import replaced

ROTARY = "apply_rotary_pos_emb"  # its name in every modeling file of transformers


class BlockModule(Protocol):
    """A module of a block."""

    forward: Callable[..., Tensor]


class Norm(BlockModule, Protocol):
    """A module that `is_norm`."""

    weight: Tensor
    variance_epsilon: float


class Gated(BlockModule, Protocol):
    """A module that `is_gated`."""

    gate_proj: Callable[[Tensor], Tensor]
    up_proj: Callable[[Tensor], Tensor]
    down_proj: Callable[[Tensor], Tensor]
    act_fn: Callable[[Tensor], Tensor]


@contextlib.contextmanager
def fused(block: nn.Module, device: torch.device) -> Iterator[None]:
    """Use fused kernels in a block inside the `with` block, if this device has kernels.

    Linear layers are still called as modules, with the same inputs, so that hooks on them still work.
    """
    if not has_kernels(device):
        yield
        return
    with contextlib.ExitStack() as stack:
        for part in block.modules():
            if "forward" in vars(part):
                continue  # replaced by other code
            if is_norm(part):
                stack.enter_context(replaced(part, "forward", functools.partial(_norm, part, device)))
            elif is_gated(part):
                stack.enter_context(replaced(part, "forward", functools.partial(_gated, part, device)))
            elif isinstance(part, Experts):
                stack.enter_context(
                    replaced(part, "add_weighted", functools.partial(_add_weighted, part, device))
                )
        for namespace in rotary_namespaces(block):
            rotary = functools.partial(_rotary, namespace[ROTARY], device)
            stack.enter_context(_replaced(namespace, ROTARY, rotary))
        yield


@contextlib.contextmanager
def _replaced(namespace: dict, name: str, value: Callable) -> Iterator[None]:
    """Set a function of a module's namespace to `value` inside the `with` block.

    Other threads may call `value`, which calls the plain code for other devices.
    """
    before, namespace[name] = namespace[name], value
    if isinstance(before, functools.partial):  # another thread has replaced it as well
        before = before.args[0]
    try:
        yield
    finally:
        namespace[name] = before


def _norm(part: Norm, device: torch.device, *arguments: Tensor, **options: object) -> Tensor:
    if options or len(arguments) != 1:
        return type(part).forward(part, *arguments, **options)
    (states,) = arguments
    fits = _fit(device, states, part.weight) and _frozen(part.weight)
    if not fits or states.shape[-1:] != part.weight.shape:
        return type(part).forward(part, states)
    with _on(device, states):
        return block_autograd.rms_norm(states, part.weight, part.variance_epsilon)


def _gated(part: Gated, device: torch.device, *arguments: Tensor, **options: object) -> Tensor:
    if options or len(arguments) != 1 or not _fit(device, *arguments):
        return type(part).forward(part, *arguments, **options)
    (states,) = arguments
    gate, up = part.gate_proj(states), part.up_proj(states)
    if not _fit(device, gate, up) or gate.shape != up.shape:
        return part.down_proj(part.act_fn(gate) * up)
    with _on(device, states):
        product = block_autograd.silu_product(gate, up)
    del gate, up
    return part.down_proj(product)


def _add_weighted(
    part: Experts, device: torch.device, result: Tensor, tokens: Tensor, output: Tensor, weight: Tensor
) -> None:
    """Add experts' outputs; in float32, where products are not rounded, the plain code is as good."""
    fits = result.dtype in HALF and _fit(device, result, output) and _frozen(result, output, weight)
    if not fits or weight.dtype not in (result.dtype, torch.float32) or not weight.is_contiguous():
        type(part).add_weighted(part, result, tokens, output, weight)
    elif len(tokens):
        from trim.kernels import block as block_kernels

        with _on(device, result):
            block_kernels.add_weighted(result, tokens, output, weight)


def _rotary(
    plain: Callable[..., tuple[Tensor, Tensor]], device: torch.device, *arguments: Tensor, **options: object
) -> tuple[Tensor, Tensor]:
    if options or len(arguments) != 4 or not _can_rotate(device, *arguments):
        return plain(*arguments, **options)
    with _on(device, arguments[0]):
        return block_autograd.rotary(*arguments)


def _can_rotate(device: torch.device, query: Tensor, key: Tensor, cosine: Tensor, sine: Tensor) -> bool:
    """Return whether the rotary kernel takes these tensors."""
    tensors = (query, key, cosine, sine)
    fits = _fit(device, *tensors, contiguous=False) and _frozen(cosine, sine)
    if query.ndim != 4 or key.ndim != 4 or not fits:
        return False
    batch, _, length, dimensions = query.shape
    return (
        (key.shape[0], *key.shape[2:]) == (batch, length, dimensions)
        and cosine.shape in ((1, length, dimensions), (batch, length, dimensions))
        and sine.shape == cosine.shape
        and sine.stride() == cosine.stride()
        and all(values.stride(-1) == 1 for values in tensors)
        and dimensions % 2 == 0
    )


def _fit(device: torch.device, *tensors: Tensor, contiguous: bool = True) -> bool:
    """Return whether kernels can run on these tensors: they have one type and are on the device."""
    dtype = tensors[0].dtype
    return (
        dtype in DTYPES.values()
        and all(values.dtype == dtype and values.device.type == device.type for values in tensors)
        and (not contiguous or all(values.is_contiguous() for values in tensors))
    )


def _frozen(*tensors: Tensor) -> bool:
    """Return whether no gradient with respect to these tensors is needed."""
    return not torch.is_grad_enabled() or not any(values.requires_grad for values in tensors)


def _on(device: torch.device, states: Tensor) -> contextlib.AbstractContextManager:
    """Make the GPU of `states` the current one, on which Triton launches."""
    return torch.cuda.device(states.device) if device.type == "cuda" else contextlib.nullcontext()


def plain_norm(states: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Compute the root mean square norm of states (..., N) with a weight (N,): statistics and quotient in float32."""
    wide = states.to(torch.float32)
    wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)
    return weight * wide.to(states.dtype)


def plain_rotary(query: Tensor, key: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
    """Rotate query and key (batch, heads, length, dimensions) by tables (batch, length, dimensions)."""

    def rotated(states: Tensor) -> Tensor:
        first, second = states.chunk(2, dim=-1)
        return states * cosine[:, None] + torch.cat((-second, first), dim=-1) * sine[:, None]

    return rotated(query), rotated(key)


def plain_gated(gate: Tensor, up: Tensor) -> Tensor:
    """Compute SiLU(gate) · up."""
    return nn.functional.silu(gate) * up


def is_norm(part: nn.Module) -> TypeGuard[Norm]:
    """Return whether a module computes `plain_norm` with its `weight` and `variance_epsilon`."""
    return (
        isinstance(getattr(part, "weight", None), Tensor)
        and isinstance(getattr(part, "variance_epsilon", None), float)
        and _computes_norm(type(part).forward)
    )


def is_gated(part: nn.Module) -> TypeGuard[Gated]:
    """Return whether a module computes down_proj(`plain_gated`(gate_proj(x), up_proj(x)))."""
    layers = (getattr(part, name, None) for name in ("gate_proj", "up_proj", "down_proj"))
    activation: Callable[[], object] = type(getattr(part, "act_fn", None))
    return all(isinstance(layer, nn.Linear) for layer in layers) and _computes_gated(
        type(part).forward, activation
    )


def rotary_namespaces(block: nn.Module) -> list[dict]:
    """Find the namespaces in which parts of a block look up a rotary function that computes `plain_rotary`."""
    found: list[dict] = []
    for kind in {type(part) for part in block.modules()}:
        forward = inspect.unwrap(kind.forward)
        if ROTARY not in getattr(getattr(forward, "__code__", None), "co_names", ()):
            continue
        namespace = forward.__globals__
        function = namespace.get(ROTARY)
        # A partial is our replacement for another block that runs now.
        if (
            function is None
            or isinstance(function, functools.partial)
            or any(namespace is one for one in found)
        ):
            continue
        if _computes_rotary(function):
            found.append(namespace)
    return found


@functools.cache
def _computes_norm(forward: Callable[..., Tensor]) -> bool:
    def same(dtype: torch.dtype) -> bool:
        states, weight = _examples(dtype, 3, 24), _examples(dtype, 24)
        part = SimpleNamespace(weight=weight, variance_epsilon=1e-2)
        return torch.equal(forward(part, states), plain_norm(states, weight, 1e-2))

    return _in_every_type(same)


@functools.cache
def _computes_gated(forward: Callable[..., Tensor], activation: Callable[[], object]) -> bool:
    def same(dtype: torch.dtype) -> bool:
        states = _examples(dtype, 3, 24)
        part = SimpleNamespace(
            gate_proj=lambda x: x[:, :8], up_proj=lambda x: x[:, 8:16], down_proj=lambda x: x.cumsum(dim=1),
            act_fn=activation(),
        )  # fmt: skip
        expected = plain_gated(states[:, :8], states[:, 8:16]).cumsum(dim=1)
        return torch.equal(forward(part, states), expected)

    return _in_every_type(same)


@functools.cache
def _computes_rotary(function: Callable) -> bool:
    def same(dtype: torch.dtype) -> bool:
        query, key = _examples(dtype, 2, 2, 3, 8), _examples(dtype, 2, 1, 3, 8)
        cosine, sine = _examples(dtype, 1, 3, 8), _examples(dtype, 1, 3, 8).flip(1)
        found, expected = function(query, key, cosine, sine), plain_rotary(query, key, cosine, sine)
        return all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))

    return _in_every_type(same)


def _examples(dtype: torch.dtype, *shape: int) -> Tensor:
    """Return pseudo-random numbers without changing the state of a generator."""
    numbers = torch.arange(1, torch.Size(shape).numel() + 1, dtype=torch.float64, device="cpu")
    return (3 * torch.sin(numbers.square())).to(dtype).view(shape)


def _in_every_type(same: Callable[[torch.dtype], bool]) -> bool:
    """Return whether `same` holds in every type; code that fails counts as different."""
    try:
        with torch.no_grad():
            return all(same(dtype) for dtype in DTYPES.values())
    except Exception:
        return False
