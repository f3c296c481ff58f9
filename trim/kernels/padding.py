"""The number of input vectors to which the column sweep's kernel pads a layer. Imports no Triton."""

import torch

LANE_BYTES = 16  # the widest load of a GPU's lane
# Lanes that share a row of a sweep: a warp then reads whole cache lines, and sums need three shuffles.
ROW_LANES = 8
SLICE_VECTORS = 256  # input vectors that a sweep takes at a time


def padded_vectors(vectors: int, dtype: torch.dtype) -> int:
    """Round the number of a layer's input vectors up to one that the kernels process; the added ones are zero."""
    if vectors >= SLICE_VECTORS:
        return -(-vectors // SLICE_VECTORS) * SLICE_VECTORS
    return max(1 << (vectors - 1).bit_length(), ROW_LANES * LANE_BYTES // dtype.itemsize)
