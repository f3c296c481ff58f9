"""Plan with a budget method how many weights each layer loses, before the block loop begins."""

import math
from pathlib import Path

from torch import Tensor, nn

from trim.cache import cached_numbers
from trim.calibration.inputs import LayerInputs
from trim.calibration.layers import require_finite
from trim.errors import SettingsError
from trim.methods.alphapruning import alpha_budgets, squared_singular_values, tail_exponent
from trim.methods.budgets import Budgets, project_budgets, read_budgets
from trim.methods.choices import SCORES
from trim.methods.owl import outlier_share, owl_budgets
from trim.methods.pattern import Pattern
from trim.models.streamed import StreamedModel
from trim.models.tensor_files import weights_key
from trim.names import block_index, select_layers
from trim.progress import Meter, Progress
from trim.pruning.events import Note
from trim.pruning.plan_inputs import PlanInputs
from trim.pruning.plan_optimal import optimal_budgets


def chosen_layers(patterns: tuple[str, ...], model: StreamedModel) -> dict[str, tuple[int, int]]:
    """Return the layers that match any of some names or shell patterns, in the model's order.

    Routers of experts match only patterns that do not end with a star.

    Raises:
        LayerNotFoundError: a pattern matches nothing; the closest names are listed.
    """
    chosen = select_layers(patterns, model.layers, "the model has no layer that matches", model.routers)
    return {name: model.layers[name] for name in chosen}


def require_pattern(pattern: str | None, shapes: dict[str, tuple[int, int]]) -> None:
    """Require layers of which a pattern divides the rows; None: there is no pattern.

    Raises:
        SettingsError: a layer does not fit the pattern.
    """
    if pattern is None:
        return
    group = Pattern.parse(pattern).group
    for name, (_, columns) in shapes.items():
        if columns % group:
            raise SettingsError(
                f"{name} has rows of {columns} weights, which groups of {group} do not divide; leave it out with "
                "--layers, or choose another pattern"
            )


def plan_budgets(plan_inputs: PlanInputs, sensitivity: dict[str, Tensor] | None = None) -> Budgets:
    """Plan how many weights each layer loses.

    `sensitivity`: each layer's row weights, for optimal budgets; None: all rows have the same weight.

    Raises:
        SettingsError: the target is out of reach.
        NonFiniteError: a weight or activation is NaN or infinite; the message names the layer.
    """
    model, settings, shapes = plan_inputs.model, plan_inputs.settings, plan_inputs.shapes
    plan_inputs.listener(Progress(f"Setting the layers' budgets ({settings.budget})"))
    weights = {name: rows * columns for name, (rows, columns) in shapes.items()}
    requested = read_budgets(Path(settings.budget), shapes) if settings.budget.endswith(".json") else {}
    target = settings.target_sparsity
    if target is None:  # the budget file sets it
        target = sum(requested[name] * weights[name] for name in shapes) / sum(weights.values())
    if settings.pattern:
        pattern = Pattern.parse(settings.pattern)
        totals = {name: rows * pattern.count(columns) for name, (rows, columns) in shapes.items()}
        return Budgets.exact("pattern", totals, shapes)
    if settings.budget == "owl":
        key = {
            "owl_multiple": settings.owl_multiple,
            "layers": list(shapes),
            "model": weights_key(model.files),
            "text": plan_inputs.calibration.sha256,
            "compute": [str(model.device), str(model.dtype), plan_inputs.batch],
        }
        shares = cached_numbers(key, lambda: _outlier_shares(plan_inputs))
        requested = owl_budgets(shares, shapes, target, settings.owl_width)
    elif settings.budget == "alphapruning":
        key = {
            "alpha_fit": settings.alpha_fit,
            "layers": list(shapes),
            "model": weights_key(model.files),
            "compute": [str(model.device)],
        }
        exponents = cached_numbers(key, lambda: _exponents(plan_inputs))
        requested = alpha_budgets(exponents, shapes, target, settings.alpha_width)
    elif settings.budget == "optimal":
        return optimal_budgets(plan_inputs, target, sensitivity)
    elif settings.budget == "uniform":
        requested = dict.fromkeys(shapes, target)
    budgets = project_budgets(requested, shapes, target, settings.row_cap, method=settings.budget)
    if budgets.clipped:
        plan_inputs.listener(
            Note(
                f"{len(budgets.clipped)} of {len(shapes)} layers cannot be as sparse or as dense as {settings.budget} "
                f"requests ({budgets.clipped[0]}, …); the others make up for it, and the model stays at its target"
            )
        )
    return budgets


def _outlier_shares(plan_inputs: PlanInputs) -> list[float]:
    """Measure OWL's outlier share of each block, from one pass of the text through the dense model."""
    shares = []

    def visit(layers: dict[str, nn.Linear], layer_inputs: dict[str, LayerInputs]) -> None:
        # OWL counts outliers of Wanda's score, whichever score the weights are pruned by.
        scores = [
            SCORES["wanda"](layer.weight, layer_inputs[name].input_norm)
            for name, layer in layers.items()
            if not layer_inputs[name].too_few_tokens
        ]
        shares.append(outlier_share(scores, plan_inputs.settings.owl_multiple) if scores else math.nan)

    plan_inputs.visit_blocks(visit)
    return shares


def _exponents(plan_inputs: PlanInputs) -> list[float]:
    """Compute each block's mean tail exponent."""
    means = []
    blocks: dict[int, list[str]] = {}
    for name in plan_inputs.shapes:
        blocks.setdefault(block_index(name), []).append(name)
    meter = Meter(plan_inputs.listener, of=len(blocks))
    for done, (index, names) in enumerate(blocks.items()):
        meter.report(f"Setting the layers' budgets (alphapruning): block {index}", done)
        exponents = []
        for name in names:
            weight = plan_inputs.model.weight(name).to(plan_inputs.model.device)
            require_finite({name: weight})
            exponents.append(tail_exponent(squared_singular_values(weight), plan_inputs.settings.alpha_fit))
        defined = [value for value in exponents if not math.isnan(value)]
        means.append(sum(defined) / len(defined) if defined else math.nan)
    return means
