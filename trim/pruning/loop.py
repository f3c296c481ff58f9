"""The one loop over blocks.

With the previous blocks pruned and this block still dense, capture the inputs of its layers, prune them, and pass the
pruned outputs on to the next block. All methods use this loop: they differ in how one layer is pruned (`layer.py`), and
in the budgets of the layers, which are planned before.
"""

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from trim.calibration.inputs import MIN_TOKENS, LayerInputs
from trim.calibration.layers import linear_layers, require_finite
from trim.calibration.text_pass import DensePass, TextPass
from trim.errors import NotEnoughMemoryError
from trim.methods.budgets import Budgets
from trim.models.experts import RoutedLinear
from trim.names import block_index, counted
from trim.progress import Meter
from trim.pruning.background import Records, pruning_workers, writing
from trim.pruning.events import Listener, Note
from trim.pruning.layer import Method, group_layers, prune_layers, should_overlap
from trim.pruning.tune import tune_records
from trim.runs.folder import Run
from trim.runs.record import LayerRecord
from trim.runs.recording import apply_record
from trim.runs.writer import RunWriter

_PRODUCTS_BYTES = 2**32  # the most that the products of a block's experts may take at once


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
    """Prune every block that the run does not hold yet; apply the masks of those that it holds.

    Args:
        text: a pass through the pruned model, before the first block.
        budgets: how many weights each layer loses; layers without a budget stay dense.
        method: how a layer is pruned.
        writer: writes each block when it is done.
        run: the run as it is on disk.
        recalculate: one of `RECALCULATIONS`, which is captured again after each group of layers that share an input;
            None: nothing is.
        dense: a pass through the dense model, before the first block, where the kept weights are fitted to its outputs;
            inputs are then always recalculated.
        listener: receives the progress.
    """
    model = text.model
    last = max(block_index(name) for name in budgets.totals)  # after it everything stays dense
    model.release(after=last)
    meter = Meter(listener, of=last + 1, done=len(run.blocks))
    in_background = model.device.type == "cuda"
    with (
        pruning_workers(in_background) as workers,
        writing(writer, last, listener, in_background=in_background) as write,
    ):
        pruner = _BlockPruner(text, budgets, method, recalculate, dense, listener, meter, workers)
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
                records, layer_inputs = pruner.prune(index, block, layers)
                if method.tune:
                    records.take(wait=True)
                facts: dict[str, object] = {"propagated": []}
                if dense and (index < last or method.tune):
                    meter.report(f"Block {index}: passing the dense outputs on")
                    facts["dense_propagated"] = dense.propagate(index, block)
                if dense and method.tune:
                    meter.report(f"Block {index}: tuning its kept weights")
                    facts |= tune_records(index, block, records.made, layer_inputs, text, dense, listener)
                if index < last:
                    meter.report(f"Block {index}: passing the pruned outputs on")
                    facts["propagated"] = text.propagate(index, block)
                if text.batch < batch_before:
                    listener(
                        Note(
                            f"block {index}: memory ran out, from here on {counted(text.batch, 'window')} at once"
                        )
                    )
            records.take(wait=True)
            meter.report(f"Block {index}: writing", index + 1)
            write(index, [records.made[name] for name in layers], facts, block_begin)


# The function that makes the records of layers pruned together, and the seconds that pruning them took.
Pruned = tuple[Callable[[], list[LayerRecord]], float]


