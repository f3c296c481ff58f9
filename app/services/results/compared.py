"""The Compare page's contents: up to four layers of stored runs, as pruned or as uniform would do it."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.services.runs.facts import run_facts
from app.services.runs.layer import METHOD_LABELS, LayerView
from app.services.runs.store import RunStore, StoredRun
from diagnostics.allocation import RowAllocation
from diagnostics.comparison import AllocationComparison, compare_allocations
from trim.errors import RunError
from trim.runs.folder import Run
from trim.runs.options import idle_options, options
from trim.runs.settings import PruneSettings

LETTERS = "ABCD"
DEFAULT_LAYER = "15.mlp.gate_proj"
_UNIFORM = "uniform"
NOT_USED = "not used"  # of an option that changes nothing, given the others


@dataclass(frozen=True)
class Pick:
    """A layer of a run; with `uniform`, what uniform would have pruned of it at the same layer sparsity."""

    run_id: str
    layer: str
    uniform: bool = False

    def __str__(self) -> str:
        return "/".join((self.run_id, self.layer, *([_UNIFORM] if self.uniform else [])))

    @classmethod
    def parse(cls, text: str) -> "Pick":
        """Parse the inverse of `str`.

        Raises:
            RunError: the text is none.
        """
        parts = text.split("/")
        if len(parts) not in (2, 3) or not all(parts) or (len(parts) == 3 and parts[2] != _UNIFORM):
            raise RunError(
                f"The address asks to compare {text[:60]!r}; write a run's id, a slash and a layer, such as "
                f"demo-trim-70/{DEFAULT_LAYER}."
            )
        return cls(parts[0], parts[1], len(parts) == 3)


@dataclass(frozen=True, eq=False)
class Compared:
    """One of the compared layers.

    Attributes:
        letter: "A" to "D".
        pick: which layer of which run.
        run, stored: the opened run, and the layer as it was pruned, or as uniform would have.
    """

    letter: str
    pick: Pick
    run: Run
    stored: LayerView

    @property
    def label(self) -> str:
        """Return the label in legends: its letter and its method."""
        return f"{self.letter} · {self.stored.own.label}"

    @property
    def allocation(self) -> RowAllocation:
        """Its row sparsities, under that label."""
        return dataclasses.replace(self.stored.own, label=self.label)

    @property
    def rows_are(self) -> tuple:
        """Equal for two whose rows are the same ones: the same layer of the same weights."""
        return self.run.model.weights, self.pick.layer


def opened(store: RunStore, letter: str, pick: Pick) -> Compared:
    """Read one of the compared layers.

    Raises:
        RunError: no such run or layer, or a damaged file.
    """
    run = store.open(pick.run_id)
    stored = LayerView.of(run, store.layer(pick.run_id, pick.layer))
    if pick.uniform:
        stored = stored.showing({_UNIFORM})
    return Compared(letter, pick, run, stored)


def default_picks(runs: Sequence[StoredRun]) -> list[Pick]:
    """TRIM, optimal and uniform on one layer, of the runs that came with the app where they are there."""
    known = [entry for entry in runs if entry.run is not None and entry.run.layers]
    known.sort(key=lambda entry: not entry.shipped)
    by_method: dict[str, StoredRun] = {}
    for entry in known:
        by_method.setdefault(entry.opened().request.allocation, entry)
    first = by_method.get("trim") or next(iter(known), None)
    if first is None:
        return []
    layers = first.opened().layers
    layer = DEFAULT_LAYER if DEFAULT_LAYER in layers else layers[0]
    picks = [Pick(first.id, layer)]
    second = by_method.get("optimal")
    if second is not None and second is not first and layer in second.opened().layers:
        picks.append(Pick(second.id, layer))
    return [*picks, Pick(first.id, layer, uniform=True)]


def comparison(first: Compared, second: Compared) -> AllocationComparison:
    """Their distances; rows are paired only where they are the same rows."""
    apart = None
    if first.rows_are != second.rows_are:
        what = "layers" if first.rows_are[0] == second.rows_are[0] else "models"
        apart = f"they are rows of two {what}: row 5 of one has nothing to do with row 5 of the other"
    return compare_allocations(first.allocation, second.allocation, apart=apart)


@dataclass(frozen=True)
class Setting:
    """A line of the table of settings: its name, a value for each of the compared, and whether they differ."""

    name: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Return whether not all values are the same."""
        return len(set(self.values)) > 1


def settings(compared: Sequence[Compared]) -> list[Setting]:
    """Everything that made the compared what they are; what differs first."""
    lines = [
        Setting("run", tuple(each.run.name for each in compared)),
        Setting("model", tuple(each.run.model.title for each in compared)),
        Setting("layer", tuple(each.pick.layer for each in compared)),
        Setting("rows × weights", tuple(_shape(each) for each in compared)),
        Setting("rows set by", tuple(each.stored.own.label for each in compared)),
        Setting("layer sparsity", tuple(f"{each.stored.own.layer_sparsity:.2%}" for each in compared)),
    ]
    requests = [each.run.request for each in compared]
    idle = [idle_options(request) for request in requests]
    for name, each in options(PruneSettings).items():
        values = (
            NOT_USED if name in unused else each.text(getattr(request, name))
            for request, unused in zip(requests, idle, strict=True)
        )
        lines.append(Setting(each.label, tuple(values)))
    lines.append(
        Setting(
            "calibration tokens",
            tuple(str(each.run.text.tokens) for each in compared),
        )
    )
    known = [line for line in lines if any(value not in ("–", NOT_USED) for value in line.values)]
    return sorted(known, key=lambda line: not line.differs)


def _shape(each: Compared) -> str:
    return f"{each.stored.rows:,} × {each.stored.columns:,}"


def gini_sets(compared: Sequence[Compared]) -> dict[str, np.ndarray]:
    """Gini of the rows of each layer, under the letters that share it; what a layer received differs between runs."""
    found: list[tuple[list[Compared], np.ndarray]] = []
    for each in compared:
        values = each.stored.coefficients
        for members, known in found:
            if members[0].pick.layer == each.pick.layer and np.array_equal(values, known, equal_nan=True):
                members.append(each)
                break
        else:
            found.append(([each], values))
    return {", ".join(each.letter for each in members): values for members, values in found}


def run_label(entry: StoredRun) -> str:
    """Return the label of a run in a list: its name, and its method where the name does not say it."""
    facts = run_facts(entry)
    method = METHOD_LABELS.get(facts.allocation, facts.allocation)
    return facts.name if method.casefold() in facts.name.casefold() else f"{facts.name} ({method})"
