"""Progress of a sweep, as a stream of small records."""

from collections.abc import Callable
from dataclasses import dataclass

from trim.pruning.events import Event


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
class CellBegan:
    """A cell begins, or resumes."""

    cell: str
    number: int
    cells: int


@dataclass(frozen=True)
class CellProgress:
    """The progress of a cell's run."""

    cell: str
    event: Event


@dataclass(frozen=True)
class CellDone:
    """A cell is pruned and measured; `problem` says why not."""

    cell: str
    perplexities: tuple[float, ...]
    problem: str | None
    seconds: float
    seconds_left: float


@dataclass(frozen=True)
class SweepFinished:
    """Nothing is left to do; failed cells are tried again when the sweep is run again."""

    done: int
    failed: int
    seconds: float


SweepEvent = SweepBegan | DenseMeasured | CellBegan | CellProgress | CellDone | SweepFinished


Listener = Callable[[SweepEvent], None]
