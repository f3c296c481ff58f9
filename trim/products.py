"""Matrix products in float32, of narrower matrices too, never rounded to less on the way."""

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)
_PIECE = 1024  # terms that tensor cores sum up by themselves


def full_product(left: Tensor, right: Tensor) -> Tensor:
    """left @ right, (M, K) and (K, N), in float32."""
    if left.is_cuda and left.dtype == right.dtype and left.dtype in HALF:
        # Tensor cores round their sums towards zero; short sums, added in float32, keep that small.
        pieces = zip(left.split(_PIECE, dim=1), right.split(_PIECE), strict=True)
        return sum(torch.mm(*piece, out_dtype=torch.float32) for piece in pieces)
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        return left.float() @ right.float()
    finally:
        torch.set_float32_matmul_precision(precision)


def wide_product(left: Tensor, right: Tensor) -> Tensor:
    """left @ right where only `right` may be narrow: tensor cores then multiply `left` in parts that add up to it.

    Args:
        left: (M, K) float32.
        right: (K, N) float16, bfloat16 or float32.

    Returns:
        (M, N) float32; of each row an error of about 2⁻²² of its largest factors remains.
    """
    if not right.is_cuda or right.dtype not in HALF:
        return full_product(left, right)
    # A power of two brings the largest factor of each row to where float16 has the most room below it.
    scale = torch.ldexp(
        torch.ones_like(left[:, :1]), 14 - torch.frexp(left.abs().amax(dim=1, keepdim=True))[1]
    )
    rest, parts = left * scale, []
    for _ in range(2 if right.dtype == torch.float16 else 3):
        parts.append(rest.to(right.dtype))
        rest = rest - parts[-1]
    return full_product(torch.cat(parts, dim=1), right.repeat(len(parts), 1)).div_(scale)
