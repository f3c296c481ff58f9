"""ALPS: solve for the mask and the weights of a layer together.

Meng et al., "ALPS: Improved Optimization for Highly Sparse One-Shot Pruning for Large Language Models",
arXiv 2406.07831. It is `trim.methods.solve` with equal row weights, aiming at the outputs of the dense weights on the
pruned model's inputs. In float64 its masks equal those of the authors' class, entry by entry. In float32 96 to 99% of
their entries agree, as many as between that class in float32 and in float64 (`benchmarks.peers`).
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
        total: how many weights are pruned, from 0 to D · N; not used with a pattern.
        sensitivity: not used.
        pattern: an n:m pattern instead; None: no pattern.
        progress: as for `solve`.
    """
    if text.cross is not text.gram:
        text = TextProducts(text.gram, text.gram, text.damping)
    return solve(weight, text, total, pattern=pattern, descent=DESCENT, progress=progress)
