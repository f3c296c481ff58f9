"""The progress of a whole-model run, read from its events."""

import datetime
from collections.abc import Iterable
from dataclasses import dataclass

STAGES = {
    "loading": "Reading weights",
    "budgets": "Setting the layers' budgets",
    "sensitivity": "Measuring which rows the loss is sensitive to",
    "first pass": "Pruning a first time",
    "replay": "Putting finished masks back",
    "capture": "Reading the calibration text",
    "search": "Deciding row sparsities",
    "propagate": "Handing the pruned outputs on",
}


@dataclass(frozen=True)
class RunProgress:
    """The progress of a run.

    Attributes:
        stage: what is being done, as text.
        block: index of the block that it is done to; None: none in particular.
        blocks: how many there are; None: not known yet.
        layer: the layer that was pruned last in this block; "": none yet.
        fraction: of the whole, 0 to 1.
        seconds_left: None: not known yet.
        notes: what the user should know.
        ended: "" while it runs, "finished", or what stopped it.
    """

    stage: str
    block: int | None
    blocks: int | None
    layer: str
    fraction: float
    seconds_left: float | None
    notes: tuple[str, ...]
    ended: str


def read_progress(events: Iterable[dict], now: datetime.datetime) -> RunProgress:
    """Read the progress from events at the time `now`, which has a time zone; senseless lines are passed over."""
    stage, layer, ended = "Starting", "", ""
    block: int | None = None
    blocks: int | None = None
    layers = done = in_block = 0
    left: tuple[float, str] | None = None
    notes: list[str] = []
    for event in events:
        ended = ""
        match event:
            case {"event": "Stage", "stage": "stopped"}:
                ended = str(event.get("text") or "stopped")
            case {"event": "Stage", "stage": str(name)}:
                stage, block = STAGES.get(name, name), event.get("block")
            case {"event": "Began", "blocks": int(blocks), "layers": int(layers), "done": int(done)}:
                left, in_block, layer, notes = None, 0, "", []
            case {"event": "LayerPruned", "layer": str(layer)}:
                in_block += 1
            case {
                "event": "BlockDone",
                "block": int(index),
                "blocks": int(blocks),
                "seconds_left": float(seconds),
            }:
                done, in_block, layer = index + 1, 0, ""
                left = seconds, str(event.get("time", ""))
            case {"event": "Note", "text": str(text)}:
                notes.append(text)
            case {"event": "Finished"}:
                ended, done = "finished", blocks or 0
    fraction = 0.0
    if blocks:
        each = max(layers / blocks, 1)
        fraction = min((done + min(in_block / each, 1)) / blocks, 1.0)
    return RunProgress(stage, block, blocks, layer, fraction, _left(left, now), tuple(notes[-3:]), ended)


def _left(said: tuple[float, str] | None, now: datetime.datetime) -> float | None:
    if said is None:
        return None
    try:
        age = (now - datetime.datetime.fromisoformat(said[1])).total_seconds()
    except (ValueError, TypeError):
        age = 0.0
    return max(said[0] - age, 0.0)
