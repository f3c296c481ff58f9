"""Blocks that are computed again in the backward pass: memory holds only their inputs."""

import contextlib
import functools
from collections.abc import Iterable, Iterator

from torch import nn
from torch.utils.checkpoint import checkpoint


@contextlib.contextmanager
def recomputed(blocks: Iterable[nn.Module]) -> Iterator[None]:
    """Compute blocks again where a gradient goes back through them, inside the `with` block."""
    blocks = list(blocks)
    for block in blocks:
        block.forward = functools.partial(
            checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False
        )
    try:
        yield
    finally:
        for block in blocks:
            block.__dict__.pop("forward", None)
