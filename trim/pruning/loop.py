"""The one loop over blocks.

With the previous blocks pruned and this block still dense, capture what its layers receive; score, allocate, mask; hand
the pruned outputs to the next block.

Every method goes through here; methods differ in how a layer's weights are scored and allocated, and in the budgets
that each layer is given beforehand.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from trim.calibration.calibration import Calibration
from trim.calibration.inputs import MIN_TOKENS, LayerInputs, ProductsRequest, linear_layers, require_finite
from trim.calibration.text_pass import DensePass, TextPass
from trim.devices import memory_errors_named
from trim.methods.allocations import Allocation, MaskRetained, allocate_pattern
from trim.methods.budgets import Budgets
from trim.methods.choices import ALLOCATIONS, SCORES, SOLVERS
from trim.methods.least_squares import TextProducts
from trim.methods.masks import apply_mask, keep_mask
from trim.methods.pattern import Pattern
from trim.methods.refit import refit
from trim.methods.retention import RetentionCurves, retention_curves
from trim.methods.search_settings import SearchSettings
from trim.models.experts import RoutedLinear
from trim.names import block_of
from trim.progress import Meter
from trim.pruning.events import BlockDone, LayerPruned, Listener, Note
from trim.pruning.tune import tune_records
from trim.runs.folder import Run
from trim.runs.record import LayerRecord
from trim.runs.recording import apply_record, as_stored, layer_record, weight_change
from trim.runs.writer import RunWriter

_PRODUCTS_BYTES = 2**32  # that the products of a block's experts may take at once


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
            return ProductsRequest(held_out=calibration.held_out if self.tune else 0)
        return ProductsRequest(held_out=calibration.held_out) if self.refit else None

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
        total: how many of its weights shall go.
        method: how.
        listener: is called with what a user should know of it.

    Raises:
        NonFiniteError: a weight or activation is NaN or infinite.
        NotEnoughMemoryError: its curves do not fit.
    """
    weight, method = layer.weight, method.of(received)
    if not received.inputs.shape[1]:  # no token reaches it, and its rows have no output
        received = replace(received, inputs=received.input_norm[:, None])
    with memory_for_curves(name, weight, received):
        score = layer_score(weight, received.input_norm, method.score)
        curves = retention_curves(weight, received.inputs, score, name=name)
        sensitivity = method.sensitivity[name].to(score.device) if method.sensitivity else None
        solved = change = None
        if total and received.text is not None and method.allocation in SOLVERS:
            allocation, solved = _solve(name, curves, received.text, total, method, sensitivity, listener)
        else:
            allocation = _allocate(curves, score, total, method, sensitivity)
        keep = keep_mask(curves.ranks, allocation.counts) if allocation.keep is None else allocation.keep
        if total and method.refit and solved is None:
            solved = _refit(name, weight, keep, received, method.tune, listener)
        if solved is not None:
            aimed_at = received.inputs if received.dense_inputs is None else received.dense_inputs
            change = weight_change(weight, keep, solved, received.inputs, aimed_at)
        record = layer_record(
            name,
            curves,
            score,
            allocation.counts,
            budget=total / weight.numel(),
            allocation="pattern"
            if method.pattern and method.allocation not in SOLVERS
            else method.allocation,
            score_name=method.score,
            search=allocation.search,
            quality_measure=method.layer_quality,
            retained=allocation.retained,
            keep=keep,
            sensitivity=sensitivity,
            change=change,
            tokens=received.tokens,
        )
    apply_mask(weight, keep, None if change is None else change.weights)
    return record


def _solve(
    name: str,
    curves: RetentionCurves,
    text: TextProducts,
    total: int,
    method: Method,
    sensitivity: Tensor | None,
    listener: Listener,
) -> tuple[Allocation, Tensor]:
    """Choose a layer's mask and its kept weights at once, (D, N) float16."""
    solution = SOLVERS[method.allocation](
        curves.captured_weight, text, total, sensitivity=sensitivity, pattern=method.pattern
    )
    if solution.diverged:
        listener(
            Note(
                f"{name}: the search for its mask diverged; the weights that are largest are refitted instead"
            )
        )
    solved = as_stored(name, solution.weight)
    retained = MaskRetained(curves, solution.keep, solved.float())
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


