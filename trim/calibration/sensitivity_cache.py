"""Sensitivities that were measured before: one file in the cache for each model and text."""

import contextlib
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from trim.cache import cache_folder, fingerprint, new_file, shrink_to_limit, touch
from trim.calibration.budget_cache import text_key
from trim.calibration.inputs import Calibration
from trim.calibration.sensitivity import BlockModel, LoadedModel, Progress, row_sensitivity
from trim.calibration.text_pass import default_batch
from trim.models.loaded import Model


def remembered_sensitivity(
    weights: object, model: BlockModel, calibration: Calibration, measure: Callable[[], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """What was measured before of this model on this text, or is measured now, and then kept in the cache.

    Args:
        weights: changes whenever the weights may have changed, as plain JSON.
        model, calibration: of which and on which.
        measure: does the work.
    """
    key = {
        "sensitivity": 1,
        "model": weights,
        "text": text_key(calibration),
        "compute": [model.device.type, str(model.dtype), torch.__version__, transformers.__version__],
    }
    path = cache_folder() / "captures" / f"{fingerprint(key)}.safetensors"
    with contextlib.suppress(OSError, SafetensorError):
        known = load(path.read_bytes())
        touch(path)
        return known
    measured = measure()
    with contextlib.suppress(OSError), new_file(path) as temporary:
        temporary.write_bytes(save(measured))
        shrink_to_limit(keep=path)
    return measured


def sensitivity(model: Model, windows: Tensor, *, progress: Progress | None = None) -> dict[str, Tensor]:
    """`row_sensitivity` of a loaded model, kept in the cache.

    Args:
        model: from `load_model`.
        windows: (sequences, length) int64 tokens; a few windows suffice.
        progress: told of each block, on the way forward and on the way back.

    Raises:
        The errors of `row_sensitivity`.
    """
    whole, calibration = LoadedModel(model), Calibration.of(windows)

    def measure() -> dict[str, Tensor]:
        batch = default_batch(calibration, model.device)
        folder = Path(tempfile.gettempdir())
        return row_sensitivity(whole, calibration, batch=batch, folder=folder, progress=progress)

    return remembered_sensitivity(model.fingerprint, whole, calibration, measure)
