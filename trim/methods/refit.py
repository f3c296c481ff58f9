"""Refit the kept weights so that they make up for the pruned ones.

The mask stays; the kept weights get new values. They solve a least-squares problem for each row (Frantar and Alistarh,
"Optimal Brain Compression", arXiv 2208.11580, section 3; `trim.methods.least_squares`), and so make up for the row's
pruned weights and for earlier layers that were pruned. Conjugate gradients solve all rows of a layer at once, as Meng
et al. refine a given mask ("ALPS", arXiv 2406.07831, section 3.3): an iteration is one product of the layer with the
Gram matrix. The objective falls in every iteration, so a few iterations already lower the error of the mask alone.
"""

from torch import Tensor

from trim.methods.least_squares import TextProducts, descend

# Ten iterations leave as much perplexity as 20 or 40 (docs/optimal.md).
ROUNDS, ITERATIONS = 2, 5


def refit(
    weight: Tensor,
    keep: Tensor,
    text: TextProducts,
    *,
    rounds: int = ROUNDS,
    iterations: int = ITERATIONS,
) -> Tensor:
    """Refit the kept weights to the dense output; the pruned ones are 0.

    Args:
        weight: (D, N), dense.
        keep: (D, N) bool, True where a weight is kept.
        text: the products of the calibration text.
        rounds: how often the residual is computed from scratch.
        iterations: conjugate gradient iterations in a round.

    Returns:
        (D, N) float32.
    """
    return descend(weight, keep, text, rounds=rounds, iterations=iterations)
