"""Matrix products with float32 sums and results, for half-precision matrices too."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)
_PIECE = 1024  # the most terms of a sum inside tensor cores


def sum_dtype(values: Tensor) -> torch.dtype:
    """Return the type in which to sum values: float32 for 16-bit types, their own otherwise."""
    return torch.promote_types(values.dtype, torch.float32)


def full_product(left: Tensor, right: Tensor) -> Tensor:
    """Return left @ right in float32, (M, N); of matrices (M, K) and (K, N), or of batches (G, M, K) and (G, K, N)."""
    if left.is_cuda and left.dtype == right.dtype and left.dtype in HALF:
        if left.ndim == 3 and len(left) == 1:
            return full_product(left[0], right[0])[None]
        multiply, add = (torch.mm, torch.addmm) if left.ndim == 2 else (torch.bmm, torch.baddbmm)
        # Tensor cores round their sums towards zero. Sums of pieces, added in float32, keep that error small.
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
