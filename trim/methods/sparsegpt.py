"""SparseGPT: prune columns from left to right, and correct each error in the columns to its right.

Frantar and Alistarh, "SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot", arXiv 2301.00774,
section 3. With U the upper Cholesky factor of (X̂ X̂ᵀ + λI)⁻¹, pruning weight (i, j) costs (w_ij / U_jj)², and the
columns after j take up −w_ij / U_jj · U_j; the mask is chosen in blocks of columns, from what the weights are by then.
"""

import torch
from torch import Tensor

from trim.errors import NonFiniteError
from trim.methods.least_squares import TextProducts
from trim.methods.masks import keep_largest, keep_largest_of_groups
from trim.methods.pattern import Pattern
from trim.methods.solve import Solution
from trim.progress import Meter, ProgressListener

BLOCK_COLUMNS = 128  # B_s, as published


def sparsegpt(
    weight: Tensor,
    text: TextProducts,
    total: int,
    *,
    sensitivity: Tensor | None = None,
    pattern: Pattern | None = None,
    block: int = BLOCK_COLUMNS,
    progress: ProgressListener | None = None,
) -> Solution:
    """Prune a layer as SparseGPT does.

    The pruned weights are spread evenly over the blocks of columns, and add up exactly.

    Args:
        weight: (D, N), dense and finite.
        text: the products whose Gram matrix is used.
        total: how many weights are pruned, from 0 to D · N; not used with a pattern.
        sensitivity: not used.
        pattern: an n:m pattern instead; None: no pattern.
        block: the number of columns whose mask is chosen at a time.
        progress: called at each of these blocks; an exception from it ends the work.

    Raises:
        NonFiniteError: the Gram matrix cannot be inverted.
    """
    columns = weight.shape[1]
    updated = weight.float().clone()
    dead = text.gram.diagonal() == 0
    updated[:, dead] = 0
    factor = _factor(text, dead)
    keep = torch.ones_like(updated, dtype=torch.bool)
    meter = Meter(progress, of=columns)
    for first in range(0, columns, block):
        meter.report("Pruning column by column", first)
        last = min(first + block, columns)
        part, part_factor = updated[:, first:last], factor[first:last, first:last]
        diagonal = part_factor.diagonal()
        keep_part = keep[:, first:last]
        if pattern is None:
            pruned = total * last // columns - total * first // columns
            keep_part.copy_(keep_largest((part / diagonal).square(), part.numel() - pruned))
        errors = torch.empty_like(part)
        for column in range(last - first):
            if pattern is not None and (first + column) % pattern.group == 0:
                group = slice(column, column + pattern.group)
                keep_part[:, group] = keep_largest_of_groups(
                    (part[:, group] / diagonal[group]).square(), pattern
                )
            error = (part[:, column] * ~keep_part[:, column]) / diagonal[column]
            part[:, column:].addr_(error, part_factor[column, column:], alpha=-1)
            part[:, column] *= keep_part[:, column]
            errors[:, column] = error
        updated[:, last:] -= errors @ factor[first:last, last:]
    return Solution(keep, updated, columns)


def _factor(text: TextProducts, dead: Tensor) -> Tensor:
    """Return the upper Cholesky factor U of the inverse Gram matrix, (N, N) float32."""
    gram = text.gram.double()
    gram.diagonal()[dead] = 1
    gram.diagonal().add_(text.damping * gram.diagonal().mean())
    factor, failed = torch.linalg.cholesky_ex(gram)
    if bool(failed):
        raise NonFiniteError("the Gram matrix of its inputs cannot be inverted; calibrate on more text")
    upper: Tensor = torch.linalg.cholesky(torch.cholesky_inverse(factor), upper=True)
    return upper.float()