@dataclass(frozen=True)
class _BlockPruner:
    """Prunes the layers of one block after the other.

    Attributes:
        text, budgets, method, recalculate, dense, listener: as for `prune_blocks`.
        meter: reports the progress.
        workers: make records, and prune two groups of layers at once where that is faster.
    """

    text: TextPass
    budgets: Budgets
    method: Method
    recalculate: str | None
    dense: DensePass | None
    listener: Listener
    meter: Meter
    workers: Executor

    def prune(
        self, index: int, block: nn.Module, layers: dict[str, nn.Linear]
    ) -> tuple[Records, dict[str, LayerInputs]]:
        """Prune layers in place; return their records, and their input vectors if they are to be tuned."""
        records, vectors = Records(index, self.listener), dict[str, LayerInputs]()
        if not layers:
            return records, vectors
        require_finite({name: layer.weight for name, layer in layers.items()})
        few: list[str] = []
        pruned = 0
        for group, layer_inputs in self._captured(index, block, layers):
            chosen = {name: layers[name] for name in group}
            parts = group_layers(chosen, layer_inputs, self.budgets.totals, self.method)
            together = should_overlap(parts, chosen)
            waiting: list[Callable[[], Pruned]] = []
            for part in parts:
                work = functools.partial(self._prune, part, chosen, layer_inputs)
                waiting.append(self.workers.submit(work).result if together else work)
            for part, result in zip(parts, waiting, strict=True):
                more = f" and {len(part) - 1} more of its shape" if len(part) > 1 else ""
                self.meter.report(f"Pruning {part[0]}{more}", index + pruned / len(layers))
                make, seconds = result()
                records.add(self.workers.submit(make), seconds)
                records.take(wait=False)
                pruned += len(part)
                few += [
                    name for name in part if self.method.for_inputs(layer_inputs[name]) is not self.method
                ]
                if self.method.tune:
                    vectors |= {name: replace(layer_inputs[name], text=None, held_out=None) for name in part}
        if few:
            self.listener(
                Note(
                    f"block {index}: {counted(len(few), 'layer')} of experts, such as {few[0]}, received few tokens; "
                    f"of fewer than {MIN_TOKENS} they are pruned by magnitude, of fewer than a layer has inputs no "
                    "weight is solved or refitted; more windows reach more experts"
                )
            )
        return records, vectors

    @torch.inference_mode()
    def _prune(
        self,
        names: list[str],
        layers: dict[str, nn.Linear],
        layer_inputs: dict[str, LayerInputs],
        *,
        again: bool = False,
    ) -> Pruned:
        """Prune layers together.

        Whenever the memory of a GPU does not hold their curves, the next block's weights are released, and the group is
        halved. A single layer has a second try without the next block: `again`.
        """
        begin, chosen, model = time.perf_counter(), {name: layers[name] for name in names}, self.text.model
        try:
            make = prune_layers(chosen, layer_inputs, self.budgets.totals, self.method, self.listener)
        except NotEnoughMemoryError:
            if len(names) == 1 and (again or not model.reads_ahead):
                raise
        else:
            return make, time.perf_counter() - begin
        # Outside of except: the traceback holds the tensors that filled the memory.
        model.release()
        torch.cuda.empty_cache()
        half = len(names) // 2
        makes = [
            self._prune(part, layers, layer_inputs, again=True)[0]
            for part in (names[:half], names[half:])
            if part
        ]
        return lambda: [record for make in makes for record in make()], time.perf_counter() - begin

    def _captured(
        self, index: int, block: nn.Module, layers: dict[str, nn.Linear]
    ) -> Iterator[tuple[list[str], dict[str, LayerInputs]]]:
        """Yield the layers that are pruned together, and their inputs after the previous ones were pruned."""
        text, dense, products = self.text, self.dense, self.method.products(self.text.calibration)
        with_experts = any(isinstance(layer, RoutedLinear) for layer in layers.values())
        by_group = self.recalculate is not None or dense is not None
        groups = text.input_groups(index, block, layers) if by_group else [list(layers)]
        if products is not None:
            groups = [part for group in groups for part in _in_memory(group, layers)]
        layer_inputs: dict[str, LayerInputs] = {}
        norms: dict[str, Tensor] = {}  # of the dense block, if only input vectors are captured again
        if self.recalculate == "vectors" and dense is None:
            self.meter.report(f"Block {index}: reading the calibration text")
            layer_inputs = text.capture(index, block, layers, None if with_experts else products)
            norms = {name: inputs.input_norm for name, inputs in layer_inputs.items()}
        for group in groups:
            # The inputs of the first group are captured already: no layer of the block is pruned yet.
            if not norms or group != groups[0] or (with_experts and products is not None):
                of_group = f" for {', '.join(group[:6])}{', …' * (len(group) > 6)}" if by_group else ""
                self.meter.report(f"Block {index}: reading the calibration text{of_group}")
                chosen = {name: layers[name] for name in group}
                writer = None
                if dense and products and products.stream and len(group) == 1:
                    writer = text.residual_writer(index, block, group[0])
                dense_batches = dense.dense_batches(index, block, chosen, writer) if dense else None
                layer_inputs = text.capture(index, block, chosen, products, dense_batches, writer)
            if norms:
                layer_inputs = {name: replace(layer_inputs[name], input_norm=norms[name]) for name in group}
            yield group, layer_inputs


def _in_memory(group: list[str], layers: dict[str, nn.Linear]) -> list[list[str]]:
    """Split a group between experts if the products of all its inputs would take too much memory."""
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
