"""The least-squares problem of a layer's kept weights, and the descent that solves it on given entries.

Of all ŵ with a row's mask, the one whose output in the pruned model is nearest to the row's output in the dense model
minimises

    ‖w X + e − ŵ X̂‖² + λ ‖w − ŵ‖²

where X is what the layer receives in the dense model and X̂ what it receives after layers that have been pruned. e is 0,
or what the residual stream that the output is added to has lost before, which the layer shall make up for too. All that
it needs of the text are X̂ X̂ᵀ, X X̂ᵀ and E X̂ᵀ.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import torch
from numpy.polynomial import Chebyshev, Polynomial
from torch import Tensor

from trim.errors import NonFiniteError
from trim.matmul import full_product

DAMPING = 0.01  # λ in shares of the mean of X̂ X̂ᵀ's diagonal, as SparseGPT (arXiv 2301.00774) damps it
_BLOCK_ENTRIES = 2**25  # of the layer at a time: six matrices as large are in memory


@dataclass(frozen=True, eq=False)
class TextProducts:
    """All that a least-squares problem needs of the text.

    Attributes:
        gram: (N, N) float32, Σ x̂ x̂ᵀ over the text's tokens.
        cross: (N, N) float32, Σ x x̂ᵀ; the same tensor as `gram` where outputs shall be those of the inputs x̂.
        damping: λ in shares of the mean of the Gram matrix's diagonal.
        lost: (D, N) float32, Σ e x̂ᵀ, where outputs shall make up for errors e (D,) of others too; None: for none.
    """

    gram: Tensor = field(repr=False)
    cross: Tensor = field(repr=False)
    damping: float = DAMPING
    lost: Tensor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        # One NaN or infinity reaches a sum.
        sums = torch.stack([each.sum() for each in (self.gram, self.cross, self.lost) if each is not None])
        if not bool(sums.isfinite().all()):
            raise NonFiniteError("the sums of squares of its inputs overflow float32")

    @property
    def ridge(self) -> Tensor:
        """λ, () float32."""
        return self.damping * self.gram.diagonal().mean()

    @cached_property
    def column_scale(self) -> Tensor:
        """√ of the diagonal of X̂ X̂ᵀ + λI, 1 where it is 0: (N,) float32."""
        scale = (self.gram.diagonal() + self.ridge).sqrt()
        return torch.where(scale > 0, scale, 1.0)

    def inverse(self, rho: float) -> Tensor:
        """Return the inverse of X̂ X̂ᵀ + λI, with columns and rows scaled to 1, + ρI: (N, N) float32.

        Raises:
            torch.linalg.LinAlgError: there is none.
        """
        gram = self.gram / self.column_scale
        gram.div_(self.column_scale[:, None])
        gram.diagonal().add_(self.ridge / self.column_scale.square() + rho)
        factor = torch.linalg.cholesky(gram)
        del gram
        inverse: Tensor = torch.cholesky_inverse(factor)
        return inverse

    def __add__(self, other: "TextProducts") -> "TextProducts":
        """Add the products of another text."""
        gram = self.gram + other.gram
        cross = gram if self.cross is self.gram else self.cross + other.cross
        lost = None if self.lost is None or other.lost is None else self.lost + other.lost
        return TextProducts(gram, cross, self.damping, lost)

    def drift(self, dense: Tensor) -> Tensor | None:
        """Return (W (X − X̂) + E) X̂ᵀ of a layer (D, N) float32, its miss before anything is pruned; None: nothing."""
        if self.cross is self.gram:
            return self.lost
        drift = full_product(dense, self.cross - self.gram)
        return drift if self.lost is None else drift.add_(self.lost)

    def gradient(self, dense: Tensor, fitted: Tensor, drift: Tensor | None) -> Tensor:
        """Return minus half the objective's gradient at some rows (D, N) float32: 0 where a solution may move.

        It is (W (X − X̂) + E) X̂ᵀ + (W − Ŵ) X̂ X̂ᵀ: near a solution both terms are small, so float32 cancels little.
        """
        missing = dense - fitted
        moved = full_product(missing, self.gram).addcmul_(missing, self.ridge)
        return moved if drift is None else moved.add_(drift)

    def objective(self, dense: Tensor, fitted: Tensor, drift: Tensor | None) -> Tensor:
        """Return ‖w X + e − ŵ X̂‖² + λ ‖w − ŵ‖² of each row (D, N) float32, less what ŵ = w has of it: (D,) float64."""
        both = self.gradient(dense, fitted, drift)
        if drift is not None:
            both.add_(drift)
        return both.mul_(dense - fitted).sum(dim=1, dtype=torch.float64)


def raise_inverse(inverse: Tensor, rho: float, more: float) -> None:
    """Turn (A + ρI)⁻¹ into (A + (ρ + δ)I)⁻¹, in place, for A without negative eigenvalues: two products.

    With S the first, the second is S (I + δS)⁻¹, and δS has its eigenvalues between 0 and δ / ρ: there a cubic stands
    for 1 / (1 + x), within 1e-4 where ρ grows by 1.3.

    Args:
        inverse: (N, N) float32.
        rho: ρ.
        more: δ, positive.
    """
    cubic = Chebyshev.interpolate(lambda x: 1 / (1 + x), 3, domain=[0, more / rho])
    a, b, c, d = (float(part) * more**power for power, part in enumerate(cubic.convert(kind=Polynomial).coef))
    with fast_products(inverse.device):
        square = inverse @ inverse
        cube = torch.mul(inverse, c).add_(square, alpha=d)
        inverse.mul_(a).add_(square, alpha=b).addmm_(square, cube)


def descend(
    weight: Tensor,
    keep: Tensor,
    text: TextProducts,
    *,
    start: Tensor | None = None,
    drift: Tensor | None = None,
    rounds: int,
    iterations: int,
) -> Tensor:
    """Solve for the kept weights, nearest to the dense outputs, by conjugate gradients; the others are 0.

    All rows are solved at once, with the diagonal as preconditioner. The objective falls in every iteration.

    Args:
        weight: (D, N), dense.
        keep: (D, N) bool, True where a weight is kept.
        text: what the problem needs of the text.
        start: (D, N) float32, where to begin; None: at the dense weights.
        drift: `text.drift(…)`, (D, N) float32; None: it is computed.
        rounds: how often the residual is computed from scratch.
        iterations: conjugate gradient iterations in a round.

    Returns:
        (D, N) float32.
    """
    rows = max(1, _BLOCK_ENTRIES // weight.shape[1])
    drift = text.drift(weight.float()) if drift is None else drift
    parts = []
    for first in range(0, len(weight), rows):
        part = slice(first, first + rows)
        dense, kept = weight[part].float(), keep[part]
        fitted = (dense if start is None else start[part]) * kept
        wanted = None if drift is None else drift[part]
        for _ in range(rounds):
            residual = text.gradient(dense, fitted, wanted).mul_(kept)
            with fast_products(weight.device):
                fitted += _conjugate_gradients(residual, kept, text, iterations)
        parts.append(fitted)
    return torch.cat(parts)


def _conjugate_gradients(residual: Tensor, keep: Tensor, text: TextProducts, iterations: int) -> Tensor:
    """Return what conjugate gradients add to rows with that residual, which they change; nothing where it is 0."""
    gram, ridge = text.gram, text.ridge
    inverse_diagonal = 1 / (gram.diagonal() + ridge).clamp_min_(torch.finfo(torch.float32).tiny)
    x = torch.zeros_like(residual)
    z = residual * inverse_diagonal
    p = z.clone()
    rz = (residual * z).sum(dim=1, keepdim=True)
    for _ in range(iterations):
        ap = (p @ gram).addcmul_(p, ridge).mul_(keep)
        alpha = _share(rz, (p * ap).sum(dim=1, keepdim=True))
        x.addcmul_(p, alpha)
        residual.addcmul_(ap, -alpha)
        torch.mul(residual, inverse_diagonal, out=z)
        before, rz = rz, (residual * z).sum(dim=1, keepdim=True)
        p.mul_(_share(rz, before)).add_(z)
    return x


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """Divide part by whole; 0 where there is no whole."""
    return torch.where(whole > 0, part / whole, 0.0)


@contextlib.contextmanager
def fast_products(device: torch.device) -> Iterator[None]:
    """Allow TF32 on a GPU: what its rounding leaves, up to a third of the gain in rows, the next round takes up."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if device.type == "cuda" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
