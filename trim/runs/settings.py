"""Everything that a user says about one pruning of a whole model."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trim.errors import SettingsError
from trim.methods.choices import (
    ALLOCATIONS,
    ALPHA_FITS,
    ALPHA_WIDTH,
    BUDGETS,
    OPTIMAL_CAP,
    OWL_MULTIPLE,
    OWL_WIDTH,
    ROW_WEIGHTS,
    SCORES,
)
from trim.methods.pattern import Pattern
from trim.methods.search_settings import SearchSettings
from trim.names import near_names
from trim.runs.fields import read_fields


@dataclass(frozen=True)
class PruneSettings:
    """What to prune, how far, and by which method.

    Attributes:
        model: a source that `load_model` knows.
        target: T, the model's sparsity over the chosen layers; None: the pattern or the budget file says it.
        allocation: who sets the sparsity of each row: "trim", "uniform", "optimal" or "variant".
        budget: who sets the sparsity of each layer: "uniform", "owl", "alphapruning", "optimal", or a JSON
            file.
        score: what the importance of a weight is: "wanda" or "magnitude".
        pattern: such as "2:4", two zeros in every four weights; sets the target itself.
        corpus, windows, length, seed: the calibration text, as `load_corpus` reads it.
        vectors_per_sequence: how many input vectors the search sees of each window.
        recalculate_inputs: later layers of a block see what its earlier ones do after being pruned.
        refit: the kept weights are refitted to the dense outputs (`trim.methods.refit`), not left as they are.
        layers: names or shell patterns of the layers to prune; the others stay dense.
        max_row_sparsity: the cap on a row's sparsity; None: 0.95, and 0.99 where anything is optimal.
        row_weights: what an error in a row's output counts for where anything is optimal: "fisher", its sensitivity,
            or "ones".
        sensitivity_windows: how many of the windows the sensitivity, and the price that layers share, are measured on.
        second_pass: the sensitivity is measured again in the model pruned once, and both count
            (`trim.pruning.second_pass`).
        learning_rates, negative_learning_rates, iterations, layer_quality, row_quality: of TRIM's search.
        owl_width, owl_multiple: OWL's λ and M.
        alpha_width, alpha_fit: AlphaPruning's ε, and "alpha_peak" or "alpha_mid".
        device: "cpu" or "cuda"; None: a GPU where there is one.
        dtype: in which the model computes; None: as `load_model` chooses.
        batch: windows in one forward pass; None: chosen once, and recorded.

    Raises:
        SettingsError: a value that makes no sense, or a combination that does not, with the reason.
    """

    model: str
    target: float | None = None
    allocation: str = "trim"
    budget: str = "uniform"
    score: str = "wanda"
    pattern: str | None = None
    corpus: str = "demo"
    windows: int = 128
    length: int = 512
    seed: int = 0
    vectors_per_sequence: int = 2
    recalculate_inputs: bool = False
    refit: bool = False
    layers: tuple[str, ...] = ("*",)
    learning_rates: tuple[float, ...] = SearchSettings.learning_rates
    negative_learning_rates: tuple[float, ...] = SearchSettings.negative_learning_rates
    iterations: int = SearchSettings.iterations
    layer_quality: str = SearchSettings.layer_quality
    row_quality: str = SearchSettings.row_quality
    max_row_sparsity: float | None = None
    row_weights: str = ROW_WEIGHTS[0]
    sensitivity_windows: int = 32
    second_pass: bool = False
    owl_width: float = OWL_WIDTH
    owl_multiple: float = OWL_MULTIPLE
    alpha_width: float = ALPHA_WIDTH
    alpha_fit: str = ALPHA_FITS[0]
    device: str | None = None
    dtype: str | None = None
    batch: int | None = None

    def __post_init__(self) -> None:
        for key in ("layers", "learning_rates", "negative_learning_rates"):
            value = getattr(self, key)
            if isinstance(value, str):
                raise SettingsError(f"{key} must be several, not the text {value!r}")
            object.__setattr__(self, key, tuple(value))
        object.__setattr__(self, "model", str(self.model))
        object.__setattr__(self, "budget", str(self.budget))
        for key, known in (
            ("allocation", tuple(ALLOCATIONS)),
            ("score", SCORES),
            ("alpha_fit", ALPHA_FITS),
            ("row_weights", ROW_WEIGHTS),
        ):
            if getattr(self, key) not in known:
                raise SettingsError(f"{key} must be one of {', '.join(known)}, not {getattr(self, key)!r}")
        if self.budget not in BUDGETS and not self.budget.endswith(".json"):
            raise SettingsError(
                f"budget must be one of {', '.join(BUDGETS)} or a .json file, not {self.budget!r}; near names: "
                f"{near_names(self.budget, BUDGETS)}"
            )
        if self.pattern is not None:
            self._check_pattern(Pattern.parse(self.pattern))
        elif self.target is None and not self.budget.endswith(".json"):
            raise SettingsError("say how sparse the model shall be: target=0.7 (--target 0.7)")
        if self.target is not None and not 0 < self.target < 1:
            raise SettingsError(
                f"the target sparsity of the model must be above 0 and below 1, not {self.target}"
            )
        # A target above the row cap is refused here too, before anything slow starts.
        self.search_settings(min(self.target or self.row_cap, 1.0) if self.pattern is None else 0.5)
        if not 0 < self.owl_width < 0.5 or self.owl_multiple <= 0:
            raise SettingsError("OWL's width must lie between 0 and 0.5, and its multiple above 0")
        if not 0 < self.alpha_width < 1:
            raise SettingsError("AlphaPruning's width must lie between 0 and 1")
        if self.sensitivity_windows < 1:
            raise SettingsError(f"sensitivity needs at least one window, not {self.sensitivity_windows}")
        if self.batch is not None and self.batch < 1:
            raise SettingsError(f"a batch holds at least one window, not {self.batch}")

    def _check_pattern(self, pattern: Pattern) -> None:
        if self.target is not None and self.target != pattern.sparsity:
            raise SettingsError(
                f"the pattern {self.pattern} sets every row to {pattern.sparsity:g} by itself; leave the target out"
            )
        if self.allocation != "uniform":
            raise SettingsError(
                f"the pattern {self.pattern} prunes every row alike, so {self.allocation} would have nothing to "
                "decide; use allocation uniform (--allocation uniform)"
            )
        if self.budget != "uniform":
            raise SettingsError(
                f"the pattern {self.pattern} prunes every layer alike, so {self.budget} would have nothing to decide; "
                "use budget uniform (--budget uniform)"
            )

    @property
    def asks_sensitivity(self) -> bool:
        """Whether the rows' Fisher sensitivity decides anything."""
        return "optimal" in (self.allocation, self.budget) and self.row_weights == "fisher"

    @property
    def target_sparsity(self) -> float | None:
        """The target that holds: given, or the pattern's; None: the budget file's own."""
        return Pattern.parse(self.pattern).sparsity if self.pattern else self.target

    @property
    def row_cap(self) -> float:
        """The cap on a row's sparsity that holds."""
        if self.max_row_sparsity is not None:
            return self.max_row_sparsity
        return OPTIMAL_CAP if "optimal" in (self.allocation, self.budget) else SearchSettings.max_row_sparsity

    def search_settings(self, target: float) -> SearchSettings:
        """TRIM's settings for a layer of that sparsity."""
        return SearchSettings(
            target,
            self.learning_rates,
            self.negative_learning_rates,
            self.iterations,
            self.layer_quality,
            self.row_quality,
            self.row_cap,
        )

    def to_json(self) -> dict:
        """Plain JSON, from which `from_json` makes the same settings."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def of(cls, fields: Mapping[str, object]) -> "PruneSettings":
        """Settings out of fields by their names, as a call, a grid or a file gives them.

        Raises:
            SettingsError: as for the class itself.
            TypeError: a name that is no field.
        """
        return cls(**fields)  # type: ignore[arg-type]  # no type says which value each name of a mapping has

    @classmethod
    def from_json(cls, content: dict) -> "PruneSettings":
        """Settings of a run.

        Raises:
            SettingsError: a value of the wrong type, or names that this version does not know.
        """
        if unknown := sorted(set(content) - set(cls.__dataclass_fields__)):
            raise SettingsError(
                f"these settings are of another version of TRIM Lab: it knows no {', '.join(map(repr, unknown))}"
            )
        return read_fields(cls, content, "request")

    @property
    def name(self) -> str:
        """What the run is called when nobody names it."""
        model = Path(self.model).name
        how = self.pattern or (f"{self.allocation} {self.target:.0%}" if self.target else self.allocation)
        more = (", second pass" if self.second_pass else "") + (", refitted" if self.refit else "")
        return f"{model} {how}" + ("" if self.budget == "uniform" else f" {Path(self.budget).stem}") + more
