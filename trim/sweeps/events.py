"""Facts about a sweep, as a stream of small records."""

from collections.abc import Callable
from dataclasses import dataclass

from trim.pruning.events import Note


@dataclass(frozen=True)
class SweepBegan:
    """The sweep begins, or resumes after `done` cells."""

    cells: int
    done: int


@dataclass(frozen=True)
class DenseMeasured:
    """The dense model's perplexity on each text."""

    perplexities: tuple[float, ...]


@dataclass(frozen=True)
class CellDone:
    """A cell is done: pruned and measured, or failed because of `problem`."""

    cell: str
    perplexities: tuple[float, ...]
    problem: str | None
    seconds: float


@dataclass(frozen=True)
class SweepFinished:
    """All cells are done; failed ones are tried again when the sweep is run again."""

    done: int
    failed: int
    seconds: float


SweepFact = SweepBegan | DenseMeasured | CellDone | Note | SweepFinished
SweepListener = Callable[[SweepFact], None]
