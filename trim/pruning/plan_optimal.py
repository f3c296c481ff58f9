"""The sensitivities and prices that the optimal method needs before the block loop.

A price is the increase of a layer's error per pruned weight. At the optimum it is the same in all layers.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from trim.cache import cached, entry_path
from trim.calibration.capture import LayerSample
from trim.calibration.inputs import LayerInputs
from trim.calibration.sensitivity import cached_sensitivity, row_sensitivity
from trim.files import write_atomically
from trim.methods.budgets import Budgets
from trim.methods.counts import largest_count
from trim.methods.optimal import (
    BINS_PER_OCTAVE,
    PriceSummary,
    halfway_totals,
    lower_hull,
    price_summary,
    shared_totals,
)
from trim.models.tensor_files import weights_key
from trim.pruning.layer import memory_for_curves
from trim.pruning.plan_inputs import PlanInputs

SENSITIVITY_FILE = "sensitivity.safetensors"  # in the run folder while the run is not complete


def load_sensitivity(file: Path) -> dict[str, Tensor] | None:
    """Load the sensitivity with which a run began; None: it was not saved yet.

    A resumed run must not measure it again: a gradient may differ in its last bit.
    """
    try:
        return load(file.read_bytes())
    except (OSError, SafetensorError):
        return None


def save_sensitivity(file: Path, sensitivity: Mapping[str, Tensor]) -> None:
    """Save the sensitivity with which a run begins."""
    write_atomically(file, save(dict(sensitivity)))


def plan_sensitivity(plan_inputs: PlanInputs) -> dict[str, Tensor]:
    """Measure each layer's row weights f, (D,) float32.

    The backward pass runs each block again. For optimal budgets the prices are computed there too, from the layers'
    inputs, and cached, so that `optimal_budgets` needs no separate pass. Only the first
    `settings.sensitivity_windows` windows of the text are read.
    """
    plan_inputs = _first_windows(plan_inputs)
    model = plan_inputs.model
    summaries: dict[str, PriceSummary] = {}

    def visit(name: str, layer: nn.Linear, layer_inputs: LayerInputs, weights: Tensor) -> None:
        summaries[name] = _price(name, layer, layer_inputs, plan_inputs, weights)

    def measure() -> dict[str, Tensor]:
        with model.keeping():  # the backward pass and the block loop read the same blocks again
            return row_sensitivity(
                model,
                plan_inputs.calibration,
                batch=plan_inputs.batch,
                folder=plan_inputs.folder,
                activation_bytes=plan_inputs.activation_bytes,
                progress=plan_inputs.listener,
                visited=plan_inputs.shapes if plan_inputs.settings.budget == "optimal" else (),
                visit=visit,
            )

    sensitivity = cached_sensitivity(weights_key(model.files), model, plan_inputs.calibration, measure)
    if summaries:
        _cached_prices(_price_file(plan_inputs, sensitivity), lambda: summaries)
    return sensitivity


def _first_windows(plan_inputs: PlanInputs) -> PlanInputs:
    """Limit the text to the windows from which sensitivities and prices are computed."""
    return replace(
        plan_inputs, calibration=plan_inputs.calibration.first(plan_inputs.settings.sensitivity_windows)
    )


def optimal_budgets(
    plan_inputs: PlanInputs, target: float, sensitivity: Mapping[str, Tensor] | None
) -> Budgets:
    """Return how many weights each layer loses if all layers have the same price, from the dense model's curves.

    Where the kept weights are solved, the budgets are half-way between these and uniform ones (`halfway_totals`).

    Args:
        plan_inputs: the run; only the first `settings.sensitivity_windows` windows of its text are read.
        target: the model's sparsity.
        sensitivity: the layers' row weights; None: all rows have the same weight.

    Raises:
        SparsityError: the target is out of reach under the cap.
        NonFiniteError: a weight or activation is NaN or infinite; the message names the layer.
    """
    plan_inputs, shapes = _first_windows(plan_inputs), plan_inputs.shapes
    summaries = _cached_prices(
        _price_file(plan_inputs, sensitivity), lambda: _prices(plan_inputs, sensitivity)
    )
    sizes = {name: rows * columns for name, (rows, columns) in shapes.items()}
    # Experts that received too few tokens have no price, and are as sparse as the model.
    few = {name: round(target * sizes[name]) for name in shapes if not len(summaries[name].bins)}
    total = round(target * sum(sizes.values())) - sum(few.values())
    totals = few | shared_totals({name: summaries[name] for name in shapes if name not in few}, total)
    if plan_inputs.settings.allocation == "solved":
        totals = halfway_totals(totals, sizes)
    return Budgets.exact("optimal", totals, shapes)


def _prices(plan_inputs: PlanInputs, sensitivity: Mapping[str, Tensor] | None) -> dict[str, PriceSummary]:
    """Compute the prices of each layer of the dense model; they do not depend on the target."""
    summaries: dict[str, PriceSummary] = {}

    def visit(layers: dict[str, nn.Linear], layer_inputs: dict[str, LayerInputs]) -> None:
        for name, layer in layers.items():
            weights = sensitivity[name] if sensitivity else None
            summaries[name] = _price(name, layer, layer_inputs[name], plan_inputs, weights)

    plan_inputs.visit_blocks(visit)
    return summaries


def _price(
    name: str,
    layer: nn.Linear,
    layer_inputs: LayerInputs,
    plan_inputs: PlanInputs,
    sensitivity: Tensor | None,
) -> PriceSummary:
    """Compute the prices of one layer from its input; an expert that received too few tokens has none.

    An expert's errors are sums over fewer vectors than those of other layers, and are scaled to the same number. A
    sensitivity is a sum over the expert's own tokens; without one, its errors are scaled by its share of the tokens.
    """
    if layer_inputs.too_few_tokens:
        return PriceSummary(np.empty(0, np.int64), np.empty(0, np.int64))
    settings, calibration = plan_inputs.settings, plan_inputs.calibration
    if layer_inputs.tokens is not None:
        weight = calibration.positions.numel() / layer_inputs.inputs.shape[1]
        if sensitivity is None:
            sensitivity = torch.full(layer.weight.shape[:1], layer_inputs.tokens / calibration.real_tokens)
        sensitivity = sensitivity * weight
    with memory_for_curves(name, layer.weight, layer_inputs):
        sample = LayerSample(name, layer.weight, layer_inputs.inputs, layer_inputs.input_norm)
        curves = sample.scored(settings.score).curves
        hull = lower_hull(curves.error, largest_count(curves.columns, settings.row_cap))
        return price_summary(hull, sensitivity)


def _price_file(plan_inputs: PlanInputs, sensitivity: Mapping[str, Tensor] | None) -> Path:
    """Return the cache file of the layers' prices.

    On a GPU, prices from the gradient's pass and from a separate pass may differ by rounding, because attention may
    run other kernels under gradients. The cache holds those that were computed first.
    """
    model, calibration, settings = plan_inputs.model, plan_inputs.calibration, plan_inputs.settings
    key = {
        "prices": [BINS_PER_OCTAVE, settings.score, settings.row_cap],
        "sensitivity": hashlib.sha256(save(dict(sensitivity))).hexdigest() if sensitivity else None,
        "layers": list(plan_inputs.shapes),
        "model": weights_key(model.files),
        "text": [calibration.sha256, calibration.positions.tolist()],
        "compute": [
            str(model.device),
            str(model.dtype),
            plan_inputs.batch,
            torch.__version__,
            transformers.__version__,
        ],
    }
    return entry_path("budgets", key, ".safetensors")


def _cached_prices(path: Path, measure: Callable[[], dict[str, PriceSummary]]) -> dict[str, PriceSummary]:
    """Return the layers' prices from the cache, or measure and cache them."""

    def parse(content: bytes) -> dict[str, PriceSummary]:
        return {name: PriceSummary(*pair.numpy()) for name, pair in load(content).items()}

    def pack(summaries: dict[str, PriceSummary]) -> bytes:
        return save(
            {name: torch.from_numpy(np.stack([made.bins, made.weights])) for name, made in summaries.items()}
        )

    return cached(path, measure, parse=parse, pack=pack)
