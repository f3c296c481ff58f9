"""ALPS: mask and weights of a layer solved together, every layer and row for itself.

Meng et al., "ALPS: Improved Optimization for Highly Sparse One-Shot Pruning for Large Language Models",
arXiv 2406.07831: `trim.methods.solve` where all rows weigh alike and the outputs aimed at are those of the dense
weights on the inputs of the pruned model.
"""

from torch import Tensor

from trim.methods.least_squares import TextProducts
from trim.methods.pattern import Pattern
from trim.methods.solve import Solution, solve

ROUNDS, ITERATIONS = 1, 10  # of conjugate gradients at the end, as published


def alps(
    weight: Tensor,
    text: TextProducts,
    total: int,
    *,
    sensitivity: Tensor | None = None,
    pattern: Pattern | None = None,
) -> Solution:
    """Prune a layer as ALPS does.

    Args:
        weight: (D, N), dense and finite.
        text: of which the Gram matrix is used.
        total: how many weights are pruned, from 0 to D · N; a pattern sets it itself.
        sensitivity: does not count.
        pattern: n:m instead; None: none.
    """
    if text.cross is not text.gram:
        text = TextProducts(text.gram, text.gram, text.damping)
    return solve(weight, text, total, pattern=pattern, rounds=ROUNDS, iterations=ITERATIONS)
