"""Prune one layer, or several of one shape together: score, allocate or solve, refit, mask, and record."""

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from trim.calibration.calibration import Calibration
from trim.calibration.capture import LayerSample, scored_layers
from trim.calibration.inputs import LayerInputs
from trim.calibration.products import ProductsRequest
from trim.devices import has_kernels, memory_errors_named
from trim.kernels.padding import padded_vectors
from trim.methods.allocations import Allocation, MaskRetained, ScoredLayer, allocate_pattern, join_allocations
from trim.methods.choices import ALLOCATIONS, ALLOCATIONS_OF_LAYERS, DIRECT_QUALITIES, SOLVERS
from trim.methods.least_squares import TextProducts
from trim.methods.masks import apply_masks
from trim.methods.pattern import Pattern
from trim.methods.refit import refit
from trim.methods.search_settings import SearchSettings
from trim.pruning.events import Listener, Note
from trim.runs.record import LayerRecord
from trim.runs.recording import deferred_records
from trim.runs.weight_changes import round_to_float16, weight_change

GROUP_WEIGHTS = 2**27  # the most weights of a group; their curves and order take 2 GB


@dataclass(frozen=True)
class Method:
    """How a layer is pruned, once its budget is known.

    Attributes:
        allocation: a name from `ALLOCATIONS` or `SOLVERS`.
        score: "wanda" or "magnitude".
        pattern: an n:m pattern instead of an allocation by rows; None: no pattern.
        layer_quality: which layer quality is recorded.
        search_settings: returns the search settings of a layer with a given sparsity.
        refit: whether the kept weights are refitted, unless a solver computes them.
        tune: whether the kept weights of a block are then tuned together.
        sensitivity: each layer's row weights (D,), for optimal allocations; None: all rows have the same weight.
    """

    allocation: str
    score: str
    pattern: Pattern | None
    layer_quality: str
    search_settings: Callable[[float], SearchSettings]
    refit: bool = False
    tune: bool = False
    sensitivity: Mapping[str, Tensor] | None = None

    def products(self, calibration: Calibration) -> ProductsRequest | None:
        """Return which products of a text are needed."""
        if self.allocation in SOLVERS:
            return ProductsRequest(
                calibration.held_out if self.tune else 0, stream=self.allocation == "solved"
            )
        return ProductsRequest(held_out=calibration.held_out) if self.refit else None

    @property
    def recorded_allocation(self) -> str:
        """The name of the allocation in records: "pattern" for a pattern, unless a solver chooses within it."""
        return "pattern" if self.pattern and self.allocation not in SOLVERS else self.allocation

    def for_inputs(self, layer_inputs: LayerInputs) -> "Method":
        """Return the method for a layer with these inputs: another one only for an expert that received few tokens.

        With fewer than `MIN_TOKENS` tokens, each row loses the same number of its smallest weights. With fewer tokens
        than the layer has inputs, the kept weights are not changed, and instead of a solver each row loses the same
        number of its lowest scores.
        """
        if layer_inputs.too_few_tokens:
            return replace(self, score="magnitude", allocation="uniform", refit=False, sensitivity=None)
        if (
            layer_inputs.tokens is None
            or layer_inputs.tokens >= len(layer_inputs.input_norm)
            or layer_inputs.text is None
        ):
            return self
        allocation = "uniform" if self.allocation in SOLVERS else self.allocation
        return replace(self, allocation=allocation, refit=False)


