"""Events of a recovery besides its progress."""

from collections.abc import Callable
from dataclasses import dataclass

from trim.progress import Progress
from trim.pruning.events import Finished, Note, Stopped


@dataclass(frozen=True)
class Began:
    """A recovery begins, or is resumed.

    Attributes:
        trained: number of trained weights.
        windows: number of windows in a step.
        in_one_pass: number of windows in one forward and backward pass.
        checkpointing: whether blocks are computed again in the backward pass.
        memory_bytes: the memory that the training needs, estimated.
        resumed: whether it resumes from a saved state.
    """

    trained: int
    windows: int
    in_one_pass: int
    checkpointing: bool
    memory_bytes: int
    resumed: bool


@dataclass(frozen=True)
class Measured:
    """The losses on the held-out windows after a step, and whether they are the best so far."""

    step: int
    seconds: float
    divergence: float
    perplexity: float
    best: bool


Fact = Began | Measured | Note | Stopped | Finished
FactListener = Callable[[Fact], None]
Listener = Callable[[Fact | Progress], None]
