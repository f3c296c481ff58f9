"""One layer, pruned: score its weights, allocate or solve, refit, mask, and record what was done."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from trim.calibration.calibration import Calibration
from trim.calibration.capture import LayerSample
from trim.calibration.inputs import LayerInputs
from trim.calibration.products import ProductsRequest
from trim.devices import memory_errors_named
from trim.methods.allocations import Allocation, MaskRetained, ScoredLayer, allocate_pattern
from trim.methods.choices import ALLOCATIONS, SOLVERS
from trim.methods.least_squares import TextProducts
from trim.methods.masks import apply_mask
from trim.methods.pattern import Pattern
from trim.methods.refit import refit
from trim.methods.search_settings import SearchSettings
from trim.pruning.events import Listener, Note
from trim.runs.record import LayerRecord
from trim.runs.recording import as_stored, layer_record, weight_change


@dataclass(frozen=True)
class Method:
    """How a layer is pruned, once its budget is known.

    Attributes:
        allocation: a name from `ALLOCATIONS` or `SOLVERS`.
        score: "wanda" or "magnitude".
        pattern: n:m instead of an allocation by rows; None: none.
        layer_quality: which layer quality is recorded.
        search_settings: a layer's sparsity to the settings of its search.
        refit: whether the kept weights are refitted where the allocation leaves them as they are.
        tune: whether those of a block are then tuned together.
        sensitivity: each layer's row weights (D,) of the optimal allocation; None: all rows weigh alike.
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
        """Return what a record calls the allocation: a pattern leaves nothing to allocate but to solvers."""
        return "pattern" if self.pattern and self.allocation not in SOLVERS else self.allocation

    def of(self, received: LayerInputs) -> "Method":
        """Return how a layer is pruned that received this; another way only for an expert of too few tokens.

        Fewer than `MIN_TOKENS` say little of its inputs: the smallest weights go, the same number from each row.
        Kept weights are solved or refitted from as many tokens as the layer has inputs, at least; of an expert of fewer
        they stay, and where a solver would choose the mask, the lowest scores go, the same number from each row.
        """
        if received.too_few:
            return replace(self, score="magnitude", allocation="uniform", refit=False, sensitivity=None)
        if received.tokens is None or received.tokens >= len(received.input_norm) or received.text is None:
            return self
        allocation = "uniform" if self.allocation in SOLVERS else self.allocation
        return replace(self, allocation=allocation, refit=False)


def prune_layer(
    name: str, layer: nn.Linear, received: LayerInputs, total: int, method: Method, listener: Listener
) -> LayerRecord:
    """Prune one layer in place, and return what was done.

    Args:
        name: such as "15.mlp.gate_proj".
        layer: with its dense weight, on the device.
        received: what it received from the calibration text.
        total: how many of its weights are pruned.
        method: how.
        listener: called with what a user should know of it.

    Raises:
        NonFiniteError: a weight or activation is NaN or infinite.
        NotEnoughMemoryError: its curves do not fit.
    """
    weight, method = layer.weight, method.of(received)
    if not received.inputs.shape[1]:  # no token reaches it, and its rows have no output
        received = replace(received, inputs=received.input_norm[:, None])
    with memory_for_curves(name, weight, received):
        sensitivity = method.sensitivity[name] if method.sensitivity else None
        scored = LayerSample(name, weight, received.inputs, received.input_norm).scored(
            method.score, sensitivity
        )
        solved = change = None
        if total and received.text is not None and method.allocation in SOLVERS:
            allocation, solved = _solve(name, scored, received.text, total, method, listener)
        else:
            allocation = _allocate(scored, total, method)
        keep = allocation.mask(scored.curves)
        if total and method.refit and solved is None:
            solved = _refit(name, weight, keep, received, method.tune, listener)
        if solved is not None:
            aimed_at = received.inputs if received.dense_inputs is None else received.dense_inputs
            change = weight_change(weight, keep, solved, received.inputs, aimed_at)
        record = layer_record(
            name,
            scored,
            allocation.counts,
            budget=total / weight.numel(),
            allocation=method.recorded_allocation,
            score_name=method.score,
            search=allocation.search,
            quality_measure=method.layer_quality,
            retained=allocation.retained,
            keep=keep,
            change=change,
            tokens=received.tokens,
        )
    apply_mask(weight, keep, None if change is None else change.weights)
    return record


def _solve(
    name: str, layer: ScoredLayer, text: TextProducts, total: int, method: Method, listener: Listener
) -> tuple[Allocation, Tensor]:
    """Choose a layer's mask and its kept weights at once, (D, N) float16."""
    weight, sensitivity = layer.curves.captured_weight, layer.sensitivity
    solution = SOLVERS[method.allocation](
        weight, text, total, sensitivity=sensitivity, pattern=method.pattern
    )
    if solution.diverged:
        listener(Note(f"{name}: the search for its mask diverged; its largest weights are refitted instead"))
    solved = as_stored(name, solution.weight)
    retained = MaskRetained(layer.curves, solution.keep, solved.float())
    return Allocation((~solution.keep).sum(dim=1), solution.keep, retained=retained), solved


def _refit(
    name: str, weight: Tensor, keep: Tensor, received: LayerInputs, tune: bool, listener: Listener
) -> Tensor | None:
    """Refit the kept weights, (D, N) float16; None where they lose less as they are, on the windows held out.

    `tune`: those windows will judge once more, so the weights must not see them.
    """
    text, held_out = received.text, received.held_out
    if text is None or held_out is None:  # no token of an expert is in the windows held out
        return None
    dense = weight.float()
    drift = held_out.drift(dense)
    bare, fitted = (
        held_out.objective(dense, each, drift).sum() for each in (dense * keep, refit(weight, keep, text))
    )
    if not bool(fitted < bare):
        listener(
            Note(f"{name}: refitted weights lose more on the windows held out; its weights stay as they are")
        )
        return None
    return as_stored(name, refit(weight, keep, text if tune else text + held_out))


def memory_for_curves(
    name: str, weight: Tensor, received: LayerInputs
) -> contextlib.AbstractContextManager[None]:
    """Say what to do where the curves of a layer do not fit into memory."""
    return memory_errors_named(
        f"{name} ({weight.shape[0]:,} × {weight.shape[1]:,}, {received.inputs.shape[1]:,} input vectors) does not fit "
        "into memory with its curves; keep fewer input vectors (--vectors, --windows) or use another --device"
        + ("" if received.text is None else ", or go without --refit or solved weights")
    )


def _allocate(layer: ScoredLayer, total: int, method: Method) -> Allocation:
    if total == 0:
        return Allocation(torch.zeros(layer.curves.rows, dtype=torch.int64, device=layer.score.device))
    if method.pattern is not None:
        return allocate_pattern(layer, method.pattern)
    settings = method.search_settings(total / layer.score.numel())
    return ALLOCATIONS[method.allocation](layer, total, settings)
