"""The sweep over a layer's sorted columns on the CPU: blocked, no Python loop over rows, all cores."""

import torch
from torch import Tensor

# The sweep's running outputs: this many columns at a time, of as many rows as fill 3 MiB; found by measuring.
CHUNK_COLUMNS = 8
CHUNK_FLOATS = 3 * 2**18


def sweep(weight: Tensor, inputs: Tensor, order: Tensor, output: Tensor) -> tuple[Tensor, Tensor]:
    """Energy and error of a layer whose weights stand in ascending order of score, (D, N + 1) float64 each.

    What a chunk of columns adds to each row's output is gathered and scaled in one operation (bags of one input
    vector each), then added up column by column: P(k), the pruned part of the output, from the first column up.
    """
    rows, columns = weight.shape
    pruned_norm, kept_norm = torch.empty_like(weight), torch.empty_like(weight)
    block_rows = max(CHUNK_FLOATS // (CHUNK_COLUMNS * inputs.shape[1]), 1)
    for top in range(0, rows, block_rows):
        block = slice(top, top + block_rows)
        dense = output[block, None]
        before = torch.zeros_like(output[block])
        for left in range(0, columns, CHUNK_COLUMNS):
            chunk = slice(left, left + CHUNK_COLUMNS)
            before = _add_columns(
                before, dense, weight[block, chunk], inputs, order[block, chunk],
                pruned_norm[block, chunk], kept_norm[block, chunk],
            )  # fmt: skip
    energy = weight.new_empty(rows, columns + 1, dtype=torch.float64)
    error = torch.empty_like(energy)
    energy[:, 0] = output.double().square().sum(dim=1)
    torch.square(kept_norm.double(), out=energy[:, 1:])
    torch.square(pruned_norm.double(), out=error[:, 1:])
    energy[:, -1] = error[:, 0] = 0
    error[:, -1] = energy[:, 0]
    return energy, error


def _add_columns(
    before: Tensor,
    dense: Tensor,
    weight: Tensor,
    inputs: Tensor,
    read: Tensor,
    pruned_norm: Tensor,
    kept_norm: Tensor,
) -> Tensor:
    """Norms of the pruned and of the kept part while some columns join the pruned part; returns the latter."""
    pruned = torch.embedding_bag(
        inputs,
        read.reshape(-1),
        torch.arange(read.numel(), device=read.device),
        per_sample_weights=weight.reshape(-1),
    )[0].view(*read.shape, -1)
    for step in pruned.unbind(1):
        before = step.add_(before)
    torch.linalg.vector_norm(pruned, dim=-1, out=pruned_norm)
    before = before.clone()
    torch.linalg.vector_norm(pruned.sub_(dense), dim=-1, out=kept_norm)
    return before
