"""The kernels of `trim.kernels.block` as differentiable functions.

They have gradients with respect to activations only: weights and rotary tables count as constants. They save fewer
tensors for the backward pass than the plain code, which saves every product.
"""

from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable


class _Context(FunctionCtx):
    """What `FunctionCtx` holds here, for type checkers: two tensors, and a norm's epsilon."""

    saved_tensors: tuple[Tensor, Tensor]
    epsilon: float


# The kernels need Triton, which not every machine has: they are imported where one is called.


def rms_norm(states: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Compute `trim.kernels.block.rms_norm`, with a gradient."""
    normed: Tensor = _Norm.apply(states, weight, epsilon)
    return normed


def rotary(query: Tensor, key: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
    """Compute `trim.kernels.block.rotary`, with a gradient."""
    rotated: tuple[Tensor, Tensor] = _Rotary.apply(query, key, cosine, sine)
    return rotated


def silu_product(gate: Tensor, up: Tensor) -> Tensor:
    """Compute `trim.kernels.block.silu_product`, with a gradient."""
    product: Tensor = _Gated.apply(gate, up)
    return product


class _Norm(Function):
    @staticmethod
    def forward(ctx: _Context, states: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        from trim.kernels import block as block_kernels

        ctx.save_for_backward(states, weight)
        ctx.epsilon = epsilon
        return block_kernels.rms_norm(states, weight, epsilon)

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, gradient: Tensor) -> tuple[Tensor, None, None]:
        from trim.kernels import block as block_kernels

        gradient = gradient.contiguous()
        return block_kernels.rms_norm_backward(gradient, *ctx.saved_tensors, ctx.epsilon), None, None


class _Rotary(Function):
    @staticmethod
    def forward(
        ctx: _Context, query: Tensor, key: Tensor, cosine: Tensor, sine: Tensor
    ) -> tuple[Tensor, Tensor]:
        from trim.kernels import block as block_kernels

        ctx.save_for_backward(cosine, sine)
        ctx.set_materialize_grads(False)  # None where a block does not use one of the two
        return block_kernels.rotary(query, key, cosine, sine)

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        from trim.kernels import block as block_kernels

        def rotate_back(gradient: Tensor | None) -> Tensor | None:
            if gradient is None:
                return None
            gradient = gradient if gradient.stride(-1) == 1 else gradient.contiguous()
            return block_kernels.rotary_backward(gradient, *ctx.saved_tensors)

        return *map(rotate_back, gradients), None, None


class _Gated(Function):
    @staticmethod
    def forward(ctx: _Context, gate: Tensor, up: Tensor) -> Tensor:
        from trim.kernels import block as block_kernels

        ctx.save_for_backward(gate, up)
        return block_kernels.silu_product(gate, up)

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, gradient: Tensor) -> tuple[Tensor, Tensor]:
        from trim.kernels import block as block_kernels

        return block_kernels.silu_product_backward(gradient.contiguous(), *ctx.saved_tensors)
