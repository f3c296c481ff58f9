"""Weights that stay, refitted so that they make up for those that went.

A mask says which weights of a row stay; it need not say that they stay as they were. Of all rows ŵ with that mask, the
one whose output in the pruned model is nearest to the row's in the dense model, on the whole calibration text,
minimises

    ‖w X − ŵ X̂‖² + λ ‖w − ŵ‖²

a least-squares problem for each row (Frantar and Alistarh, "Optimal Brain Compression", arXiv 2208.11580, section 3),
where X is what the layer receives in the dense model, and X̂ what it receives after layers that have been pruned: so
each layer makes up for those before it too. All rows of a layer are solved at once by conjugate gradients on their
masks, with the diagonal as preconditioner (Meng et al., "ALPS", arXiv 2406.07831, section 3.3, refine a given mask so):
all that needs the text are X̂ X̂ᵀ and X X̂ᵀ, and an iteration is one product of the layer with the first. The objective
falls in every iteration, so however few there are, the layer's error is below that of the mask alone, or as good as it
can be.
"""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor

from trim.errors import NonFiniteError
from trim.matmul import full_product

# Ten iterations leave as much perplexity as 20 or 40 (docs/optimal.md).
ROUNDS, ITERATIONS = 2, 5
DAMPING = 0.01  # λ in shares of the mean of X̂ X̂ᵀ's diagonal, as SparseGPT (arXiv 2301.00774) damps it
_BLOCK_ENTRIES = 2**25  # of the layer at a time: six matrices as large are in memory


def refit(
    weight: Tensor,
    keep: Tensor,
    gram: Tensor,
    cross: Tensor,
    *,
    rounds: int = ROUNDS,
    iterations: int = ITERATIONS,
    damping: float = DAMPING,
) -> Tensor:
    """The weights that stay, nearest to the dense output; those that went are 0.

    Args:
        weight: (D, N), dense.
        keep: (D, N) bool, True where a weight stays.
        gram: (N, N) float32, Σ x̂ x̂ᵀ over the text's tokens.
        cross: (N, N) float32, Σ x x̂ᵀ.
        rounds: how often the residual is formed anew.
        iterations: of conjugate gradients in a round.
        damping: λ in shares of the mean of the Gram matrix's diagonal.

    Returns:
        (D, N) float32.

    Raises:
        NonFiniteError: a matrix overflows float32.
    """
    drift = cross - gram
    scale = gram.diagonal().mean()
    if not bool(scale.isfinite() & drift.sum().isfinite()):
        raise NonFiniteError("the sums of squares of its inputs overflow float32; go without --refit")
    ridge = damping * scale
    rows = max(1, _BLOCK_ENTRIES // weight.shape[1])
    parts = []
    for part, stays in zip(weight.split(rows), keep.split(rows), strict=True):
        dense = part.float()
        fitted = dense * stays
        # Of W (X − X̂) X̂ᵀ and (W − Ŵ) X̂ X̂ᵀ, each of which is small where nothing is wrong, the residual is a sum.
        wanted = full_product(dense, drift)
        for _ in range(rounds):
            missing = dense - fitted
            residual = (full_product(missing, gram) + missing * ridge + wanted).mul_(stays)
            with _fast_products(weight.device):
                fitted += _descent(residual, stays, gram, ridge, iterations)
        parts.append(fitted)
    return torch.cat(parts)


def _descent(residual: Tensor, keep: Tensor, gram: Tensor, ridge: Tensor, iterations: int) -> Tensor:
    """What conjugate gradients add to some rows with that residual; nothing where it is 0."""
    inverse_diagonal = 1 / (gram.diagonal() + ridge).clamp_min_(torch.finfo(torch.float32).tiny)
    added = torch.zeros_like(residual)
    step = residual * inverse_diagonal
    direction = step.clone()
    fall = (residual * step).sum(dim=1, keepdim=True)
    for _ in range(iterations):
        moved = (direction @ gram).add_(direction * ridge).mul_(keep)
        length = _share(fall, (direction * moved).sum(dim=1, keepdim=True))
        added.addcmul_(direction, length)
        residual.addcmul_(moved, -length)
        torch.mul(residual, inverse_diagonal, out=step)
        before, fall = fall, (residual * step).sum(dim=1, keepdim=True)
        direction.mul_(_share(fall, before)).add_(step)
    return added


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """part / whole, 0 where there is no whole."""
    return torch.where(whole > 0, part / whole, 0.0)


@contextlib.contextmanager
def _fast_products(device: torch.device) -> Iterator[None]:
    """TF32 on a GPU. What its rounding leaves, up to a third of the gain in single rows, the next round takes up."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if device.type == "cuda" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
