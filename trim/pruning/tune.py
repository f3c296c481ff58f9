"""Tune the kept weights of a block together, against the output of the dense block.

Solving corrects the error of each layer alone; tuning lets the layers of a block correct each other's. After all of
them are solved, gradient steps (Adam, arXiv 1412.6980) move their kept weights so that the block's output on the pruned
model's inputs approaches the dense block's output on the dense model's inputs. Each token's error is divided by the
size of its dense output, so that a few tokens with huge outputs do not dominate. The last windows of the text are held
out, and the epoch with the smallest error there is kept, so tuning never makes it larger there.
"""

import contextlib
import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trim.calibration.inputs import LayerInputs
from trim.calibration.layers import linear_layers
from trim.calibration.text_pass import DensePass, TextPass
from trim.devices import memory_errors_named
from trim.methods.least_squares import fast_products
from trim.pruning.events import Listener, Note
from trim.runs.record import LayerRecord
from trim.runs.recording import apply_record, with_weights
from trim.runs.weight_changes import round_to_float16

EPOCHS, PATIENCE = 8, 2  # the most epochs, and the number of epochs in a row without a gain that ends tuning
RATE = 0.02  # Adam's learning rate as a share of a layer's typical kept weight; it falls linearly to 0
STEP_TOKENS = 4096  # the most tokens of a step
MIN_STEPS = 16  # the fewest steps of an epoch, unless the text has fewer windows


@dataclass(frozen=True, eq=False)
class Tuned:
    """A block that was tuned.

    Attributes:
        weights: by layer, (D, N) float32, 0 where pruned; empty: tuning brought no gain.
        before, after: the squared error of the block's output over the dense output's, mean over the tokens held out.
    """

    weights: dict[str, Tensor]
    before: float
    after: float


def tune_records(
    index: int,
    block: nn.Module,
    records: dict[str, LayerRecord],
    layer_inputs: Mapping[str, LayerInputs],
    text: TextPass,
    dense: DensePass,
    listener: Listener,
) -> dict[str, list[float]]:
    """Tune a block in place, update its records, and return the facts for its entry in the manifest.

    Args:
        index: the block's index in the model.
        block: with the pruned weights of the records.
        records: its layers' records; those whose weights were changed are replaced.
        layer_inputs: the input vectors of each layer.
        text: the pass through the pruned model, before the block.
        dense: the pass through the dense model, after the block.
        listener: receives the progress.
    """
    keep = {
        name: torch.from_numpy(record.keep()).to(text.model.device)
        for name, record in records.items()
        if record.kept_weights is not None and len(record.kept_weights)
    }
    if not keep:
        return {}
    tuned = tune_block(index, block, keep, text, dense)
    if not tuned.weights:
        listener(
            Note(f"block {index}: tuned weights lose more on the windows held out; they stay as they were")
        )
    for name, layer in linear_layers(block, index, tuned.weights).items():
        changed, vectors = round_to_float16(name, tuned.weights[name]), layer_inputs[name]
        weight = dense.weight(layer)
        records[name] = with_weights(
            records[name], weight, changed, vectors.inputs, vectors.target_outputs(weight)
        )
        apply_record(layer.weight, records[name])
    return {"tuned": [tuned.before, tuned.after]} if math.isfinite(tuned.before) else {}


def tune_block(
    index: int,
    block: nn.Module,
    keep: Mapping[str, Tensor],
    text: TextPass,
    dense: DensePass,
) -> Tuned:
    """Tune the kept weights of some of a block's layers.

    Args:
        index: the block's index in the model.
        block: with its solved weights; it is not changed.
        keep: by layer, (D, N) bool, True where a weight is kept.
        text: as for `tune_records`.
        dense: as for `tune_records`.
    """
    advice = f"block {index} does not fit into memory with the gradients of its weights; go without --tune, or use "
    with (
        memory_errors_named(f"{advice}shorter windows (--length) or another --device"),
        torch.inference_mode(False),  # its tensors could not be part of a graph
        _deterministic_algorithms(),
        fast_products(text.model.device),
    ):
        trained = copy.deepcopy(block).float().requires_grad_(False)
        weights = {name: layer.weight for name, layer in linear_layers(trained, index, keep).items()}
        return _tune(_Error(index, trained, text, dense), weights, keep)


class _Error:
    """The error of a block's output against the dense block's."""

    def __init__(self, index: int, block: nn.Module, text: TextPass, dense: DensePass) -> None:
        self.index, self.block, self.text, self.dense = index, block, text, dense

    def __call__(self, part: slice) -> Tensor:
        """Return the relative squared error on some windows, mean over their real tokens, ()."""
        device = self.text.model.device
        inputs, targets = (
            each.states.read(part, device).clone().float() for each in (self.text, self.dense.text)
        )
        output = self.text.call(self.index, part).for_gradients(torch.float32).replay(self.block, inputs)
        error = (output - targets).square().sum(dim=-1)
        share = error / targets.square().sum(dim=-1).clamp_min(torch.finfo(torch.float32).tiny)
        mask = self.text.calibration.mask
        return share.mean() if mask is None else share[mask[part].to(device)].mean()


def _tune(
    error: _Error,
    weights: Mapping[str, Tensor],
    keep: Mapping[str, Tensor],
) -> Tuned:
    """Train the kept weights in place, and return those of the best epoch."""
    calibration = error.text.calibration
    training_windows = calibration.windows - calibration.held_out
    size = max(1, min(STEP_TOKENS // calibration.length, training_windows // MIN_STEPS))
    training = _parts(0, training_windows, size)
    held_out = _parts(training_windows, calibration.windows, size)

    @torch.no_grad()
    def held_out_error() -> float:
        parts = [float(error(part)) * (part.stop - part.start) for part in held_out]
        return math.fsum(parts) / calibration.held_out

    groups = [
        {"params": [weight], "lr": RATE * float(weight[keep[name]].square().mean().sqrt())}
        for name, weight in weights.items()
    ]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.95))
    steps = len(training) * EPOCHS
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    generator = torch.Generator().manual_seed(error.index)
    before = least = held_out_error()
    best: dict[str, Tensor] = {}
    epochs_without_gain = 0
    for _ in range(EPOCHS):
        for weight in weights.values():
            weight.requires_grad_()
        with torch.enable_grad():
            for index in torch.randperm(len(training), generator=generator).tolist():
                optimizer.zero_grad()
                error(training[index]).backward()
                for name, weight in weights.items():
                    if weight.grad is not None:  # None: the expert received no token
                        weight.grad.mul_(keep[name])
                optimizer.step()
                schedule.step()
        now = held_out_error()
        epochs_without_gain += 1
        if now < least:
            epochs_without_gain, least = 0, now
            best = {name: weight.detach().clone() for name, weight in weights.items()}
        if epochs_without_gain == PATIENCE or not math.isfinite(now):
            break
    return Tuned(best, before, least)


def _parts(first: int, stop: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, stop)) for start in range(first, stop, size)]


@contextlib.contextmanager
def _deterministic_algorithms() -> Iterator[None]:
    """Use deterministic algorithms, so that a resumed run ends as an uninterrupted one."""
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