def layer_score(weight: Tensor, input_norm: Tensor, score: str) -> Tensor:
    """Score the importance of each weight, (D, N) float32."""
    return SCORES[score](weight, input_norm)


def _allocate(
    curves: RetentionCurves,
    score: Tensor,
    total: int,
    method: Method,
    sensitivity: Tensor | None,
) -> Allocation:
    if total == 0:
        return Allocation(torch.zeros(curves.rows, dtype=torch.int64, device=score.device))
    if method.pattern is not None:
        return allocate_pattern(curves, score, method.pattern)
    settings = method.search_settings(total / score.numel())
    return ALLOCATIONS[method.allocation](curves, score, total, settings, sensitivity)


def prune_blocks(
    text: TextPass,
    budgets: Budgets,
    method: Method,
    writer: RunWriter,
    run: Run,
    *,
    recalculate: str | None,
    dense: DensePass | None,
    listener: Listener,
) -> None:
    """Prune every block that the run does not hold yet; those that it holds are masked and passed through.

    Args:
        text: embedded, before the first block.
        budgets: how many weights each layer loses; layers without a budget stay dense.
        method: how a layer is pruned.
        writer: takes each block as it is done.
        run: as the run is now.
        recalculate: what is captured again after each group of layers that share an input, of `RECALCULATIONS`; None:
            nothing.
        dense: the text before the first block of the dense model, where the kept weights are refitted to it;
            inputs are recalculated then too.
        listener: receives the progress.
    """
    model = text.model
    last = max(block_of(name) for name in budgets.totals)  # after it everything stays dense
    model.forget(after=last)
    meter = Meter(listener, of=last + 1, done=len(run.blocks))
    with _writing(writer, last, listener, in_background=model.device.type == "cuda") as write:
        for index in range(last + 1):
            block_begin, batch_before = time.perf_counter(), text.batch
            entry = run.manifest["blocks"].get(str(index))
            meter.report(
                f"Block {index}: {'applying its finished masks' if entry else 'reading its weights'}"
            )
            with contextlib.ExitStack() as stack:
                block = stack.enter_context(model.block(index))
                layers = linear_layers(block, index, budgets.totals)
                if dense:
                    stack.enter_context(dense.block(layers.values()))
                if entry:
                    for name, layer in layers.items():
                        apply_record(layer.weight, run.layer(name))
                    if index < last:
                        text.propagate(index, block, entry["propagated"])
                        if dense:
                            dense.propagate(index, block, entry["dense_propagated"])
                    continue
                records, received = _prune_block(
                    text, index, block, layers, budgets, method, recalculate, dense, listener, meter
                )
                facts: dict[str, object] = {"propagated": []}
                if dense and (index < last or method.tune):
                    meter.report(f"Block {index}: passing the dense outputs on")
                    facts["dense_propagated"] = dense.propagate(index, block)
                if dense and method.tune:
                    meter.report(f"Block {index}: tuning its kept weights")
                    facts |= tune_records(index, block, records, received, text, dense, listener)
                if index < last:
                    meter.report(f"Block {index}: passing the pruned outputs on")
                    facts["propagated"] = text.propagate(index, block)
                if text.batch < batch_before:
                    listener(
                        Note(f"block {index}: memory ran out, from here on {text.batch} windows at once")
                    )
            meter.report(f"Block {index}: writing", index + 1)
            write(index, [records[name] for name in layers], facts, block_begin)


Write = Callable[[int, list[LayerRecord], dict[str, object], float], None]


