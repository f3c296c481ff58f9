"""A whole model at a glance: a few numbers for each layer, laid out by block and layer type."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np

from diagnostics.learning_rate import Outcome
from diagnostics.numeric import rank_correlation

MapQuantity = Literal[
    "median_gini",
    "quality_gain",
    "outcome",
    "layer_sparsity",
    "row_variance_uniform",
    "row_variance",
    "row_variance_change",
    "error_left",
    "weights_moved",
    "row_agreement",
    "loss_added",
    "loss_foreseen",
    "tokens",
]
OUTCOMES: tuple[Outcome, ...] = ("negative", "none", "positive")
MAX_KINDS = 10_000  # whose families are cached: a block may have some hundred experts
OUTCOME_CODES: dict[Outcome, int] = {"negative": -1, "none": 0, "positive": 1}


@dataclass(frozen=True)
class LayerFacts:
    """One pruned layer in a few numbers.

    Attributes:
        name: such as "15.mlp.gate_proj".
        median_gini: the median Gini coefficient of its rows; NaN if no row has one.
        layer_sparsity: realised.
        uniform_quality, realised_quality: layer quality at the exact uniform counts, and as it was pruned.
        row_variance_uniform, row_variance: variance over the live rows of the rows' cosines, at the same two.
        outcome: the outcome of TRIM's search; None if TRIM did not search.
        learning_rate: the chosen rate; None: no rate was chosen.
        error_left: the layer's output error with changed kept weights over that of the mask alone; NaN: unchanged.
        weights_moved: median over the rows of how far their kept weights moved, ‖ŵ − w‖ / ‖w‖; NaN: unchanged.
        row_agreement: Spearman correlation over the rows of their sparsities in this and another run; NaN: not
            compared, or not defined.
        loss_added: the loss per token that pruning the layer alone adds to the model's, in nats; NaN: not measured.
        loss_foreseen: the added loss that its rows' sensitivities predict; NaN: not measured.
        tokens: number of tokens of the calibration text that an expert received; NaN: the layer is not an expert's.
    """

    name: str
    median_gini: float
    layer_sparsity: float
    uniform_quality: float
    realised_quality: float
    row_variance_uniform: float
    row_variance: float
    outcome: Outcome | None
    learning_rate: float | None
    error_left: float = float("nan")
    weights_moved: float = float("nan")
    row_agreement: float = float("nan")
    loss_added: float = float("nan")
    loss_foreseen: float = float("nan")
    tokens: float = float("nan")

    @property
    def block(self) -> int:
        """Index of the block."""
        return int(self.name.partition(".")[0])

    @property
    def kind(self) -> str:
        """The layer's own path in its block, such as "mlp.gate_proj"."""
        return self.name.partition(".")[2]

    @property
    def quality_gain(self) -> float:
        """Realised quality minus that of uniform; NaN where both are infinite."""
        return self.realised_quality - self.uniform_quality

    @property
    def row_variance_change(self) -> float:
        """log₁₀ of the variance as pruned over that of uniform; NaN where either is 0."""
        if not (self.row_variance > 0 and self.row_variance_uniform > 0):
            return float("nan")
        return float(np.log10(self.row_variance / self.row_variance_uniform))


def layer_facts(
    name: str,
    *,
    gini: np.ndarray,
    layer_sparsity: float,
    qualities: tuple[float, float],
    cosines: tuple[np.ndarray, np.ndarray],
    dead_rows: np.ndarray,
    learning_rate: float | None,
    searched: bool,
    error_left: float | None = None,
    row_moved: np.ndarray | None = None,
    tokens: int | None = None,
) -> LayerFacts:
    """Return the facts of one layer for a map.

    Args:
        name: the layer's name.
        gini: (D,), NaN for a row of zeros.
        layer_sparsity: the realised sparsity.
        qualities: layer quality at the uniform counts, and as pruned.
        cosines: the rows' cosines (D,) at the same two.
        dead_rows: (D,) bool, left out of the variances.
        learning_rate: the chosen rate; None: no rate was chosen.
        searched: whether TRIM searched for a learning rate.
        error_left: output error with changed kept weights over that of the mask alone; None: they are unchanged.
        row_moved: (D,), how far each row's kept weights moved, NaN where undefined; None: they are unchanged.
        tokens: number of tokens that an expert received; None: the layer is not an expert's.
    """
    live = ~np.asarray(dead_rows, dtype=bool)
    uniform_variance, variance = (
        float(np.var(cosine[live], dtype=np.float64)) if live.any() else np.nan for cosine in cosines
    )
    outcome: Outcome | None = None
    if searched:
        outcome = "none" if learning_rate is None else "positive" if learning_rate > 0 else "negative"
    return LayerFacts(
        name,
        _median(gini),
        float(layer_sparsity),
        float(qualities[0]),
        float(qualities[1]),
        uniform_variance,
        variance,
        outcome,
        learning_rate,
        float("nan") if error_left is None else float(error_left),
        _median(row_moved),
        tokens=float("nan") if tokens is None else float(tokens),
    )


