"""ALPS: mask and weights of a layer solved together, every layer and row for itself.

Meng et al., "ALPS: Improved Optimization for Highly Sparse One-Shot Pruning for Large Language Models",
arXiv 2406.07831: `trim.methods.solve` where all rows weigh alike and the outputs aimed at are those of the dense
weights on the inputs of the pruned model. In float64 its masks are those of the authors' class, entry by entry; in
float32 they agree with them in 96 to 99%, as that class does with itself in float64 (`benchmarks.peers`).
"""

from torch import Tensor

from trim.methods.least_squares import TextProducts
from trim.methods.pattern import Pattern
from trim.methods.solve import Solution, solve
from trim.progress import ProgressListener

DESCENT = (1, 10)  # conjugate gradients at the end, as published


def alps(
    weight: Tensor,
    text: TextProducts,
    total: int,
    *,
    sensitivity: Tensor | None = None,
    pattern: Pattern | None = None,
    progress: ProgressListener | None = None,
) -> Solution:
    """Prune a layer as ALPS does.

    Args:
        weight: (D, N), dense and finite.
        text: only its Gram matrix is used.
        total: how many weights are pruned, from 0 to D · N; a pattern sets it itself.
        sensitivity: does not count.
        pattern: n:m instead; None: none.
        progress: as for `solve`.
    """
    if text.cross is not text.gram:
        text = TextProducts(text.gram, text.gram, text.damping)
    return solve(weight, text, total, pattern=pattern, descent=DESCENT, progress=progress)