def group_layers(
    layers: Mapping[str, nn.Linear],
    layer_inputs: Mapping[str, LayerInputs],
    totals: Mapping[str, int],
    method: Method,
) -> list[list[str]]:
    """Split layers into groups that `prune_layers` prunes together, in order of their first layers.

    On a GPU, where launches take most of the time of a small layer, a group holds layers of one shape with the same
    method and the same padded number of input vectors, up to `GROUP_WEIGHTS` weights. On a CPU each layer is a group.
    """
    groups: dict[object, list[str]] = {}
    for name, layer in layers.items():
        own, shape, inputs = (
            method.for_inputs(layer_inputs[name]),
            layer.weight.shape,
            layer_inputs[name].inputs,
        )
        alone = (
            not has_kernels(layer.weight.device)
            or totals[name] == 0
            or own.allocation not in ALLOCATIONS_OF_LAYERS
            or own.pattern is not None
            or own.layer_quality in DIRECT_QUALITIES
            or layer_inputs[name].text is not None
        )
        padded = 0 if alone or not inputs.shape[1] else padded_vectors(inputs.shape[1], inputs.dtype)
        key = name if alone else (own.allocation, own.score, shape, padded)
        groups.setdefault(key, []).append(name)
    parts = []
    for group in groups.values():
        most = max(1, GROUP_WEIGHTS // layers[group[0]].weight.numel())
        size = math.ceil(len(group) / math.ceil(len(group) / most))
        parts += [group[start : start + size] for start in range(0, len(group), size)]
    return parts


def should_overlap(groups: Sequence[Sequence[str]], layers: Mapping[str, nn.Linear]) -> bool:
    """Return whether to prune two groups at once: the GPU computes one while the host reads the results of the other.

    A single group of larger layers keeps a GPU busy, and its curves fill the memory.
    """
    together = any(len(group) > 1 for group in groups)
    return together and all(len(group) * layers[group[0]].weight.numel() <= GROUP_WEIGHTS for group in groups)


def prune_layers(
    layers: Mapping[str, nn.Linear],
    layer_inputs: Mapping[str, LayerInputs],
    totals: Mapping[str, int],
    method: Method,
    listener: Listener,
) -> Callable[[], list[LayerRecord]]:
    """Prune one layer, or a group of `group_layers`, in place.

    Args:
        layers: by names such as "15.mlp.gate_proj", with their dense weights, on the device.
        layer_inputs: their inputs on the calibration text.
        totals: how many weights each layer loses.
        method: how layers are pruned.
        listener: called with notes for the user.

    Returns:
        A function that makes the layers' records, as `deferred_records` returns it.

    Raises:
        NonFiniteError: a weight or activation is NaN or infinite.
        NotEnoughMemoryError: the curves do not fit.
    """
    names = list(layers)
    first, weights, inputs = names[0], [layer.weight for layer in layers.values()], layer_inputs[names[0]]
    method = method.for_inputs(inputs)
    samples = [_sample(name, layer.weight, layer_inputs[name]) for name, layer in layers.items()]
    with memory_for_curves(first, weights[0], inputs):
        sensitivities = [method.sensitivity[name] for name in names] if method.sensitivity else None
        scored = scored_layers(samples, method.score, sensitivities)
        solved = change = None
        if totals[first] and inputs.text is not None and method.allocation in SOLVERS:
            allocation, solved = _solve(first, scored, inputs.text, totals[first], method, listener)
            allocations = [allocation]
        else:
            allocations = _allocate(scored, [totals[name] for name in names], method)
        keep = join_allocations(allocations).mask(scored.curves)
        if totals[first] and method.refit and solved is None:
            solved = _refit(first, weights[0], keep, inputs, method.tune, listener)
        if solved is not None:
            change = weight_change(
                weights[0], keep, solved, samples[0].inputs, inputs.target_outputs(weights[0])
            )
        records = deferred_records(
            names,
            scored,
            allocations,
            budgets=[totals[name] / layer.weight.numel() for name, layer in layers.items()],
            allocation=method.recorded_allocation,
            score_name=method.score,
            quality_measure=method.layer_quality,
            keep=keep,
            change=change,
            tokens=[layer_inputs[name].tokens for name in names],
        )
        apply_masks(
            weights, keep.view(len(names), *weights[0].shape), None if change is None else change.weights
        )
    return records


def _sample(name: str, weight: Tensor, layer_inputs: LayerInputs) -> LayerSample:
    vectors = layer_inputs.inputs
    if not vectors.shape[1]:  # an expert that receives no token: its rows have no output
        vectors = layer_inputs.input_norm[:, None]
    return LayerSample(name, weight, vectors, layer_inputs.input_norm)


def _solve(
    name: str, layer: ScoredLayer, text: TextProducts, total: int, method: Method, listener: Listener
) -> tuple[Allocation, Tensor]:
    """Solve for a layer's mask and its kept weights together, (D, N) float16."""
    weight, sensitivity = layer.curves.captured_weight, layer.sensitivity
    solution = SOLVERS[method.allocation](
        weight, text, total, sensitivity=sensitivity, pattern=method.pattern
    )
    if solution.diverged:
        listener(Note(f"{name}: the search for its mask diverged; its largest weights are refitted instead"))
    solved = round_to_float16(name, solution.weight)
    retained = MaskRetained(layer.curves, solution.keep, solved.float())
    return Allocation((~solution.keep).sum(dim=1), solution.keep, retained=retained), solved


def _refit(
    name: str, weight: Tensor, keep: Tensor, layer_inputs: LayerInputs, tune: bool, listener: Listener
) -> Tensor | None:
    """Refit the kept weights, (D, N) float16; None where the refit has the larger error on the windows held out.

    `tune`: tuning is judged on those windows too, so the refitted weights must not see them.
    """
    text, held_out = layer_inputs.text, layer_inputs.held_out
    if text is None or held_out is None:  # an expert may receive no token of the windows held out
        return None
    dense = weight.float()
    drift = held_out.drift(dense)
    masked, fitted = (
        held_out.objective(dense, each, drift).sum() for each in (dense * keep, refit(weight, keep, text))
    )
    if not bool(fitted < masked):
        listener(
            Note(f"{name}: refitted weights lose more on the windows held out; its weights stay as they are")
        )
        return None
    return round_to_float16(name, refit(weight, keep, text if tune else text + held_out))


def memory_for_curves(
    name: str, weight: Tensor, layer_inputs: LayerInputs
) -> contextlib.AbstractContextManager[None]:
    """Raise NotEnoughMemoryError with advice if the curves of a layer do not fit into memory."""
    (rows, columns), vectors = weight.shape, layer_inputs.inputs.shape[1]
    return memory_errors_named(
        f"{name} ({rows:,} × {columns:,}, {vectors:,} input vectors) does not fit into memory with its curves; keep "
        "fewer input vectors (--vectors, --windows) or use another --device"
        + ("" if layer_inputs.text is None else ", or leave --refit or solved weights out")
    )


def _allocate(layers: ScoredLayer, totals: Sequence[int], method: Method) -> list[Allocation]:
    """Return the allocation of each layer; `totals`: the number of pruned weights of each."""
    total = totals[0]
    if total == 0:
        return [Allocation(torch.zeros(layers.curves.rows, dtype=torch.int64, device=layers.score.device))]
    if method.pattern is not None:
        return [allocate_pattern(layers, method.pattern)]
    weights = layers.score.numel() // layers.curves.layers
    settings = [method.search_settings(each / weights) for each in totals]
    if method.allocation in ALLOCATIONS_OF_LAYERS:
        return ALLOCATIONS_OF_LAYERS[method.allocation](layers, totals, settings)
    return [ALLOCATIONS[method.allocation](layers, total, settings[0])]
