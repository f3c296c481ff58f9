"""Sums of outer products of a layer's inputs over a text's tokens, batch by batch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from trim.errors import NonFiniteError
from trim.matmul import HALF
from trim.methods.least_squares import TextProducts


@dataclass(frozen=True)
class ProductsRequest:
    """The outer products that a listener is to sum up.

    Attributes:
        held_out: how many windows, the last ones, are summed up separately.
        stream: whether layers that write to the residual stream are to make up for its error.
    """

    held_out: int = 0
    stream: bool = False


@dataclass(eq=False)
class ProductSums:
    """Sums of outer products over part of the text.

    Attributes:
        gram: (N, N) float32, Σ x̂ x̂ᵀ, with inputs x̂ of the pruned model.
        cross: (N, N) float32, Σ x x̂ᵀ, with inputs x of the dense model; None: without a dense model.
        error_cross: (D, N) float32, Σ (r − r̂) x̂ᵀ, with residual streams r of the dense and r̂ of the pruned model; None:
            not captured.
    """

    gram: Tensor
    cross: Tensor | None
    error_cross: Tensor | None

    def add(self, other: "ProductSums") -> None:
        """Add the sums of more text."""
        self.gram.add_(other.gram)
        if self.cross is not None and other.cross is not None:
            self.cross.add_(other.cross)
        if self.error_cross is not None and other.error_cross is not None:
            self.error_cross.add_(other.error_cross)

    def products(self, name: str) -> TextProducts:
        """Return the products from which the layer of this name is solved.

        Raises:
            NonFiniteError: the sums overflow.
        """
        try:
            return TextProducts(
                self.gram, self.gram if self.cross is None else self.cross, error_cross=self.error_cross
            )
        except NonFiniteError as error:
            raise NonFiniteError(
                f"{name}: {error}; go without --refit, or choose another --allocation"
            ) from None


def outer_products(left: Tensor, right: Tensor) -> Tensor:
    """Return Σ x yᵀ over vectors (L, N) and (L, N), (N, N) float32, without wider copies of 16-bit types on a GPU.

    Unlike `full_product` it does not split the sum: the rounding of tensor cores is far below the damping of a refit.
    """
    if left.device.type == "cuda" and left.dtype in HALF:
        return torch.mm(left.T, right, out_dtype=torch.float32)
    return left.float().T @ right.float()
