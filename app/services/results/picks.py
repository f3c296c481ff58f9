"""Picks of layers to compare: a layer of a run, all layers of a kind, or all experts of a block."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.services.runs.facts import run_facts
from app.services.runs.layer import METHOD_LABELS
from app.services.runs.store import StoredRun
from trim.errors import RunError
from trim.names import every_expert, experts_of, path_in_block
from trim.runs.options import idle_options, options
from trim.runs.settings import PruneSettings

DEFAULT_LAYER = "15.mlp.gate_proj"
EVERY_BLOCK = "*."  # before a path: the layers of that path in all blocks
LETTERS = "ABCDEFGH"
UNIFORM = "uniform"


@dataclass(frozen=True)
class Pick:
    """A layer of a run; with `uniform`, that layer under uniform sparsity at the same layer sparsity."""

    run_id: str
    layer: str
    uniform: bool = False

    def __str__(self) -> str:
        return "/".join((self.run_id, self.layer, *([UNIFORM] if self.uniform else [])))

    @classmethod
    def parse(cls, text: str) -> "Pick":
        """Parse the text that `str` of a pick returns.

        Raises:
            RunError: the text does not name a run and a layer.
        """
        parts = text.split("/")
        if len(parts) not in (2, 3) or not all(parts) or (len(parts) == 3 and parts[2] != UNIFORM):
            raise RunError(
                f"The address asks to compare {text[:60]!r}; write a run's id, a slash and a layer, such as "
                f"demo-trim-70/{DEFAULT_LAYER}."
            )
        return cls(parts[0], parts[1], len(parts) == 3)


def kinds(layers: Sequence[str]) -> list[str]:
    """Return picks of several layers: of all blocks, "*.mlp.gate_proj", and of all experts of a block."""
    paths = Counter(path_in_block(name) for name in layers)
    experts = Counter(every for name in layers if (every := every_expert(name)))
    return [
        *(EVERY_BLOCK + path for path, number in paths.items() if number > 1),
        *(every for every, number in experts.items() if number > 1),
    ]


def layers_of(pick: Pick, layers: Sequence[str]) -> list[str]:
    """Return the picked layers of a run; empty if it has no such layer."""
    if "*" not in pick.layer:
        return [name for name in layers if name == pick.layer]
    pattern = pick.layer.split(".")

    def fits(name: str) -> bool:
        parts = name.split(".")
        return len(parts) == len(pattern) and all(a in ("*", b) for a, b in zip(pattern, parts, strict=True))

    return [name for name in layers if fits(name)]


def default_picks(runs: Sequence[StoredRun]) -> list[Pick]:
    """Pick TRIM, TRIM at another target or else optimal, and uniform on one layer.

    Of the runs that came with the app where they are there. Two targets of one method come first: an optimum in optimal
    budgets prunes the layer to a sparsity of its own, which a first look cannot explain.
    """
    readable = [entry for entry in runs if entry.run is not None and entry.run.layers]
    readable.sort(key=lambda entry: not entry.shipped)
    by_method: dict[str, StoredRun] = {}
    for entry in readable:
        by_method.setdefault(entry.opened().request.allocation, entry)
    first = by_method.get("trim") or next(iter(readable), None)
    if first is None:
        return []
    layers = first.opened().layers
    layer = DEFAULT_LAYER if DEFAULT_LAYER in layers else layers[0]
    picks = [Pick(first.id, layer)]
    second = by_method.get("optimal")
    if at_other_targets := related_picks(picks[0], readable).get("other targets"):
        picks.append(at_other_targets[0])
    elif second is not None and second is not first and layer in second.opened().layers:
        picks.append(Pick(second.id, layer))
    return [*picks, Pick(first.id, layer, uniform=True)]


def related_picks(pick: Pick, runs: Sequence[StoredRun]) -> dict[str, list[Pick]]:
    """Return what can be compared with a pick, by what differs: other targets, seeds, methods, blocks, experts."""
    found: dict[str, list[Pick]] = {}
    own = next((entry.run for entry in runs if entry.id == pick.run_id and entry.run is not None), None)
    if own is None:
        return found
    for label, names in (
        ("other targets", {"target"}),
        ("other seeds", {"seed"}),
        ("other methods", {"allocation", "budget"}),
    ):
        for entry in runs:
            run = entry.run
            if run is None or run is own or run.model.weights != own.model.weights:
                continue
            if layers_of(pick, run.layers) and _differ_in(own.request, run.request) <= names:
                found.setdefault(label, []).append(Pick(entry.id, pick.layer))
    if "*" in pick.layer:
        return found
    several = [EVERY_BLOCK + path_in_block(pick.layer), every_expert(pick.layer)]
    for label, layer in zip(("every block", "all experts"), several, strict=True):
        if len(layers_of(Pick(pick.run_id, layer), own.layers)) > 1:
            found[label] = [Pick(pick.run_id, layer)]
    if len(experts := experts_of(pick.layer, own.layers)) > 1:
        even = np.linspace(0, len(experts) - 1, min(len(LETTERS), len(experts))).round().astype(int)
        others = [experts[index] for index in even if experts[index] != pick.layer]
        found["other experts"] = [Pick(pick.run_id, layer) for layer in others[: len(LETTERS) - 1]]
    return found


def _differ_in(first: PruneSettings, second: PruneSettings) -> set[str]:
    """Return which options differ of those that both use, apart from the machine's."""
    idle = idle_options(first) | idle_options(second) | {"device", "dtype", "batch", "layers"}
    return {
        name
        for name in options(PruneSettings)
        if name not in idle and getattr(first, name) != getattr(second, name)
    }


def run_label(entry: StoredRun) -> str:
    """Return the label of a run in a list: its name, and its method where the name does not say it."""
    facts = run_facts(entry)
    method = METHOD_LABELS.get(facts.allocation, facts.allocation)
    return facts.name if method.casefold() in facts.name.casefold() else f"{facts.name} ({method})"
