"""Every option of pruning a whole model, each declared once."""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

from trim.errors import SettingsError
from trim.methods.choices import (
    BUDGETS,
    INPUT_VECTORS,
    LAYER_QUALITIES,
    LAYER_QUALITY_MEANINGS,
    OPTIMAL_CAP,
    ROW_QUALITIES,
    ROW_QUALITY_MEANINGS,
    SOLVERS,
)
from trim.methods.pattern import Pattern
from trim.methods.search_settings import SearchSettings
from trim.names import closest_matches
from trim.runs.fields import read_fields
from trim.runs.method_settings import MethodSettings
from trim.runs.options import option, options
from trim.seeds import MAX_SEED, require_seed

# Headings above options.
TEXT, SEARCH, ROWS, MACHINE = "calibration text", "TRIM's search", "rows", "machine"


DEVICE = option(
    None, help="cpu, cuda or cuda:1", label="Device", group=MACHINE, unset="a GPU where there is one"
)

# Options that no longer exist, with their old default: a run that stored another value cannot be read.
_RETIRED = {"second_pass": False}


def _not_searched(settings: "PruneSettings") -> bool:
    return settings.allocation != "trim"


@dataclass(frozen=True)
class PruneSettings(MethodSettings):
    """The settings of a run: what to prune, to which sparsity, and by which method.

    The help of each option is shown on the command line and in the app; `trim.runs.options` explains its fields.

    Raises:
        SettingsError: a value or a combination of values is invalid; the message gives the reason.
    """

    corpus: str = option(
        "demo",
        help="demo, wikitext2, c4, or a .txt, .jsonl or .parquet file",
        label="Calibration text",
        group=TEXT,
        affects_time=False,
    )
    windows: int = option(
        128, help="how many windows", label="Windows (sequences)", group=TEXT, limits=(1, 4096)
    )
    length: int = option(
        512, help="tokens in a window", label="Tokens per window", group=TEXT, limits=(2, 32768)
    )
    bos: bool = option(
        True,
        help="begin each window with the tokenizer's beginning-of-text token (BOS), where it adds one; "
        "otherwise the text begins with it once, as in the published protocols",
        label="Begin each window with BOS",
        group=TEXT,
        flag="no-bos",
        affects_time=False,
    )
    vectors_per_sequence: int = option(
        2,
        help="input vectors kept of each window, on which the outputs of a layer are compared",
        label="Input vectors kept per window",
        group=TEXT,
        limits=(1, 256),
        flag="vectors",
        short="vectors {}",
        idle=lambda settings: not settings.needs_vectors,
        varies=True,
    )
    input_vectors: str = option(
        INPUT_VECTORS[0],
        help="which input vectors of each window are kept",
        label="Which input vectors",
        group=TEXT,
        choices=INPUT_VECTORS,
        meanings={
            "random": "those of random tokens",
            "last": "those of the last tokens, as the TRIM authors do with one",
        },
        short="{} tokens",
        idle=lambda settings: not settings.needs_vectors,
        varies=True,
        affects_time=False,
    )
    seed: int = option(
        0,
        help="which windows, and which input vectors of them",
        label="Seed",
        group=TEXT,
        limits=(0, MAX_SEED),
        idle=lambda settings: (
            not (settings.needs_vectors or settings.needs_inputs or settings.budget == "owl")
        ),
        varies=True,
        affects_time=False,
    )
    learning_rates: tuple[float, ...] = option(
        SearchSettings.learning_rates,
        help="learning rates of the search, tried in this order",
        label="Learning rates, tried in this order",
        group=SEARCH,
        metavar="RATE",
        idle=_not_searched,
    )
    negative_learning_rates: tuple[float, ...] = option(
        SearchSettings.negative_learning_rates,
        help="tried if none of the others helps; none: forbidden",
        label="Negative learning rates (empty: forbidden)",
        group=SEARCH,
        metavar="RATE",
        idle=_not_searched,
    )
    iterations: int = option(
        SearchSettings.iterations,
        help="updates per learning rate",
        label="Iterations per learning rate",
        group=SEARCH,
        limits=(1, 100),
        idle=_not_searched,
    )
    layer_quality: str = option(
        SearchSettings.layer_quality,
        help="decides which update is kept, and is recorded of each layer",
        label="Layer quality",
        group=SEARCH,
        choices=LAYER_QUALITIES,
        meanings=LAYER_QUALITY_MEANINGS,
        metavar="QUALITY",
    )
    row_quality: str = option(
        SearchSettings.row_quality,
        help="drives the updates: rows that keep it are pruned harder, or less at a negative rate",
        label="Row quality",
        group=SEARCH,
        choices=ROW_QUALITIES,
        meanings=ROW_QUALITY_MEANINGS,
        metavar="QUALITY",
        idle=_not_searched,
    )
    max_row_sparsity: float | None = option(
        None,
        help="the most of a row that may be pruned",
        label="Largest row sparsity",
        group=ROWS,
        unset="95%, or 99% where anything is optimal or solved",
        unit="%",
        limits=(1, 100),
        metavar="CAP",
        affects_time=False,
    )
    device: str | None = DEVICE
    dtype: str | None = option(
        None,
        help="in which the model computes: float32, bfloat16 or float16",
        label="Number type",
        group=MACHINE,
        unset="float32 on the CPU, the 16-bit type of the checkpoint on a GPU",
    )
    batch: int | None = option(
        None,
        help="windows in one forward pass",
        label="Windows in one forward pass",
        group=MACHINE,
        unset="chosen automatically",
        limits=(1, 4096),
        affects_time=False,
    )

    def __post_init__(self) -> None:
        for key in ("layers", "learning_rates", "negative_learning_rates"):
            value = getattr(self, key)
            if isinstance(value, str):
                raise SettingsError(f"{key} must be a list, such as [{value!r}], not the string {value!r}")
            object.__setattr__(self, key, tuple(value))
        object.__setattr__(self, "model", str(self.model))
        object.__setattr__(self, "budget", str(self.budget))
        for key, each in options(PruneSettings).items():
            value = getattr(self, key)
            if each.choices and not each.others and value not in (*each.choices, each.default):
                raise SettingsError(f"{key} must be one of {', '.join(each.choices)}, not {value!r}")
        if self.budget not in BUDGETS and not self.budget.endswith(".json"):
            raise SettingsError(
                f"budget must be one of {', '.join(BUDGETS)} or a .json file, not {self.budget!r}; closest names: "
                f"{closest_matches(self.budget, BUDGETS)}"
            )
        if not self.layers:
            raise SettingsError('name at least one layer or pattern of layers, such as layers=["*.mlp.*"]')
        if self.pattern is not None:
            self._check_pattern(Pattern.parse(self.pattern))
        elif self.target is None and not self.budget.endswith(".json"):
            raise SettingsError("give the sparsity of the model: target=0.7 (--target 0.7)")
        if self.target is not None and not 0 < self.target < 1:
            meant = f"; {self.target:g}% is {self.target / 100:g}" if 1 < self.target < 100 else ""
            raise SettingsError(
                f"the target sparsity of the model must be above 0 and below 1, not {self.target:g}{meant}"
            )
        # Refuse a target above the row cap before anything slow starts.
        self.search_settings(self.row_cap if self.pattern or self.target is None else self.target)
        if not 0 < self.owl_width < 0.5 or not 0 < self.owl_multiple < math.inf:
            raise SettingsError("OWL's width must lie between 0 and 0.5, and its multiple above 0")
        if not 0 < self.alpha_width < 1:
            raise SettingsError("AlphaPruning's width must lie between 0 and 1")
        if self.sensitivity_windows < 1:
            raise SettingsError(f"sensitivity needs at least one window, not {self.sensitivity_windows}")
        require_seed(self.seed)
        if self.batch is not None and self.batch < 1:
            raise SettingsError(f"a batch needs at least one window, not {self.batch}")

    def _check_pattern(self, pattern: Pattern) -> None:
        """Refuse options that would have no effect under a pattern, or contradict it."""
        if self.target is not None and self.target != pattern.sparsity:
            raise SettingsError(
                f"the pattern {self.pattern} sets every row to {pattern.sparsity:g} by itself; leave the target out"
            )
        if self.allocation != "uniform" and not self.solves:
            raise SettingsError(
                f"the pattern {self.pattern} sets the same sparsity for every row, so {self.allocation} would have "
                f"nothing to decide; use allocation uniform (--allocation uniform), or one of {', '.join(SOLVERS)}"
            )
        if self.budget != "uniform":
            raise SettingsError(
                f"the pattern {self.pattern} sets the same sparsity for every layer, so {self.budget} would have "
                "nothing to decide; use budget uniform (--budget uniform)"
            )

    @property
    def row_cap(self) -> float:
        """The cap on a row's sparsity: the user's, or the default of the method."""
        if self.max_row_sparsity is not None:
            return self.max_row_sparsity
        return OPTIMAL_CAP if self.is_optimal or self.solves else SearchSettings.max_row_sparsity

    def search_settings(self, target: float) -> SearchSettings:
        """Return TRIM's settings for a layer of that sparsity."""
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
        """Return plain JSON, from which `from_json` makes the same settings."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_json(cls, content: dict) -> "PruneSettings":
        """Read the settings of a run.

        Raises:
            SettingsError: a value has the wrong type, or this version does not know a name.
        """
        content = {key: value for key, value in content.items() if _RETIRED.get(key, ...) != value}
        if unknown := sorted(set(content) - set(cls.__dataclass_fields__)):
            raise SettingsError(
                "these settings are of another version of TRIM Lab: this one does not know "
                f"{', '.join(map(repr, unknown))}; open them with the version that wrote them"
            )
        return read_fields(cls, content, "request")

    @property
    def name(self) -> str:
        """Return the run's default name."""
        model = Path(self.model).name
        how = self.pattern or (f"{self.target:.0%}" if self.target else "")
        if self.solves or not self.pattern:
            how = f"{self.allocation} {how}".rstrip()
        refitted = self.refit and not self.solves
        more = (", refitted" if refitted else "") + (", tuned" if self.tune else "")
        return f"{model} {how}" + ("" if self.budget == "uniform" else f" {Path(self.budget).stem}") + more
