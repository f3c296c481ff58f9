"""What the optimal method needs to know of a whole model before the block loop: sensitivities, and prices."""

from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from trim.atomic import write_atomically
from trim.budget_cache import weights_key
from trim.budgets import Shapes
from trim.events import Event, Stage
from trim.inputs import Calibration, linear_layers
from trim.masks import largest_count
from trim.optimal import PriceSummary, lower_hull, price_summary, shared_totals
from trim.pipeline import layer_score, require_finite
from trim.prune_settings import PruneSettings
from trim.retention import retention_curves
from trim.sensitivity import row_sensitivity
from trim.sensitivity_cache import remembered_sensitivity
from trim.streaming import StreamedModel
from trim.text_pass import text_pass

Listener = Callable[[Event], None]

SENSITIVITY_FILE = "sensitivity.safetensors"  # in the run folder while the run is not complete


def plan_sensitivity(
    model: StreamedModel,
    calibration: Calibration,
    settings: PruneSettings,
    *,
    batch: int,
    folder: Path,
    activation_bytes: int | None,
    listener: Listener,
) -> dict[str, Tensor] | None:
    """Each layer's row weights f, (D,) float32; None where nothing asks for them, or all rows weigh alike.

    What a run began with stays in its folder: a gradient need not come out the same to the last bit twice.

    Args:
        model: dense.
        calibration: of its windows the first `settings.sensitivity_windows` are read.
        settings: of the run.
        batch, activation_bytes: as for `row_sensitivity`.
        folder: the run folder.
        listener: is told of progress.
    """
    if "optimal" not in (settings.allocation, settings.budget) or settings.row_weights == "ones":
        return None
    path = folder / SENSITIVITY_FILE
    try:
        return load(path.read_bytes())
    except (OSError, SafetensorError):
        pass  # a new run, or one that was stopped before
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
    found = remembered_sensitivity(weights_key(model.files), model, part, measure)
    write_atomically(path, save(found))
    return found


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
        calibration: the text.
        settings: the target, the score and the row cap.
        shapes: (D, N) of the layers to prune.
        sensitivity: their row weights; None: all alike.
        batch, folder, activation_bytes: as for `text_pass`.
        listener: is told of progress.

    Raises:
        SparsityError: the target is out of reach under the cap.
        NonFiniteError: a weight or activation is NaN or infinite; the message names the layer.
    """
    summaries: dict[str, PriceSummary] = {}
    last = max(int(name.partition(".")[0]) for name in shapes)
    with text_pass(model, calibration, batch=batch, folder=folder, activation_bytes=activation_bytes) as text:
        for index in range(last + 1):
            with model.block(index) as block:
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
    weights = {name: rows * columns for name, (rows, columns) in shapes.items()}
    totals = shared_totals(summaries, round(settings.target * sum(weights.values())))
    return {name: totals[name] / weights[name] for name in shapes}
