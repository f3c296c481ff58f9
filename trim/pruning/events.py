"""Events of a whole-model run: its progress, and facts about what was done. The listener renders them."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from trim.errors import RunError
from trim.progress import Progress, ProgressListener
from trim.runs.writer import FolderWriter

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class Began:
    """The block loop begins, or resumes.

    Attributes:
        blocks, layers: numbers of the model's blocks, and of the layers to prune.
        done: number of blocks that are complete already.
        tokens: number of calibration tokens, without padding.
        batch: windows in one forward pass.
        activations: where hidden states are stored: "gpu", "ram" or "disk".
    """

    blocks: int
    layers: int
    done: int
    tokens: int
    batch: int
    activations: str


@dataclass(frozen=True)
class LayerPruned:
    """One layer is pruned.

    Qualities are those of the layer at exact counts. The rate is None, and the number of tried rates 0, unless TRIM
    searched.
    """

    layer: str
    block: int
    layer_sparsity: float
    uniform_quality: float
    realised_quality: float
    learning_rate: float | None
    rates_tried: int
    seconds: float


@dataclass(frozen=True)
class BlockDone:
    """A block is on disk."""

    block: int
    blocks: int
    bytes: int
    seconds: float


@dataclass(frozen=True)
class Note:
    """Something that the user should know."""

    text: str


@dataclass(frozen=True)
class Stopped:
    """The run ended before it was complete; `by` names the exception that ended it."""

    by: str


@dataclass(frozen=True)
class Finished:
    """The run is complete."""

    model_sparsity: float
    seconds: float


Fact = Began | LayerPruned | BlockDone | Note | Stopped | Finished
FactListener = Callable[[Fact], None]
Event = Fact | Progress
Listener = Callable[[Event], None]

F = TypeVar("F", bound="DataclassInstance")


def logged(
    writer: FolderWriter, progress: ProgressListener | None, listener: Callable[[F], None] | None
) -> Callable[[F | Progress], None]:
    """Return a listener that logs each event in the folder, and passes it on to the user's listeners."""

    def emit(event: F | Progress) -> None:
        writer.log(event_to_json(event))
        if isinstance(event, Progress):
            if progress:
                progress(event)
        elif listener:
            listener(event)

    return emit


@contextlib.contextmanager
def end_reported(emit: Callable[[Stopped], None]) -> Iterator[None]:
    """Emit `Stopped` if an exception ends the `with` block of a run or a recovery."""
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(RunError):
            emit(Stopped(type(error).__name__))
        raise


def event_to_json(event: "DataclassInstance") -> dict:
    """Return the event as a line of `events.jsonl`."""
    return {"event": type(event).__name__, **vars(event)}
