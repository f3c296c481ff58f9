"""Every option of pruning a whole model, each declared once."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from trim.errors import SettingsError
from trim.methods.choices import (
    ALPHA_FITS,
    ALPHA_WIDTH,
    BUDGETS,
    INPUT_VECTORS,
    LAYER_QUALITIES,
    LAYER_QUALITY_MEANINGS,
    METHODS,
    OPTIMAL_CAP,
    OWL_MULTIPLE,
    OWL_WIDTH,
    RECALCULATIONS,
    ROW_QUALITIES,
    ROW_QUALITY_MEANINGS,
    ROW_WEIGHTS,
    SCORES,
    SOLVERS,
)
from trim.methods.pattern import Pattern
from trim.methods.search_settings import SearchSettings
from trim.names import closest_matches
from trim.runs.fields import read_fields
from trim.runs.options import option, options, settings_of

# Headings above options.
METHOD, TEXT, SEARCH, ROWS = "method", "calibration text", "TRIM's search", "rows"
BUDGET_METHODS, OPTIMAL, MACHINE = "budget methods", "optimal allocation and budgets", "machine"


# Options that are gone, and the value with which runs that name them are as they would be now.
_RETIRED = {"second_pass": False}


def _not_searched(settings: "PruneSettings") -> bool:
    return settings.allocation != "trim"


@dataclass(frozen=True)
class PruneSettings:
    """The settings of a run: what to prune, how far, and by which method.

    The words of each option are its help on the command line and in the app; `trim.runs.options` says what they mean.

    Raises:
        SettingsError: a value that makes no sense, or a combination that does not, with the reason.
    """

    model: str = option(
        "demo",
        help='"demo", a Hub id, a folder with safetensors, or a GGUF file',
        label="model asked for",
        group="model",
    )
    target: float | None = option(
        None,
        help="model sparsity, such as 0.7: the share of the weights of all chosen layers that is pruned",
        label="Model sparsity target",
        group=METHOD,
        unset="what the pattern or the budget file says",
        unit="%",
        limits=(1, 99),
        metavar="TARGET",
        varies=True,
        takes_time=False,
    )
    allocation: str = option(
        "trim",
        help="who sets the sparsity of each row inside a layer; some set the kept weights too",
        label="Allocation: rows",
        group=METHOD,
        choices=METHODS,
        meanings={
            "trim": "searched row by row, as published",
            "uniform": "every row alike, plain Wanda",
            "optimal": "the least loss that rows can be balanced to",
            "layer": "the lowest scores of the whole layer, whatever their rows, as published for magnitude",
            "variant": "Wanda's variant, each row loses the lowest scores that together hold the same share of its "
            "score",
            "solved": "mask and kept weights solved together, to the outputs of the dense model, rows weighed by what "
            "the loss is sensitive to; loses least",
            "alps": "mask and kept weights solved together, every layer and row for itself (ALPS)",
            "sparsegpt": "column by column, the rest of a row makes up for each (SparseGPT)",
        },
        varies=True,
    )
    budget: str = option(
        "uniform",
        help="who sets the sparsity of each layer, so that the model reaches its target",
        label="Budget: layers",
        group=METHOD,
        choices=BUDGETS,
        meanings={
            "uniform": "every layer alike",
            "owl": "blocks with more outliers keep more (OWL)",
            "alphapruning": "by the tail of the spectra of each block's layers (AlphaPruning)",
            "optimal": "by what the loss is sensitive to",
        },
        others="or a JSON file",
        varies=True,
    )
    score: str = option(
        "wanda",
        help="importance of a weight",
        label="Score: weights",
        group=METHOD,
        choices=SCORES,
        meanings={
            "wanda": "its size times the norm of the feature that it reads",
            "magnitude": "its size",
        },
        short="{} score",
        idle=lambda settings: settings.solves and settings.budget != "optimal",
        varies=True,
        takes_time=False,
    )
    pattern: str | None = option(
        None,
        help="n zeros in every m weights, such as 2:4; sets the target itself, needs uniform budgets and an allocation "
        "that is uniform or sets the kept weights",
        label="Pattern n:m",
        group=METHOD,
        unset="none",
        metavar="N:M",
    )
    owl_width: float = option(
        OWL_WIDTH,
        help="OWL's lambda: keep ratios of blocks lie within twice as much",
        label="OWL's λ",
        group=BUDGET_METHODS,
        limits=(0.001, 0.499),
        step=0.01,
        short="λ {}",
        idle=lambda settings: settings.budget != "owl",
        varies=True,
        takes_time=False,
    )
    owl_multiple: float = option(
        OWL_MULTIPLE,
        help="OWL's M: an outlier is above M times the mean score",
        label="OWL's M: outliers are above M × mean",
        group=BUDGET_METHODS,
        limits=(0.1, 100),
        short="M {}",
        idle=lambda settings: settings.budget != "owl",
        varies=True,
        takes_time=False,
    )
    alpha_width: float = option(
        ALPHA_WIDTH,
        help="AlphaPruning's epsilon: before scaling to the target, sparsities lie between 1 - epsilon and 1 + epsilon",
        label="AlphaPruning's ε",
        group=BUDGET_METHODS,
        limits=(0.01, 0.99),
        step=0.1,
        short="ε {}",
        idle=lambda settings: settings.budget != "alphapruning",
        varies=True,
        takes_time=False,
    )
    alpha_fit: str = option(
        ALPHA_FITS[0],
        help="how the tail of a spectrum is fitted",
        label="How a spectrum's tail is fitted",
        group=BUDGET_METHODS,
        choices=ALPHA_FITS,
        meanings={
            "alpha_peak": "from the value near the peak of the spectrum whose power law is nearest to the tail",
            "alpha_mid": "from the median of the spectrum",
        },
        short="{}",
        idle=lambda settings: settings.budget != "alphapruning",
        varies=True,
        takes_time=False,
    )
    row_weights: str = option(
        ROW_WEIGHTS[0],
        help="what an error in a row's output counts for where anything is optimal",
        label="What an error in a row counts for",
        group=OPTIMAL,
        choices=ROW_WEIGHTS,
        meanings={
            "fisher": "what it costs the model's loss: its empirical Fisher sensitivity, from a few backward passes",
            "ones": "all rows alike",
        },
        short="row weights {}",
        idle=lambda settings: not settings.is_optimal,
        varies=True,
    )
    sensitivity_windows: int = option(
        32,
        help="how many of the windows sensitivity and prices are measured on",
        label="Windows for the sensitivity",
        group=OPTIMAL,
        limits=(1, 4096),
        idle=lambda settings: not settings.needs_sensitivity and settings.budget != "optimal",
    )
    recalculate_inputs: bool = option(
        False,
        help="later layers of a block see what its earlier ones do after being pruned (about twice the time)",
        label="Recalculate inputs",
        group=METHOD,
        short="recalculated inputs",
        mark="recalculated",
        idle=lambda settings: (
            settings.needs_dense_text or (settings.needs_no_vectors and settings.needs_no_inputs)
        ),
        varies=True,
    )
    recalculation: str = option(
        RECALCULATIONS[0],
        help="what is recalculated where inputs are",
        label="What is recalculated",
        group=METHOD,
        choices=RECALCULATIONS,
        meanings={
            "all": "input norms, and so scores, and input vectors",
            "vectors": "input vectors only, as the TRIM authors do",
        },
        short="recalculated: {}",
        idle=lambda settings: (
            not settings.recalculate_inputs
            or settings.needs_dense_text
            or (settings.needs_no_vectors and settings.needs_no_inputs)
        ),
        varies=True,
    )
    refit: bool = option(
        False,
        help="change the weights that are kept so that they make up for those that are pruned: least squares on the "
        "text, to the outputs of the dense model, where that helps on the eighth of the windows that it does not see; "
        "loses much less, above all from 60% on",
        label="Refit the kept weights",
        group=METHOD,
        short="refitted",
        mark="refitted",
        idle=lambda settings: settings.solves,
        varies=True,
    )
    tune: bool = option(
        False,
        help="once the layers of a block are refitted or solved, tune their kept weights together by gradient steps, "
        "to the output of the dense block; the eighth of the windows that it does not see says when to stop",
        label="Tune each block",
        group=METHOD,
        short="tuned",
        mark="tuned",
        idle=lambda settings: not settings.needs_dense_text,
        varies=True,
    )
    layers: tuple[str, ...] = option(
        ("*",),
        help="names or shell patterns of the layers to prune, such as *.mlp.* 3.self_attn.q_proj; others stay dense",
        label="Layers to prune",
        group=METHOD,
        metavar="PATTERN",
    )
    corpus: str = option(
        "demo",
        help="demo, wikitext2, c4, or a .txt, .jsonl or .parquet file",
        label="Calibration text",
        group=TEXT,
        takes_time=False,
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
        takes_time=False,
    )
    vectors_per_sequence: int = option(
        2,
        help="input vectors kept of each window, on which the outputs of a layer are compared",
        label="Input vectors kept per window",
        group=TEXT,
        limits=(1, 256),
        flag="vectors",
        short="vectors {}",
        idle=lambda settings: settings.needs_no_vectors,
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
        idle=lambda settings: settings.needs_no_vectors,
        varies=True,
        takes_time=False,
    )
    seed: int = option(
        0,
        help="which windows, and which input vectors of them",
        label="Seed",
        group=TEXT,
        limits=(0, 2**31 - 1),
        idle=lambda settings: (
            settings.needs_no_vectors and settings.needs_no_inputs and settings.budget != "owl"
        ),
        varies=True,
        takes_time=False,
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
        help="drives the updates: rows that keep it give more weights, or fewer at a negative rate",
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
        takes_time=False,
    )
    device: str | None = option(
        None,
        help="cpu, cuda or cuda:1",
        label="Device",
        group=MACHINE,
        unset="a GPU where there is one",
    )
    dtype: str | None = option(
        None,
        help="in which the model computes: float32, bfloat16 or float16",
        label="Number type",
        group=MACHINE,
        unset="float32 on the CPU, the half type of the checkpoint on a GPU",
    )
    batch: int | None = option(
        None,
        help="windows in one forward pass",
        label="Windows in one forward pass",
        group=MACHINE,
        unset="chosen automatically",
        limits=(1, 4096),
        takes_time=False,
    )

    def __post_init__(self) -> None:
        for key in ("layers", "learning_rates", "negative_learning_rates"):
            value = getattr(self, key)
            if isinstance(value, str):
                raise SettingsError(f"{key} must be a list, such as [{value!r}], not the string {value!r}")
            object.__setattr__(self, key, tuple(value))
        object.__setattr__(self, "model", str(self.model))
        object.__setattr__(self, "budget", str(self.budget))
        for key, each in options(type(self)).items():
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
            raise SettingsError("say how sparse the model shall be: target=0.7 (--target 0.7)")
        if self.target is not None and not 0 < self.target < 1:
            raise SettingsError(
                f"the target sparsity of the model must be above 0 and below 1, not {self.target}"
            )
        # A target above the row cap is refused here too, before anything slow starts.
        self.search_settings(self.row_cap if self.pattern or self.target is None else self.target)
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
        if self.allocation != "uniform" and not self.solves:
            raise SettingsError(
                f"the pattern {self.pattern} prunes every row alike, so {self.allocation} would have nothing to "
                f"decide; use allocation uniform (--allocation uniform), or one of {', '.join(SOLVERS)}"
            )
        if self.budget != "uniform":
            raise SettingsError(
                f"the pattern {self.pattern} prunes every layer alike, so {self.budget} would have nothing to decide; "
                "use budget uniform (--budget uniform)"
            )

    @property
    def is_optimal(self) -> bool:
        """Return whether rows or layers are balanced by what errors cost."""
        return "optimal" in (self.allocation, self.budget) or self.allocation == "solved"

    @property
    def solves(self) -> bool:
        """Return whether the mask and the kept weights are chosen at once."""
        return self.allocation in SOLVERS

    @property
    def changes_weights(self) -> bool:
        """Return whether kept weights are not left as they were."""
        return self.refit or self.solves

    @property
    def needs_dense_text(self) -> bool:
        """Return whether weights are made to meet the outputs of the dense model, on inputs that are recalculated."""
        return self.allocation == "solved" or (self.refit and not self.solves)

    @property
    def needs_sensitivity(self) -> bool:
        """Return whether the rows' Fisher sensitivity decides anything."""
        return self.is_optimal and self.row_weights == "fisher"

    @property
    def needs_no_vectors(self) -> bool:
        """Return whether no input vectors are needed, only scores."""
        by_scores = self.allocation in ("uniform", "variant", "layer")
        return (by_scores or self.solves) and self.budget != "optimal"

    @property
    def needs_no_inputs(self) -> bool:
        """Return whether neither the score nor the kept weights depend on what a layer receives."""
        return self.score == "magnitude" and not self.changes_weights

    @property
    def target_sparsity(self) -> float | None:
        """The target that holds: given, or the pattern's; None: the budget file's own."""
        return Pattern.parse(self.pattern).sparsity if self.pattern else self.target

    @property
    def row_cap(self) -> float:
        """The cap on a row's sparsity that holds."""
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
    def of(cls, fields: Mapping[str, object]) -> "PruneSettings":
        """Make settings from fields by their names, as a call, a grid or a file gives them.

        Raises:
            SettingsError: as for the class itself.
        """
        return settings_of(cls, fields)

    @classmethod
    def from_json(cls, content: dict) -> "PruneSettings":
        """Read the settings of a run.

        Raises:
            SettingsError: a value of the wrong type, or names that this version does not know.
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
