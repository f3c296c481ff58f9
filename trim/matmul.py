"""Matrix products in float32, of narrower matrices too, never rounded to less on the way."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)
_PIECE = 1024  # terms that tensor cores sum up by themselves


def at_least_float32(values: Tensor) -> torch.dtype:
    """Return the type in which to sum values: float32 for 16-bit types, their own otherwise."""
    return torch.promote_types(values.dtype, torch.float32)


def full_product(left: Tensor, right: Tensor) -> Tensor:
    """Return left @ right, (M, K) and (K, N) or one of each for some layers, (G, M, K) and (G, K, N), in float32."""
    if left.is_cuda and left.dtype == right.dtype and left.dtype in HALF:
        if left.ndim == 3 and len(left) == 1:
            return full_product(left[0], right[0])[None]
        multiply, add = (torch.mm, torch.addmm) if left.ndim == 2 else (torch.bmm, torch.baddbmm)
        # Tensor cores round their sums towards zero; short sums, added in float32, keep that small.
        first, *others = zip(left.split(_PIECE, dim=-1), right.split(_PIECE, dim=-2), strict=True)
        product = multiply(*first, out_dtype=torch.float32)
        for piece in others:
            add(product, *piece, out_dtype=torch.float32, out=product)
        return product
    with precision("highest"):
        return left.float() @ right.float()


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    """Set the precision of float32 products inside the `with` block, as `torch.set_float32_matmul_precision` does."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(name)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
