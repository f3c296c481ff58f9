"""Blocks that are computed again in the backward pass: memory holds only their inputs."""

import contextlib
import functools
from collections.abc import Iterable, Iterator

from torch import nn
from torch.utils.checkpoint import checkpoint

from trim.models.replaced import replaced


@contextlib.contextmanager
def recomputed(blocks: Iterable[nn.Module]) -> Iterator[None]:
    """Compute blocks again where a gradient goes back through them, inside the `with` block."""
    with contextlib.ExitStack() as stack:
        for block in blocks:
            again = functools.partial(
                checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False
            )
            stack.enter_context(replaced(block, "forward", again))
        yield
