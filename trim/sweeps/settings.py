"""The settings of a sweep: what it varies, what its cells share, and which cells follow from that."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trim.cache import fingerprint
from trim.errors import SettingsError
from trim.evaluation.settings import EvaluationText
from trim.names import CORPORA, MODELS, absolute, closest_matches
from trim.runs.options import idle_options, make_settings, options
from trim.runs.settings import PruneSettings
from trim.sweeps.shapes import SweepSettingsJson

# The options that may have several values; the last one varies fastest.
GRID_OPTIONS = (
    *(name for name, each in options(PruneSettings).items() if each.varies and name != "target"),
    "target",
)
SHARED_OPTIONS = tuple(
    name for name in options(PruneSettings) if name not in (*GRID_OPTIONS, "model", "pattern")
)
MAX_COMBINATIONS = 10_000
# The options that are in the name of every cell.
_ALWAYS_NAMED = ("score", "allocation", "budget", "target")


def shared_fields(shared: Mapping[str, object] | PruneSettings) -> dict[str, object]:
    """Return the options that all cells share, by name; of `PruneSettings`, those that differ from the default."""
    if not isinstance(shared, PruneSettings):
        return dict(shared)
    declared = options(PruneSettings)
    return {
        name: value for name in SHARED_OPTIONS if (value := getattr(shared, name)) != declared[name].default
    }


def _grid_values(settings: PruneSettings, idle: frozenset[str]) -> dict[str, object]:
    return {name: None if name in idle else getattr(settings, name) for name in GRID_OPTIONS}


@dataclass(frozen=True)
class Cell:
    """One pruning of a sweep.

    Attributes:
        id: the name of its folder.
        settings: the settings of the run.
        idle: options that cannot change the pruned model; cells that differ only in them are made once.
    """

    id: str
    settings: PruneSettings
    idle: frozenset[str]

    @property
    def target(self) -> float:
        """Return the requested sparsity of the model, which every cell of a sweep has."""
        if self.settings.target is None:
            raise SettingsError(f"{self.id} has no target")
        return self.settings.target

    @property
    def grid_values(self) -> dict[str, object]:
        """Return the value of each option of `GRID_OPTIONS`, None where it is idle."""
        return _grid_values(self.settings, self.idle)


@dataclass(frozen=True)
class SweepSettings:
    """A sweep over a grid: one cell for each combination that can differ from the others.

        shared = PruneSettings(target=0.7, windows=16)
        SweepSettings("demo", {"target": (0.6, 0.7), "allocation": ("uniform", "trim")}, shared)

    Attributes:
        model: a source for `load_model`. Its path, and those of texts and budget files, become absolute.
        grid: fields of `PruneSettings` named in `GRID_OPTIONS`, with their values.
        shared: the settings of all cells, or only the fields named in `SHARED_OPTIONS` that differ from the default.
        texts: the texts on which perplexity is measured.
        cells: the cells to make.

    Raises:
        SettingsError: a field cannot vary, there is no target, or the settings of a cell are invalid.
    """

    model: str
    grid: Mapping[str, Sequence]
    shared: Mapping[str, object] | PruneSettings = field(default_factory=dict)
    texts: tuple[EvaluationText, ...] = (EvaluationText(),)
    cells: tuple[Cell, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "model", absolute(self.model, MODELS))
        shared = shared_fields(self.shared)
        for given, known in ((self.grid, GRID_OPTIONS), (shared, SHARED_OPTIONS)):
            for name in given:
                if name not in known:
                    raise SettingsError(
                        f"{name!r} is not a setting; closest names: {closest_matches(name, known)}"
                    )
        if not self.grid.get("target") or None in self.grid["target"]:
            raise SettingsError("give the sparsity of the model: one or more targets (--targets 0.6 0.7)")
        if not self.texts:
            raise SettingsError("name at least one text to measure perplexity on")
        grid = {name: tuple(dict.fromkeys(self.grid[name])) for name in GRID_OPTIONS if name in self.grid}
        if (combinations := math.prod(map(len, grid.values()))) > MAX_COMBINATIONS:
            raise SettingsError(
                f"these are {combinations:,} combinations, and a sweep has at most {MAX_COMBINATIONS:,}; "
                "sweep some of the values"
            )
        if empty := [name for name, values in grid.items() if not values]:
            raise SettingsError(f"give {empty[0]} at least one value")
        if "budget" in grid:
            grid["budget"] = tuple(map(absolute, grid["budget"]))
        if "corpus" in shared:
            shared["corpus"] = absolute(shared["corpus"], CORPORA)
        for name, value in {"shared": shared, "grid": grid, "texts": tuple(self.texts)}.items():
            object.__setattr__(self, name, value)
        object.__setattr__(self, "cells", tuple(self._cells()))

    def _cells(self) -> list[Cell]:
        """Return a cell for each combination of the grid that can differ from the others."""
        cells: dict[str, Cell] = {}
        made = set()
        for values in itertools.product(*self.grid.values()):
            settings = make_settings(
                PruneSettings,
                {
                    "model": self.model,
                    **shared_fields(self.shared),
                    **dict(zip(self.grid, values, strict=True)),
                },
            )
            idle = idle_options(settings)
            if "tune" in idle:
                settings = dataclasses.replace(settings, tune=False)
            key = tuple(_grid_values(settings, idle).values())
            if key in made:
                continue
            made.add(key)
            name = base = self._name(settings, idle)
            number = 2
            while name in cells:  # two budget files of one name
                name, number = f"{base}-{number}", number + 1
            cells[name] = Cell(name, settings, idle)
        return list(cells.values())

    def _name(self, settings: PruneSettings, idle: frozenset[str]) -> str:
        """Return the name of a cell: score, allocation, budget, the options that distinguish it, and the target."""
        parts = [settings.score, settings.allocation, Path(settings.budget).stem]
        for name in GRID_OPTIONS:
            value = getattr(settings, name)
            distinguishes = len(self.grid.get(name, ())) > 1 and name not in idle and value is not False
            if distinguishes and name not in _ALWAYS_NAMED:
                parts.append(options(PruneSettings)[name].mark + ("" if value is True else f"{value}"))
        parts.append(f"{settings.target:g}")
        return "-".join(parts).replace("_", "-")

    @property
    def fingerprint(self) -> str:
        """The hash of all settings."""
        return fingerprint(self.to_json())

    def to_json(self) -> dict:
        """Return plain JSON, from which `from_json` makes the same settings."""
        return {
            "model": self.model,
            "grid": {name: list(values) for name, values in self.grid.items()},
            "shared": {
                name: list(value) if isinstance(value, tuple) else value
                for name, value in shared_fields(self.shared).items()
            },
            "texts": [dataclasses.asdict(text) for text in self.texts],
        }

    @classmethod
    def from_json(cls, content: SweepSettingsJson) -> "SweepSettings":
        """Read the settings of a sweep.

        Raises:
            SettingsError: a key is missing, or this version does not know it.
        """
        try:
            texts = tuple(EvaluationText(**text) for text in content["texts"])
            return cls(content["model"], content["grid"], content["shared"], texts)
        except (KeyError, TypeError, AttributeError) as error:
            raise SettingsError(
                f"these settings are of another version of TRIM Lab ({error!r}); open them with the version that wrote "
                "them"
            ) from error