def _median(values: np.ndarray | None) -> float:
    """Return the median of the values without NaN; NaN if no value is left."""
    finite = np.array([]) if values is None else np.asarray(values)[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else float("nan")


def layer_grid(
    numbers: Mapping[str, float], kind_of: Callable[[str], str] = lambda name: name.partition(".")[2]
) -> tuple[np.ndarray, list[int], list[str]]:
    """Return a number of each layer, (kinds, blocks), NaN where there is none, with the lists of kinds and blocks.

    Layers of one kind in a block share a cell, which holds their mean.
    """
    cells: dict[tuple[str, int], list[float]] = {}
    for name, value in numbers.items():
        block = next((int(part) for part in name.split(".") if part.isdigit()), 0)
        cells.setdefault((kind_of(name), block), []).append(value)
    kinds = list(dict.fromkeys(kind for kind, _ in cells))
    blocks = sorted({block for _, block in cells})
    grid = np.full((len(kinds), len(blocks)), np.nan)
    for (kind, block), values in cells.items():
        grid[kinds.index(kind), blocks.index(block)] = np.mean(values)
    return grid, blocks, kinds


def row_agreement(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Spearman correlation of the same rows' sparsities (D,) in two runs; NaN where it is not defined."""
    correlation = rank_correlation(first, second)
    return float("nan") if correlation is None else correlation.coefficient


@lru_cache(MAX_KINDS)
def family_of(kind: str) -> str:
    """Return the common name of all experts' layers of one kind, "mlp.experts.*.up_proj"; "" for other layers."""
    family, experts = re.subn(r"\b(experts|input_linear|output_linear)\.\d+(?=\.|$)", r"\1.*", kind)
    return family if experts else ""


@dataclass(frozen=True)
class ModelMap:
    """The layers of a run, laid out by block and layer type.

    Attributes:
        label: the run's name.
        planned: the names of all layers to prune, in the model's order.
        layers: the facts of the finished layers.
        quality_measure: the measure of layer quality.
    """

    label: str
    planned: tuple[str, ...]
    layers: tuple[LayerFacts, ...]
    quality_measure: str

    def __hash__(self) -> int:
        """Return a hash that is computed once, as caches of figures use maps as keys."""
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.label, self.planned, self.layers, self.quality_measure))

    @cached_property
    def mean_gain(self) -> float | None:
        """The mean of the layers' gains over uniform; None if no layer is finished."""
        gains = [facts.quality_gain for facts in self.layers]
        return sum(gains) / len(gains) if gains else None

    @cached_property
    def blocks(self) -> tuple[int, ...]:
        """The blocks from the first to the last that holds a planned layer."""
        indices = [int(name.partition(".")[0]) for name in self.planned]
        return tuple(range(min(indices), max(indices) + 1)) if indices else ()

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """The layer types in the model's order."""
        return tuple(dict.fromkeys(name.partition(".")[2] for name in self.planned))

    @cached_property
    def families(self) -> tuple[str, ...]:
        """The kinds of layers that experts have, such as "mlp.experts.*.up_proj"; none in a dense model."""
        return tuple(dict.fromkeys(family for kind in self.kinds if (family := family_of(kind))))

    def part(self, family: str) -> "ModelMap":
        """Return the map of one family of experts' layers; "": of all layers but experts'."""
        return replace(
            self,
            planned=tuple(name for name in self.planned if family_of(name.partition(".")[2]) == family),
            layers=tuple(facts for facts in self.layers if family_of(facts.kind) == family),
        )

    @cached_property
    def by_name(self) -> dict[str, LayerFacts]:
        """The facts by the layers' names."""
        return {facts.name: facts for facts in self.layers}

    @cached_property
    def searched(self) -> bool:
        """Return whether TRIM searched in any layer."""
        return any(facts.outcome is not None for facts in self.layers)

    @cached_property
    def changed(self) -> bool:
        """Return whether any layer's kept weights were changed."""
        return any(np.isfinite(facts.error_left) for facts in self.layers)

    @property
    def costed(self) -> tuple[LayerFacts, ...]:
        """The layers whose cost was measured."""
        return tuple(facts for facts in self.layers if np.isfinite(facts.loss_added))

    @property
    def missing(self) -> tuple[str, ...]:
        """The planned layers that are not finished."""
        return tuple(name for name in self.planned if name not in self.by_name)

    def value(self, facts: LayerFacts, quantity: MapQuantity) -> float:
        """Return one number of one layer; an outcome is −1, 0 or 1, NaN where TRIM did not search."""
        if quantity == "outcome":
            return float("nan") if facts.outcome is None else float(OUTCOME_CODES[facts.outcome])
        return float(getattr(facts, quantity))

    def grid(self, quantity: MapQuantity) -> np.ndarray:
        """Return a number of each layer, (types, blocks) float64, NaN where no such layer is finished."""
        grid = np.full((len(self.kinds), len(self.blocks)), np.nan)
        for facts in self.layers:
            cell = self.kinds.index(facts.kind), facts.block - self.blocks[0]
            grid[cell] = self.value(facts, quantity)
        return grid

    def outcome_counts(self) -> dict[Outcome, int]:
        """Return the number of layers with each outcome."""
        outcomes = [facts.outcome for facts in self.layers]
        return {outcome: outcomes.count(outcome) for outcome in OUTCOMES}

    def columns(self) -> dict[str, np.ndarray]:
        """Return a table with one line for each finished layer."""
        fields = ["median_gini", "layer_sparsity", "uniform_quality", "realised_quality", "quality_gain"]
        fields += ["row_variance_uniform", "row_variance"]
        fields += ["error_left", "weights_moved"] if self.changed else []
        fields += ["loss_added", "loss_foreseen"] if self.costed else []
        fields += ["tokens"] if self.families else []
        table = {"layer": np.array([facts.name for facts in self.layers], dtype=str)}
        for name in fields:
            table[name] = np.array([getattr(facts, name) for facts in self.layers])
        table["outcome"] = np.array([facts.outcome or "" for facts in self.layers], dtype=str)
        table["learning_rate"] = np.array(
            [np.nan if facts.learning_rate is None else facts.learning_rate for facts in self.layers]
        )
        return table


@dataclass(frozen=True, eq=False)
class OutcomeLane:
    """The layers of one run with one outcome: their names and median Gini coefficients (M,)."""

    run: str
    outcome: Outcome
    names: tuple[str, ...]
    gini: np.ndarray

    @property
    def median(self) -> float:
        """Return the median of the layers' median Gini coefficients; NaN for an empty lane."""
        return float(np.median(self.gini)) if self.gini.size else float("nan")


def outcome_lanes(maps: Sequence[ModelMap]) -> tuple[OutcomeLane, ...]:
    """Return learning-rate outcome against median Gini (figure 3c of arXiv 2505.16743), three lanes for each run."""
    lanes = []
    for shown in maps:
        measured = [facts for facts in shown.layers if facts.outcome and np.isfinite(facts.median_gini)]
        for outcome in OUTCOMES:
            members = [facts for facts in measured if facts.outcome == outcome]
            lanes.append(
                OutcomeLane(
                    shown.label,
                    outcome,
                    tuple(facts.name for facts in members),
                    np.array([facts.median_gini for facts in members]),
                )
            )
    return tuple(lanes)
