"""What the optimal method needs to know of a whole model before the block loop: sensitivities, and prices."""

import contextlib
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from trim.atomic import write_atomically
from trim.budget_cache import text_key, weights_key
from trim.budgets import Shapes
from trim.cache import cache_folder, fingerprint, new_file, touch
from trim.events import Event, Stage
from trim.inputs import Calibration, linear_layers
from trim.masks import largest_count
from trim.optimal import BINS_PER_OCTAVE, PriceSummary, lower_hull, price_summary, shared_totals
from trim.pipeline import layer_score, require_finite
from trim.prune_settings import PruneSettings
from trim.retention import retention_curves
from trim.sensitivity import row_sensitivity
from trim.sensitivity_cache import remembered_sensitivity
from trim.streaming import StreamedModel
from trim.text_pass import TextPass, text_pass

Listener = Callable[[Event], None]

SENSITIVITY_FILE = "sensitivity.safetensors"  # in the run folder while the run is not complete


def begun_with(folder: Path) -> dict[str, Tensor] | None:
    """The sensitivity with which the run in a folder began; None: a new run, or one that was stopped before.

    A gradient need not come out the same to the last bit twice.
    """
    try:
        return load((folder / SENSITIVITY_FILE).read_bytes())
    except (OSError, SafetensorError):
        return None


def begin_with(folder: Path, sensitivity: Mapping[str, Tensor]) -> None:
    """Keep the sensitivity with which the run in a folder begins."""
    write_atomically(folder / SENSITIVITY_FILE, save(dict(sensitivity)))


def plan_sensitivity(
    model: StreamedModel,
    calibration: Calibration,
    settings: PruneSettings,
    *,
    batch: int,
    folder: Path,
    activation_bytes: int | None,
    listener: Listener,
) -> dict[str, Tensor]:
    """Each layer's row weights f, (D,) float32.

    Args:
        model: dense.
        calibration: of its windows the first `settings.sensitivity_windows` are read.
        settings: of the run.
        batch, activation_bytes: as for `row_sensitivity`.
        folder: the run folder.
        listener: is told of progress.
    """
    part = calibration.first(settings.sensitivity_windows)

    def measure() -> dict[str, Tensor]:
        for index in range(len(model.blocks)):
            with model.block(index) as block:
                layers = linear_layers(block, index, model.layers)
                require_finite({name: layer.weight for name, layer in layers.items()})
        return row_sensitivity(
            model,
            part,
            batch=batch,
            folder=folder,
            activation_bytes=activation_bytes,
            progress=lambda index: listener(Stage("sensitivity", index)),
        )

    listener(Stage("sensitivity"))
    return remembered_sensitivity(weights_key(model.files), model, part, measure)


def optimal_budgets(
    model: StreamedModel,
    calibration: Calibration,
    settings: PruneSettings,
    shapes: Shapes,
    sensitivity: Mapping[str, Tensor] | None,
    *,
    batch: int,
    folder: Path,
    activation_bytes: int | None,
    listener: Listener,
) -> dict[str, float]:
    """The sparsity of each layer when all of them ask the same price of a weight, by the dense model's curves.

    Args:
        model: dense.
        calibration: the text, of which the first `settings.sensitivity_windows` are read.
        settings: the target, the score and the row cap.
        shapes: (D, N) of the layers to prune.
        sensitivity: their row weights; None: all alike.
        batch, folder, activation_bytes: as for `text_pass`.
        listener: is told of progress.

    Raises:
        SparsityError: the target is out of reach under the cap.
        NonFiniteError: a weight or activation is NaN or infinite; the message names the layer.
    """
    calibration = calibration.first(settings.sensitivity_windows)
    key = {
        "prices": [BINS_PER_OCTAVE, settings.score, settings.row_cap],
        "sensitivity": hashlib.sha256(save(dict(sensitivity))).hexdigest() if sensitivity else None,
        "layers": list(shapes),
        "model": weights_key(model.files),
        "text": [text_key(calibration), calibration.positions.tolist()],
        "compute": [str(model.device), str(model.dtype), batch],
    }

    def measure() -> dict[str, PriceSummary]:
        with text_pass(
            model, calibration, batch=batch, folder=folder, activation_bytes=activation_bytes
        ) as text:
            return _prices(text, settings, shapes, sensitivity, listener)

    summaries = _remembered(key, measure)
    weights = {name: rows * columns for name, (rows, columns) in shapes.items()}
    totals = shared_totals(
        {name: summaries[name] for name in shapes}, round(settings.target * sum(weights.values()))
    )
    return {name: totals[name] / weights[name] for name in shapes}


def _prices(
    text: TextPass,
    settings: PruneSettings,
    shapes: Shapes,
    sensitivity: Mapping[str, Tensor] | None,
    listener: Listener,
) -> dict[str, PriceSummary]:
    """What each layer of the dense model asks for its weights; does not depend on the target."""
    summaries: dict[str, PriceSummary] = {}
    last = max(int(name.partition(".")[0]) for name in shapes)
    for index in range(last + 1):
        with text.model.block(index) as block:
            listener(Stage("budgets", index, settings.budget))
            layers = linear_layers(block, index, shapes)
            require_finite({name: layer.weight for name, layer in layers.items()})
            received = text.capture(index, block, layers) if layers else {}
            for name, layer in layers.items():
                score = layer_score(layer.weight, received[name].input_norm, settings.score)
                curves = retention_curves(layer.weight, received[name].inputs, score, name=name)
                hull = lower_hull(curves.error, largest_count(curves.columns, settings.row_cap))
                summaries[name] = price_summary(hull, sensitivity[name] if sensitivity else None)
            if index < last:
                text.propagate(index, block)
    return summaries


def _remembered(key: dict, measure: Callable[[], dict[str, PriceSummary]]) -> dict[str, PriceSummary]:
    """Summaries that were made before under this key, or are made now; a cache that cannot be used is no matter."""
    path = cache_folder() / "budgets" / f"{fingerprint(key)}.safetensors"
    with contextlib.suppress(OSError, SafetensorError):
        pairs = load(path.read_bytes())
        touch(path)
        return {name: PriceSummary(*pair.numpy()) for name, pair in pairs.items()}
    measured = measure()
    pairs = {name: torch.from_numpy(np.stack([made.bins, made.weights])) for name, made in measured.items()}
    with contextlib.suppress(OSError), new_file(path) as temporary:
        temporary.write_bytes(save(pairs))
    return measured
