"""The operations of a block between its matrix products, on a CUDA device, in Triton.

Imported only where such a device is used. In the forward pass each value is rounded where the plain code in
`trim.models.fusion` rounds it, so only the order of a norm's sum of squares differs. In the backward pass the types are
those of torch's own gradients. The bandwidth of memory limits all of them: each number is read once and written once.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra import libdevice

# Elements that a program processes at once: of a norm or rotation, of a gated activation, and of an expert's output.
TILE = 4096
GATED_BLOCK = 2048
ADDED_BLOCK = 2048


def rms_norm(states: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Compute the root mean square norm.

    Args:
        states: (..., N), contiguous.
        weight: (N,), contiguous, of the same type.
        epsilon: added to the mean square.

    Returns:
        (..., N), of the same type.
    """
    out = torch.empty_like(states)
    grid, shape, tile = _in_tiles(states)
    _rms_norm[grid](states, weight, out, *shape, epsilon, **tile, enable_fp_fusion=False)
    return out


def rms_norm_backward(gradient: Tensor, states: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    """Compute the gradient of `rms_norm` with respect to the states, from the gradient with respect to its result.

    Args:
        gradient: (..., N), contiguous, of the states' type.
        states: as for `rms_norm`.
        weight: as for `rms_norm`.
        epsilon: as for `rms_norm`.
    """
    out = torch.empty_like(states)
    grid, shape, tile = _in_tiles(states)
    _rms_norm_backward[grid](gradient, states, weight, out, *shape, epsilon, **tile)
    return out


def _in_tiles(states: Tensor) -> tuple[tuple[int], tuple[int, int, float], dict[str, int]]:
    """Plan the launch of a norm of states (..., N): the grid; rows, N and 1 / N; a program's tile and its warps."""
    columns = states.shape[-1]
    rows = states.numel() // columns
    block = triton.next_power_of_2(columns)
    row_block = max(1, TILE // block)
    warps = min(16, max(4, row_block * block // 512))
    tile = {"ROWS": row_block, "BLOCK": block, "num_warps": warps}
    return (triton.cdiv(rows, row_block),), (rows, columns, 1 / columns), tile


def rotary(query: Tensor, key: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
    """Embed positions by rotation.

    Args:
        query: (batch, heads, length, dimensions), in any layout whose last stride is 1; dimensions are even.
        key: in the query's layout, with as many heads or fewer.
        cosine: (batch or 1, length, dimensions), last stride 1.
        sine: in the shape and strides of `cosine`.

    Returns:
        The rotated query and key, in the same layout where it has no gaps.
    """
    return _rotated(query, cosine, sine, backward=False), _rotated(key, cosine, sine, backward=False)


def rotary_backward(gradient: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Compute the gradient of `rotary` with respect to query or key, from the gradient with respect to its result."""
    return _rotated(gradient, cosine, sine, backward=True)


def _rotated(states: Tensor, cosine: Tensor, sine: Tensor, backward: bool) -> Tensor:
    """Rotate query or key states, or rotate their gradient back."""
    batch, heads, length, dimensions = states.shape
    out = torch.empty_like(states)
    half = dimensions // 2
    width = triton.next_power_of_2(half)
    head_block = min(triton.next_power_of_2(heads), max(1, TILE // 2 // width))
    _rotate[(batch * length, triton.cdiv(heads, head_block))](
        states, out, cosine, sine, heads, length,
        *states.stride()[:3], *out.stride()[:3],
        cosine.stride(0) if cosine.shape[0] > 1 else 0, cosine.stride(1),
        HALF=half, WIDTH=width, HEADS=head_block, BACKWARD=backward,
        num_warps=min(4, max(1, head_block * width // 512)), enable_fp_fusion=False,
    )  # fmt: skip
    return out


def silu_product(gate: Tensor, up: Tensor) -> Tensor:
    """Compute SiLU(gate) · up, of tensors of one shape and type, contiguous."""
    out = torch.empty_like(gate)
    _silu_product[(triton.cdiv(gate.numel(), GATED_BLOCK),)](
        gate, up, out, gate.numel(), BLOCK=GATED_BLOCK, num_warps=4
    )
    return out


def silu_product_backward(gradient: Tensor, gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the gradients of `silu_product` with respect to gate and up, from that with respect to its result."""
    gate_gradient, up_gradient = torch.empty_like(gate), torch.empty_like(up)
    _silu_product_backward[(triton.cdiv(gate.numel(), GATED_BLOCK),)](
        gradient, gate, up, gate_gradient, up_gradient, gate.numel(), BLOCK=GATED_BLOCK, num_warps=4
    )
    return gate_gradient, up_gradient


def add_weighted(result: Tensor, tokens: Tensor, output: Tensor, weight: Tensor) -> None:
    """Add output · weight to some rows of a result, in place, as `index_add_` does: products and sums are rounded.

    Args:
        result: (T, N) of a 16-bit type, contiguous.
        tokens: (n,) int64, the row of each output; equal rows follow each other.
        output: (n, N) of the result's type, contiguous.
        weight: (n,) of the result's type or float32.
    """
    rows, columns = output.shape
    block = min(ADDED_BLOCK, triton.next_power_of_2(columns))
    _add_weighted[(rows, triton.cdiv(columns, block))](
        result, tokens, output, weight, rows, columns, BLOCK=block, num_warps=4, enable_fp_fusion=False
    )


@triton.jit(do_not_specialize=["rows"])
def _add_weighted(result, tokens, output, weight, rows, columns, BLOCK: tl.constexpr):
    """Add all outputs of one row, if the first of them is this program's."""
    here = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < columns
    token = tl.load(tokens + here)
    before = tl.load(tokens + here - 1, mask=here > 0, other=-1)
    if token != before:
        place = result + token * columns + column
        sums = tl.load(place, mask=inside, other=0.0)
        following = token
        while following == token:
            scale = tl.load(weight + here).to(tl.float32)
            added = tl.load(output + here * columns + column, mask=inside, other=0.0).to(tl.float32) * scale
            added = added.to(sums.dtype)
            sums = (sums.to(tl.float32) + added.to(tl.float32)).to(sums.dtype)
            here += 1
            following = tl.load(tokens + here, mask=here < rows, other=-1)
        tl.store(place, sums, mask=inside)


@triton.jit
def _tile(rows, columns, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Return a program's columns, the offsets of its elements, and which of them are inside (rows, columns)."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    return column, row * columns + column, (row < rows) & (column < columns)


@triton.jit
def _rms_norm(
    states, weight, out, rows, columns, share, epsilon, ROWS: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """Normalize `ROWS` rows; share = 1 / N."""
    column, place, inside = _tile(rows, columns, ROWS, BLOCK)
    values = tl.load(states + place, mask=inside, other=0.0).to(tl.float32)
    mean_square = tl.sum(values * values, axis=1) * share
    normed = (values * tl.rsqrt(mean_square + epsilon)[:, None]).to(out.dtype.element_ty)
    scale = tl.load(weight + column, mask=column < columns, other=0.0)
    result = scale.to(tl.float32) * normed.to(tl.float32)
    tl.store(out + place, result.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _rms_norm_backward(
    gradient, states, weight, out, rows, columns, share, epsilon, ROWS: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """Compute r · g − r³ · mean(g · x) · x with r = 1 / √(mean x² + ε) and g = weight · gradient."""
    column, place, inside = _tile(rows, columns, ROWS, BLOCK)
    values = tl.load(states + place, mask=inside, other=0.0).to(tl.float32)
    root = tl.rsqrt(tl.sum(values * values, axis=1) * share + epsilon)[:, None]
    scale = tl.load(weight + column, mask=column < columns, other=0.0)
    arriving = tl.load(gradient + place, mask=inside, other=0.0)
    arriving = _rounded_product(arriving, scale).to(tl.float32)
    along = tl.sum(arriving * values, axis=1)[:, None] * share
    result = root * arriving - root * root * root * along * values
    tl.store(out + place, result.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _rounded_product(left, right):
    """Multiply in the type of both."""
    return (left.to(tl.float32) * right.to(tl.float32)).to(left.dtype)


@triton.jit
def _rotate(
    states, out, cosine, sine, heads, length,
    batch_stride, head_stride, token_stride, out_batch_stride, out_head_stride, out_token_stride,
    table_batch_stride, table_token_stride,
    HALF: tl.constexpr, WIDTH: tl.constexpr, HEADS: tl.constexpr, BACKWARD: tl.constexpr,
):  # fmt: skip
    """Rotate `HEADS` heads of one token: x · cos + (−second half, first half of x) · sin; `BACKWARD`: the transpose."""
    batch = (tl.program_id(0) // length).to(tl.int64)
    token = (tl.program_id(0) % length).to(tl.int64)
    head = (tl.program_id(1) * HEADS + tl.arange(0, HEADS)[:, None]).to(tl.int64)
    dimension = tl.arange(0, WIDTH)[None, :]
    within = dimension < HALF
    inside = (head < heads) & within
    table = batch * table_batch_stride + token * table_token_stride + dimension
    place = states + batch * batch_stride + token * token_stride + head * head_stride + dimension
    target = out + batch * out_batch_stride + token * out_token_stride + head * out_head_stride + dimension
    first = tl.load(place, mask=inside, other=0.0)
    second = tl.load(place + HALF, mask=inside, other=0.0)
    first_cosine = tl.load(cosine + table, mask=within, other=0.0)
    second_cosine = tl.load(cosine + table + HALF, mask=within, other=0.0)
    first_sine = tl.load(sine + table, mask=within, other=0.0)
    second_sine = tl.load(sine + table + HALF, mask=within, other=0.0)
    left = _rounded_product(first, first_cosine).to(tl.float32)
    right = _rounded_product(second, second_cosine).to(tl.float32)
    if BACKWARD:
        left += _rounded_product(second, second_sine).to(tl.float32)
        right -= _rounded_product(first, first_sine).to(tl.float32)
    else:
        left -= _rounded_product(second, first_sine).to(tl.float32)
        right += _rounded_product(first, second_sine).to(tl.float32)
    tl.store(target, left.to(out.dtype.element_ty), mask=inside)
    tl.store(target + HALF, right.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _silu_product(gate, up, out, numbers, BLOCK: tl.constexpr):
    """Multiply silu(gate) by up; the exponential and the division are those of torch's kernel, to the last bit."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < numbers
    x = tl.load(gate + place, mask=inside, other=0.0).to(tl.float32)
    activated = tl.div_rn(x, 1.0 + libdevice.exp(-x)).to(out.dtype.element_ty)
    factor = tl.load(up + place, mask=inside, other=0.0)
    tl.store(out + place, _rounded_product(activated, factor), mask=inside)


@triton.jit
def _silu_product_backward(gradient, gate, up, gate_gradient, up_gradient, numbers, BLOCK: tl.constexpr):
    """Compute both gradients: with s the sigmoid of x, the activation is x · s, and its slope s · (1 + x · (1 − s))."""
    place = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = place < numbers
    x = tl.load(gate + place, mask=inside, other=0.0).to(tl.float32)
    sigmoid = tl.div_rn(1.0, 1.0 + libdevice.exp(-x))
    activated = (x * sigmoid).to(up_gradient.dtype.element_ty)
    arriving = tl.load(gradient + place, mask=inside, other=0.0)
    factor = tl.load(up + place, mask=inside, other=0.0)
    tl.store(up_gradient + place, _rounded_product(arriving, activated), mask=inside)
    slope = sigmoid * (1.0 + x * (1.0 - sigmoid))
    result = _rounded_product(arriving, factor).to(tl.float32) * slope
    tl.store(gate_gradient + place, result.to(gate_gradient.dtype.element_ty), mask=inside)
