"""Progress of a whole-model run, as a stream of small facts. Who listens renders them."""

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True)
class Began:
    """The run begins, or resumes after `done` blocks."""

    blocks: int
    layers: int
    done: int
    tokens: int
    batch: int
    activations: str


@dataclass(frozen=True)
class Stage:
    """The stage of a run that is under way.

    One of "loading", "sensitivity", "first pass", "budgets", "replay", "capture", "search", "propagate".
    """

    stage: str
    block: int | None = None
    text: str = ""


@dataclass(frozen=True)
class LayerPruned:
    """One layer has its mask. Qualities are of the layer at exact counts; no rates are tried where TRIM is not used."""

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
    seconds_left: float


@dataclass(frozen=True)
class Note:
    """Something that the user should know."""

    text: str


@dataclass(frozen=True)
class Finished:
    """The run is complete."""

    model_sparsity: float
    seconds: float


Event = Began | Stage | LayerPruned | BlockDone | Note | Finished


def to_json(event: Event) -> dict:
    """Return the event as a line of `events.jsonl`."""
    return {"event": type(event).__name__, **dataclasses.asdict(event)}