@contextlib.contextmanager
def _writing(writer: RunWriter, last: int, listener: Listener, *, in_background: bool) -> Iterator[Write]:
    """Yield a function that writes a block; when the `with` block ends, what it was given is on disk.

    `in_background`: it returns before the block is on disk, and reports to the listener when the next one comes.
    """
    under_way: list[Future[BlockDone]] = []

    def commit(
        index: int, records: list[LayerRecord], facts: dict[str, object], block_begin: float
    ) -> BlockDone:
        size = writer.write_block(index, records, **facts)
        return BlockDone(index, last + 1, size, time.perf_counter() - block_begin)

    def finish() -> None:
        while under_way:
            listener(under_way.pop().result())

    def write(index: int, records: list[LayerRecord], facts: dict[str, object], block_begin: float) -> None:
        finish()
        under_way.append(thread.submit(commit, index, records, facts, block_begin))
        if not in_background:
            finish()

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="trim-write") as thread:
        yield write
        finish()


def _prune_block(
    text: TextPass,
    index: int,
    block: nn.Module,
    layers: dict[str, nn.Linear],
    budgets: Budgets,
    method: Method,
    recalculate: str | None,
    dense: DensePass | None,
    listener: Listener,
    meter: Meter,
) -> tuple[dict[str, LayerRecord], dict[str, LayerInputs]]:
    """Prune the layers of one block in place; returns their records, and the vectors that they received."""
    records: dict[str, LayerRecord] = {}
    vectors: dict[str, LayerInputs] = {}
    if not layers:
        return records, vectors
    require_finite({name: layer.weight for name, layer in layers.items()})
    groups = [list(layers)]
    with_experts = any(isinstance(layer, RoutedLinear) for layer in layers.values())
    by_group = recalculate is not None or dense is not None
    if by_group:
        groups = text.input_groups(index, block, layers)
    products = method.products(text.calibration)
    if products is not None:
        groups = [part for group in groups for part in _in_memory(group, layers)]
    few: list[str] = []
    received: dict[str, LayerInputs] = {}
    norms: dict[str, Tensor] = {}
    if recalculate == "vectors" and dense is None:
        meter.report(f"Block {index}: reading the calibration text")
        received = text.capture(index, block, layers, None if with_experts else products)
        norms = {name: inputs.input_norm for name, inputs in received.items()}
    for group in groups:
        # Nothing of the block is pruned before its first group.
        if not norms or group != groups[0] or (with_experts and products is not None):
            of_group = f" for {', '.join(group[:6])}{', …' * (len(group) > 6)}" if by_group else ""
            meter.report(f"Block {index}: reading the calibration text{of_group}")
            chosen = {name: layers[name] for name in group}
            dense_inputs = dense.receives(index, block, chosen) if dense else None
            received = text.capture(index, block, chosen, products, dense_inputs)
        if norms:
            received = {name: replace(received[name], input_norm=norms[name]) for name in group}
        for name in group:
            begin = time.perf_counter()
            meter.report(f"Pruning {name}", index + len(records) / len(layers))
            record = prune_layer(name, layers[name], received[name], budgets.totals[name], method, listener)
            records[name] = record
            if method.of(received[name]) is not method:
                few.append(name)
            vectors[name] = replace(received[name], text=None, held_out=None)
            listener(
                LayerPruned(
                    name,
                    index,
                    record.sparsity,
                    record.uniform_quality,
                    record.realised_quality,
                    record.search.learning_rate if record.search else None,
                    len(record.search.tried) if record.search else 0,
                    time.perf_counter() - begin,
                )
            )
    if few:
        listener(
            Note(
                f"block {index}: {len(few)} layers of experts, such as {few[0]}, received few tokens; of fewer than "
                f"{MIN_TOKENS} they are pruned by magnitude, of fewer than a layer has inputs no weight is solved "
                "or refitted; more windows reach more experts"
            )
        )
    return records, vectors


def _in_memory(group: list[str], layers: dict[str, nn.Linear]) -> list[list[str]]:
    """Split a group between experts where the products of all its inputs would take too much memory."""
    parts: list[list[str]] = [[]]
    taken, expert = 0, ""
    for name in group:
        layer, own = layers[name], name.rpartition(".")[0]
        if isinstance(layer, RoutedLinear) and own != expert and taken > _PRODUCTS_BYTES:
            parts.append([])
            taken = 0
        parts[-1].append(name)
        taken, expert = taken + 4 * 4 * layer.in_features**2, own
    return parts
