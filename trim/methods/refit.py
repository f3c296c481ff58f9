"""Refit the kept weights so that they make up for the pruned ones.

A mask says which weights of a row are kept; it need not say that they keep their values. A least-squares problem for
each row (Frantar and Alistarh, "Optimal Brain Compression", arXiv 2208.11580, section 3; `trim.methods.least_squares`)
says which values make up best for the pruned weights, and for earlier layers that have been pruned. All rows of a layer
are solved at once by conjugate gradients on their masks (Meng et al., "ALPS", arXiv 2406.07831, section 3.3, refine a
given mask so): an iteration is one product of the layer with the Gram matrix. The objective falls in every iteration,
so however few there are, the layer's error is below that of the mask alone, or as good as it can be.
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
    """Refit the kept weights, nearest to the dense output; the pruned ones are 0.

    Args:
        weight: (D, N), dense.
        keep: (D, N) bool, True where a weight is kept.
        text: what the problem needs of the text.
        rounds: how often the residual is computed from scratch.
        iterations: number of conjugate gradients' iterations in a round.

    Returns:
        (D, N) float32.
    """
    return descend(weight, keep, text, rounds=rounds, iterations=iterations)
