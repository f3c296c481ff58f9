"""The sweep over a layer's sorted columns on the CPU: blocked, no Python loop over rows, all cores."""

import torch
from torch import Tensor

# The sweep's running outputs: this many columns at a time, of as many rows as fill 4 MiB; found by measuring.
CHUNK_COLUMNS = 16
CHUNK_FLOATS = 2**20


def sweep(
    weight: Tensor, inputs: Tensor, order: Tensor, output: Tensor, dot: Tensor
) -> tuple[Tensor, Tensor]:
    """Energy and error of a layer whose weights stand in ascending order of score, (D, N + 1) float64 each.

    What a chunk of columns adds to each row's output is gathered and scaled in one operation (bags of one input
    vector each), then added up column by column: P(k), the pruned part of the output, from the first column up.

    The kept part Y − P(k) is formed only where it has to be. While dot ≥ ‖Y‖² / 2 in every row of a block, the
    energy is error − ‖Y‖² + 2·dot: there energy ≥ dot² / ‖Y‖², so that rounding is magnified nine times at most.
    """
    rows, columns = weight.shape
    energy, error = torch.empty_like(dot), torch.empty_like(dot)
    block_rows = min(max(CHUNK_FLOATS // (CHUNK_COLUMNS * inputs.shape[1]), 1), rows)
    pruned_norms, kept_norms = (weight.new_empty(block_rows, columns) for _ in range(2))
    for top in range(0, rows, block_rows):
        block = slice(top, top + block_rows)
        dense = output[block, None]
        pruned_norm, kept_norm = pruned_norms[: len(dense)], kept_norms[: len(dense)]
        before = torch.zeros_like(output[block])
        large = (dot[block] >= 0.5 * dot[block, :1]).all(dim=0)
        # Columns before the first that needs the kept part.
        direct = int(large.long().cumprod(dim=0).sum()) - 1
        direct -= direct % CHUNK_COLUMNS
        lefts = range(0, columns, CHUNK_COLUMNS)
        for left, read, scale in zip(lefts, _chunks(order[block].int()), _chunks(weight[block]), strict=True):
            chunk = slice(left, left + CHUNK_COLUMNS)
            before = _add_columns(
                before, scale, inputs, read, pruned_norm[:, chunk],
                dense if left >= direct else None, kept_norm[:, chunk],
            )  # fmt: skip
        error[block, 1:] = pruned_norm
        error[block, 1:].square_()
        by_sums = slice(1, direct + 1)
        torch.add(error[block, by_sums], dot[block, by_sums], alpha=2, out=energy[block, by_sums])
        energy[block, by_sums] -= dot[block, :1]
        energy[block, direct + 1 :] = kept_norm[:, direct:]
        energy[block, direct + 1 :].square_()
    energy[:, 0] = error[:, -1] = dot[:, 0]
    energy[:, -1] = error[:, 0] = 0
    return energy, error


def _chunks(values: Tensor) -> list[Tensor]:
    """(b, N) cut into chunks of columns, each as one run of memory, row by row."""
    rows, columns = values.shape
    whole = columns - columns % CHUNK_COLUMNS
    chunks = values[:, :whole].reshape(rows, -1, CHUNK_COLUMNS).transpose(0, 1).contiguous()
    rest = [values[:, whole:].reshape(-1)] if whole < columns else []
    return [*chunks.view(-1, rows * CHUNK_COLUMNS), *rest]


def _add_columns(
    before: Tensor,
    weight: Tensor,
    inputs: Tensor,
    read: Tensor,
    pruned_norm: Tensor,
    dense: Tensor | None,
    kept_norm: Tensor,
) -> Tensor:
    """Norms of the pruned part and, if `dense` is given, of the kept part while some columns join the former.

    Returns:
        (b, L), the pruned part with all of them.
    """
    bags = torch.arange(len(read), dtype=read.dtype, device=read.device)  # of one input vector each
    pruned = torch.embedding_bag(inputs, read, bags, per_sample_weights=weight)[0].view(
        len(before), -1, before.shape[1]
    )
    for step in pruned.unbind(1):
        before = step.add_(before)
    torch.linalg.vector_norm(pruned, dim=-1, out=pruned_norm)
    before = before.clone()  # and let the chunk go
    if dense is not None:
        torch.linalg.vector_norm(pruned.sub_(dense), dim=-1, out=kept_norm)
    return before
