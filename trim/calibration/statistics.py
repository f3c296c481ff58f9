"""Sums over the inputs of layers, in one operation for all layers of one shape: a block may have hundreds."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from trim.matmul import sum_dtype


def size_of_inputs(vectors: Tensor) -> Tensor:
    """Measure each feature over vectors (L, N): Σ x_j², (N,) float64; on a GPU √(Σ x_j²), in float32 or wider.

    Vectors in float32, and all on a GPU, are not copied in a wider type. `input_norms` takes either result.
    """
    if vectors.is_cuda:
        norm: Tensor = torch.linalg.vector_norm(vectors, dim=0, dtype=sum_dtype(vectors))
        return norm
    wide = vectors.to(sum_dtype(vectors))
    if wide.dtype == torch.float64 or wide.device.type != "cpu":
        return wide.square().sum(dim=0, dtype=torch.float64)
    from trim.compiled.squares import squares_of_columns

    return torch.from_numpy(squares_of_columns(wide.numpy()))


def input_norms(batches: Mapping[str, Sequence[Tensor]], windows: int) -> dict[str, tuple[Tensor, bool]]:
    """Return √(Σ x_j² / windows) of each layer, (N,) float32, and whether it is finite.

    `batches`: the result of `size_of_inputs` for each batch.
    """
    by_shape: dict[tuple[int, int], list[str]] = {}
    for name, parts in batches.items():
        by_shape.setdefault((len(parts), len(parts[0])), []).append(name)
    result: dict[str, tuple[Tensor, bool]] = {}
    for (number, _), names in by_shape.items():
        total = None
        for batch in range(number):
            squares = torch.stack([batches[name][batch] for name in names])
            if squares.is_cuda:
                squares = squares.double().square()
            total = squares if total is None else total + squares
        assert total is not None
        norms = (total / windows).sqrt().float()
        finite = norms.isfinite().all(dim=1).tolist()
        result |= {
            name: (norm, is_finite) for name, norm, is_finite in zip(names, norms, finite, strict=True)
        }
    return result


def as_columns(batches: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
    """Join each layer's vectors (L', N) of several batches as columns, (N, L)."""
    by_shape: dict[tuple[int, int], list[str]] = {}
    for name, parts in batches.items():
        by_shape.setdefault((parts[0].shape[1], sum(map(len, parts))), []).append(name)
    result: dict[str, Tensor] = {}
    for (columns, vectors), names in by_shape.items():
        rows = torch.cat([part for name in names for part in batches[name]])
        joined = rows.view(len(names), vectors, columns).transpose(1, 2).contiguous()
        result |= dict(zip(names, joined, strict=True))
    return result
