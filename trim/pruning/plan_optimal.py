"""The needs of the optimal method before the block loop: sensitivities, and prices."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from trim.cache import cached, entry_path
from trim.calibration.calibration import Calibration
from trim.calibration.capture import LayerSample
from trim.calibration.inputs import LayerInputs
from trim.calibration.layers import linear_layers, require_finite
from trim.calibration.sensitivity import cached_sensitivity, row_sensitivity
from trim.calibration.text_pass import TextPass, text_pass
from trim.files import write_atomically
from trim.methods.budgets import Budgets, Shapes
from trim.methods.counts import largest_count
from trim.methods.optimal import (
    BINS_PER_OCTAVE,
    PriceSummary,
    halfway_totals,
    lower_hull,
    price_summary,
    shared_totals,
)
from trim.models.streamed import StreamedModel
from trim.models.tensor_files import weights_key
from trim.names import block_of
from trim.progress import Meter
from trim.pruning.events import Listener
from trim.pruning.layer import memory_for_curves
from trim.runs.settings import PruneSettings

SENSITIVITY_FILE = "sensitivity.safetensors"  # in the run folder while the run is not complete


def load_sensitivity(file: Path) -> dict[str, Tensor] | None:
    """Load the sensitivity that a run began with; None: a new run, or one that was stopped before.

    A gradient need not come out the same to the last bit twice.
    """
    try:
        return load(file.read_bytes())
    except (OSError, SafetensorError):
        return None


def save_sensitivity(file: Path, sensitivity: Mapping[str, Tensor]) -> None:
    """Keep the sensitivity with which a run begins."""
    write_atomically(file, save(dict(sensitivity)))


def plan_sensitivity(
    model: StreamedModel,
    calibration: Calibration,
    settings: PruneSettings,
    shapes: Shapes,
    *,
    batch: int,
    folder: Path,
    activation_bytes: int | None,
    listener: Listener,
) -> dict[str, Tensor]:
    """Measure each layer's row weights f, (D,) float32.

    Where budgets will ask for prices too, they are made on the way, out of what the layers receive when the gradient's
    blocks are run again, and cached: `optimal_budgets` then needs no pass of its own.

    Args:
        model: dense.
        calibration: the text; its first `settings.sensitivity_windows` windows are read.
        settings: the run's settings.
        shapes: (D, N) of the layers to prune.
        batch: as for `row_sensitivity`.
        activation_bytes: as for `row_sensitivity`.
        folder: the run folder.
        listener: receives the progress.
    """
    part = calibration.first(settings.sensitivity_windows)
    summaries: dict[str, PriceSummary] = {}

    def visit(name: str, layer: nn.Linear, received: LayerInputs, weights: Tensor) -> None:
        summaries[name] = _price(name, layer, received, settings, weights, part)

    def measure() -> dict[str, Tensor]:
        with model.keeping():  # the gradient's way back and the block loop read the same blocks again
            return row_sensitivity(
                model,
                part,
                batch=batch,
                folder=folder,
                activation_bytes=activation_bytes,
                progress=listener,
                visited=shapes if settings.budget == "optimal" else (),
                visit=visit,
            )

    found = cached_sensitivity(weights_key(model.files), model, part, measure)
    if summaries:
        _cached_prices(_price_file(model, part, settings, shapes, found, batch), lambda: summaries)
    return found


def optimal_budgets(
    model: StreamedModel,
    calibration: Calibration,
    settings: PruneSettings,
    shapes: Shapes,
    target: float,
    sensitivity: Mapping[str, Tensor] | None,
    *,
    batch: int,
    folder: Path,
    activation_bytes: int | None,
    listener: Listener,
) -> Budgets:
    """Return how many weights each layer loses at one price of a weight for all of them, by the dense model's curves.

    Half-way between those and uniform ones, where the kept weights are solved (`halfway_totals`).

    Args:
        model: dense.
        calibration: the text, of which the first `settings.sensitivity_windows` are read.
        settings: the score and the row cap.
        shapes: (D, N) of the layers to prune.
        target: the model's sparsity over them.
        sensitivity: their row weights; None: all alike.
        batch: as for `text_pass`.
        folder: as for `text_pass`.
        activation_bytes: as for `text_pass`.
        listener: receives the progress.

    Raises:
        SparsityError: the target is out of reach under the cap.
        NonFiniteError: a weight or activation is NaN or infinite; the message names the layer.
    """
    calibration = calibration.first(settings.sensitivity_windows)

    def measure() -> dict[str, PriceSummary]:
        with text_pass(
            model, calibration, batch=batch, folder=folder, activation_bytes=activation_bytes
        ) as text:
            return _prices(text, settings, shapes, sensitivity, listener)

    path = _price_file(model, calibration, settings, shapes, sensitivity, batch)
    summaries = _cached_prices(path, measure)
    sizes = {name: rows * columns for name, (rows, columns) in shapes.items()}
    # Experts of too few tokens have no price, and are as sparse as the model.
    few = {name: round(target * sizes[name]) for name in shapes if not len(summaries[name].bins)}
    total = round(target * sum(sizes.values())) - sum(few.values())
    totals = few | shared_totals({name: summaries[name] for name in shapes if name not in few}, total)
    if settings.allocation == "solved":
        totals = halfway_totals(totals, sizes)
    return Budgets.exact("optimal", totals, shapes)


def _prices(
    text: TextPass,
    settings: PruneSettings,
    shapes: Shapes,
    sensitivity: Mapping[str, Tensor] | None,
    listener: Listener,
) -> dict[str, PriceSummary]:
    """Compute the prices of each layer of the dense model; they do not depend on the target."""
    summaries: dict[str, PriceSummary] = {}
    last = max(block_of(name) for name in shapes)
    meter = Meter(listener, of=last + 1)
    for index in range(last + 1):
        with text.model.block(index) as block:
            meter.report(f"Setting the layers' budgets ({settings.budget}): block {index}", index)
            layers = linear_layers(block, index, shapes)
            require_finite({name: layer.weight for name, layer in layers.items()})
            received = text.capture(index, block, layers) if layers else {}
            for name, layer in layers.items():
                weights = sensitivity[name] if sensitivity else None
                summaries[name] = _price(name, layer, received[name], settings, weights, text.calibration)
            if index < last:
                text.propagate(index, block)
    return summaries


def _price(
    name: str,
    layer: nn.Linear,
    received: LayerInputs,
    settings: PruneSettings,
    sensitivity: Tensor | None,
    calibration: Calibration,
) -> PriceSummary:
    """Compute the prices of one layer from its input; an expert of too few tokens has none.

    An expert's errors are of fewer vectors than those of other layers, and weigh as much more; a sensitivity is a sum
    over its own tokens already, and without one its errors weigh as much less as it receives fewer tokens.
    """
    if received.too_few:
        return PriceSummary(np.empty(0, np.int64), np.empty(0, np.int64))
    if received.tokens is not None:
        weight = calibration.positions.numel() / received.inputs.shape[1]
        if sensitivity is None:
            sensitivity = torch.full(layer.weight.shape[:1], received.tokens / calibration.real_tokens)
        sensitivity = sensitivity * weight
    with memory_for_curves(name, layer.weight, received):
        sample = LayerSample(name, layer.weight, received.inputs, received.input_norm)
        curves = sample.scored(settings.score).curves
        hull = lower_hull(curves.error, largest_count(curves.columns, settings.row_cap))
        return price_summary(hull, sensitivity)


def _price_file(
    model: StreamedModel,
    calibration: Calibration,
    settings: PruneSettings,
    shapes: Shapes,
    sensitivity: Mapping[str, Tensor] | None,
    batch: int,
) -> Path:
    """Return the place of the layers' prices in the cache.

    On a GPU prices made on the gradient's way and those of a pass of their own may differ by rounding: where a gradient
    is wanted, attention may run other kernels. Whichever came first is kept.
    """
    key = {
        "prices": [BINS_PER_OCTAVE, settings.score, settings.row_cap],
        "sensitivity": hashlib.sha256(save(dict(sensitivity))).hexdigest() if sensitivity else None,
        "layers": list(shapes),
        "model": weights_key(model.files),
        "text": [calibration.sha256, calibration.positions.tolist()],
        "compute": [str(model.device), str(model.dtype), batch, torch.__version__, transformers.__version__],
    }
    return entry_path("budgets", key, ".safetensors")


def _cached_prices(path: Path, measure: Callable[[], dict[str, PriceSummary]]) -> dict[str, PriceSummary]:
    def parse(content: bytes) -> dict[str, PriceSummary]:
        return {name: PriceSummary(*pair.numpy()) for name, pair in load(content).items()}

    def pack(summaries: dict[str, PriceSummary]) -> bytes:
        return save(
            {name: torch.from_numpy(np.stack([made.bins, made.weights])) for name, made in summaries.items()}
        )

    return cached(path, measure, parse=parse, pack=pack)
