"""The options of a run that choose the model, its sparsity and the method."""

from dataclasses import dataclass

from trim.methods.choices import (
    ALPHA_FITS,
    ALPHA_WIDTH,
    BUDGETS,
    METHODS,
    OWL_MULTIPLE,
    OWL_WIDTH,
    RECALCULATIONS,
    ROW_WEIGHTS,
    SCORES,
    SOLVERS,
)
from trim.methods.pattern import Pattern
from trim.runs.options import option

# Headings above options.
METHOD, BUDGET_METHODS, OPTIMAL = "method", "budget methods", "optimal allocation and budgets"


@dataclass(frozen=True)
class MethodSettings:
    """The options of the model and the method; `PruneSettings` adds those of the text, the search and the machine."""

    model: str = option(
        "demo",
        help='"demo", a Hub id, a folder with safetensors, or a GGUF file',
        label="requested model",
        group="model",
    )
    target: float | None = option(
        None,
        help="model sparsity, such as 0.7: the share of the weights of all chosen layers that is pruned",
        label="Model sparsity target",
        group=METHOD,
        unset="that of the pattern or the budget file",
        unit="%",
        limits=(1, 99),
        metavar="TARGET",
        varies=True,
        affects_time=False,
    )
    allocation: str = option(
        "trim",
        help="how the sparsity of each row of a layer is chosen; some methods change the kept weights too",
        label="Allocation: rows",
        group=METHOD,
        choices=METHODS,
        meanings={
            "trim": "searched row by row, as published",
            "uniform": "the same for every row, plain Wanda",
            "optimal": "the row counts with the least total error",
            "layer": "the lowest scores of the whole layer, in whichever rows, as published for magnitude",
            "variant": "Wanda's variant, each row loses the lowest scores that together make up the same share of its "
            "score",
            "solved": "mask and kept weights solved together, to the outputs of the dense model, rows weighted by the "
            "sensitivity of the loss; loses least",
            "alps": "mask and kept weights solved together, every layer and row independently (ALPS)",
            "sparsegpt": "column by column, the rest of the row compensates for each (SparseGPT)",
        },
        varies=True,
    )
    budget: str = option(
        "uniform",
        help="how the sparsity of each layer is chosen, so that the model reaches its target",
        label="Budget: layers",
        group=METHOD,
        choices=BUDGETS,
        meanings={
            "uniform": "the same for every layer",
            "owl": "blocks with more outliers keep more (OWL)",
            "alphapruning": "by the tail of the spectra of each block's layers (AlphaPruning)",
            "optimal": "by the sensitivity of the loss",
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
        affects_time=False,
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
        affects_time=False,
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
        affects_time=False,
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
        affects_time=False,
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
        affects_time=False,
    )
    row_weights: str = option(
        ROW_WEIGHTS[0],
        help="the weight of an error in a row's output, for optimal allocations and budgets and for solved weights",
        label="Weight of an error in a row",
        group=OPTIMAL,
        choices=ROW_WEIGHTS,
        meanings={
            "fisher": "its cost for the loss: the row's empirical Fisher sensitivity, from a few backward passes",
            "ones": "the same for all rows",
        },
        short="row weights {}",
        idle=lambda settings: not settings.is_optimal,
        varies=True,
    )
    sensitivity_windows: int = option(
        32,
        help="how many of the windows are used to measure sensitivities and prices",
        label="Windows for the sensitivity",
        group=OPTIMAL,
        limits=(1, 4096),
        idle=lambda settings: not settings.needs_sensitivity and settings.budget != "optimal",
    )
    recalculate_inputs: bool = option(
        False,
        help="capture the inputs of a block's later layers again when its earlier ones are pruned (about twice "
        "the time)",
        label="Recalculate inputs",
        group=METHOD,
        short="recalculated inputs",
        mark="recalculated",
        idle=lambda settings: (
            settings.needs_dense_pass or not (settings.needs_vectors or settings.needs_inputs)
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
            or settings.needs_dense_pass
            or not (settings.needs_vectors or settings.needs_inputs)
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
        idle=lambda settings: not settings.needs_dense_pass,
        varies=True,
    )
    layers: tuple[str, ...] = option(
        ("*",),
        help="names or shell patterns of the layers to prune, such as *.mlp.* 3.self_attn.q_proj; others stay dense",
        label="Layers to prune",
        group=METHOD,
        metavar="PATTERN",
    )

    @property
    def is_optimal(self) -> bool:
        """Return whether rows or layers are allocated by the cost of errors."""
        return "optimal" in (self.allocation, self.budget) or self.allocation == "solved"

    @property
    def solves(self) -> bool:
        """Return whether a solver chooses the mask and the kept weights together."""
        return self.allocation in SOLVERS

    @property
    def changes_weights(self) -> bool:
        """Return whether the kept weights change."""
        return self.refit or self.solves

    @property
    def needs_dense_pass(self) -> bool:
        """Return whether the text also passes through the dense model, because kept weights are fitted to its outputs.

        Inputs are then always recalculated.
        """
        return self.allocation == "solved" or (self.refit and not self.solves)

    @property
    def needs_sensitivity(self) -> bool:
        """Return whether the rows' Fisher sensitivity affects the result."""
        return self.is_optimal and self.row_weights == "fisher"

    @property
    def needs_vectors(self) -> bool:
        """Return whether the result depends on the captured input vectors, not only on scores."""
        only_scores = self.allocation in ("uniform", "variant", "layer")
        return not (only_scores or self.solves) or self.budget == "optimal"

    @property
    def needs_inputs(self) -> bool:
        """Return whether the score or the kept weights depend on a layer's inputs."""
        return self.score != "magnitude" or self.changes_weights

    @property
    def target_sparsity(self) -> float | None:
        """The target, or the sparsity of the pattern; None: the budget file sets it."""
        return Pattern.parse(self.pattern).sparsity if self.pattern else self.target
