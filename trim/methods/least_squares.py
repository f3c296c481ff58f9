"""The least-squares problem of a layer's kept weights, and the descent that solves it on given entries.

Among all ŵ with a row's mask, the one whose output in the pruned model is nearest to the dense model's output minimises

    ‖w X + e − ŵ X̂‖² + λ ‖w − ŵ‖²

where X are the layer's inputs in the dense model, and X̂ its inputs after earlier layers were pruned. e is 0, or the
error of the residual stream that the output is added to, which the layer is to compensate as well. The text enters only
through X̂ X̂ᵀ, X X̂ᵀ and E X̂ᵀ.
"""

import contextlib
from dataclasses import dataclass, field
from functools import cached_property

import torch
from numpy.polynomial import Chebyshev, Polynomial
from torch import Tensor

from trim.errors import NonFiniteError
from trim.matmul import full_product, precision

DAMPING = 0.01  # λ as a share of the mean of X̂ X̂ᵀ's diagonal, as in SparseGPT (arXiv 2301.00774)
_BLOCK_ENTRIES = 2**25  # entries of the layer solved at a time; six matrices of this size are in memory


@dataclass(frozen=True, eq=False)
class TextProducts:
    """The sums of outer products of a layer's inputs over a text, from which the layer is solved.

    Attributes:
        gram: (N, N) float32, Σ x̂ x̂ᵀ over the text's tokens.
        cross: (N, N) float32, Σ x x̂ᵀ; the same tensor as `gram` where the aim is the dense layer's output for x̂.
        damping: λ as a share of the mean of the Gram matrix's diagonal.
        error_cross: (D, N) float32, Σ e x̂ᵀ, with the errors e (D,) that the layer is to compensate; None: e is 0.
    """

    gram: Tensor = field(repr=False)
    cross: Tensor = field(repr=False)
    damping: float = DAMPING
    error_cross: Tensor | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        # One NaN or infinity reaches a sum.
        products = (self.gram, self.cross, self.error_cross)
        sums = torch.stack([each.sum() for each in products if each is not None])
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
        """Return (S + ρI)⁻¹, (N, N) float32, where S is X̂ X̂ᵀ + λI scaled to a diagonal of 1.

        Raises:
            torch.linalg.LinAlgError: the matrix is singular.
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
        if self.error_cross is None or other.error_cross is None:
            return TextProducts(gram, cross, self.damping)
        return TextProducts(gram, cross, self.damping, self.error_cross + other.error_cross)

    def drift(self, dense: Tensor) -> Tensor | None:
        """Return (W (X − X̂) + E) X̂ᵀ, (D, N) float32: the error before the layer is pruned; None: it is 0."""
        if self.cross is self.gram:
            return self.error_cross
        drift = full_product(dense, self.cross - self.gram)
        return drift if self.error_cross is None else drift.add_(self.error_cross)

    def gradient(self, dense: Tensor, fitted: Tensor, drift: Tensor | None) -> Tensor:
        """Return minus half the objective's gradient at some rows, (D, N) float32; a solution has 0 at kept weights.

        It is (W (X − X̂) + E) X̂ᵀ + (W − Ŵ) X̂ X̂ᵀ: near a solution both terms are small, so float32 cancels little.
        """
        missing = dense - fitted
        gradient = full_product(missing, self.gram).addcmul_(missing, self.ridge)
        return gradient if drift is None else gradient.add_(drift)

    def objective(self, dense: Tensor, fitted: Tensor, drift: Tensor | None) -> Tensor:
        """Return ‖w X + e − ŵ X̂‖² + λ ‖w − ŵ‖² of each row, minus its value at ŵ = w: (D,) float64."""
        gradient = self.gradient(dense, fitted, drift)
        if drift is not None:
            gradient.add_(drift)
        return gradient.mul_(dense - fitted).sum(dim=1, dtype=torch.float64)


def shift_inverse(inverse: Tensor, rho: float, delta: float) -> None:
    """Turn (A + ρI)⁻¹ into (A + (ρ + δ)I)⁻¹, in place, for A without negative eigenvalues, in two products.

    If S is the first inverse, the second is S (I + δS)⁻¹. The eigenvalues of δS lie between 0 and δ / ρ, where a cubic
    approximates 1 / (1 + x), to 1e-4 if ρ grows by a factor of 1.3.

    Args:
        inverse: (N, N) float32.
        rho: ρ.
        delta: δ, positive.
    """
    cubic = Chebyshev.interpolate(lambda x: 1 / (1 + x), 3, domain=[0, delta / rho])
    a, b, c, d = (
        float(part) * delta**power for power, part in enumerate(cubic.convert(kind=Polynomial).coef)
    )
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
    """Solve for the kept weights by conjugate gradients; the others are 0.

    All rows are solved at once, with the diagonal as preconditioner. The objective falls in every iteration.

    Args:
        weight: (D, N), dense.
        keep: (D, N) bool, True where a weight is kept.
        text: the products of the calibration text.
        start: (D, N) float32, where to begin; None: at the dense weights.
        drift: `text.drift(…)`, (D, N) float32; None: computed here.
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
        drift_part = None if drift is None else drift[part]
        for _ in range(rounds):
            residual = text.gradient(dense, fitted, drift_part).mul_(kept)
            with fast_products(weight.device):
                fitted += _conjugate_gradients(residual, kept, text, iterations)
        parts.append(fitted)
    return torch.cat(parts)


def _conjugate_gradients(residual: Tensor, keep: Tensor, text: TextProducts, iterations: int) -> Tensor:
    """Return the step that conjugate gradients find for a residual, which is changed in place; 0 where it is 0."""
    gram, ridge = text.gram, text.ridge
    inverse_diagonal = 1 / (gram.diagonal() + ridge).clamp_min_(torch.finfo(torch.float32).tiny)
    x = torch.zeros_like(residual)
    z = residual * inverse_diagonal
    p = z.clone()
    rz = (residual * z).sum(dim=1, keepdim=True)
    for _ in range(iterations):
        ap = (p @ gram).addcmul_(p, ridge).mul_(keep)
        alpha = _divide(rz, (p * ap).sum(dim=1, keepdim=True))
        x.addcmul_(p, alpha)
        residual.addcmul_(ap, -alpha)
        torch.mul(residual, inverse_diagonal, out=z)
        rz_before, rz = rz, (residual * z).sum(dim=1, keepdim=True)
        p.mul_(_divide(rz, rz_before)).add_(z)
    return x


def _divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Return the quotient; 0 where the denominator is 0."""
    return torch.where(denominator > 0, numerator / denominator, 0.0)


def fast_products(device: torch.device) -> contextlib.AbstractContextManager[None]:
    """Allow TF32 on a GPU: its rounding costs up to a third of a row's gain, which the next round recovers."""
    return precision("high" if device.type == "cuda" else "highest")
