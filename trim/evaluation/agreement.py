"""Which of the library's masks a checkpoint's zeros agree with, and what they cost each layer's output."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from trim.calibration.capture import LayerSample, capture
from trim.errors import SettingsError
from trim.evaluation.xray import layer_names
from trim.methods.choices import OPTIMAL_CAP
from trim.methods.counts import largest_count, uniform_counts
from trim.methods.masks import keep_mask
from trim.methods.optimal import lower_hull, optimal_counts
from trim.methods.retention import retention_curves
from trim.methods.scores import wanda_score
from trim.methods.search import search
from trim.methods.search_settings import SearchSettings
from trim.models.loaded import Model
from trim.models.source import locate, weights_folder
from trim.models.tensor_files import TensorFiles
from trim.progress import Meter, ProgressListener


@dataclass(frozen=True)
class Agreement:
    """One layer of a checkpoint beside masks that the library makes of its parent.

    Attributes:
        name: the layer's name.
        kept_by_both: by the names in `xray_text.METHODS`, the share of weights that both masks keep (intersection
            over union), at the checkpoint's number of zeros in this layer; a method that cannot reach it is missing.
        error: ‖(W − P)·X‖² / ‖P·X‖², what the layer's output lost, on what it receives in the dense parent.
    """

    name: str
    kept_by_both: Mapping[str, float] = field(repr=False)
    error: float


def agreements(
    checkpoint: str,
    parent: Model,
    windows: Tensor,
    *,
    vectors_per_sequence: int = 2,
    seed: int = 0,
    progress: ProgressListener | None = None,
) -> list[Agreement]:
    """Compare the zeros of each layer with the masks of Wanda, TRIM and the optimal allocation.

    Args:
        checkpoint: as for `xray`.
        parent: the dense model that it was made from.
        windows: (sequences, length) int64 tokens, from `load_corpus`.
        vectors_per_sequence: how many input vectors are kept of each window.
        seed: decides which.
        progress: called at each step; an exception from it ends the work.

    Returns:
        One for each layer with zeros that both have, in the order of the blocks.

    Raises:
        ModelError: the checkpoint cannot be read.
        SettingsError: it has no layer with zeros that the parent has too.
    """
    files = TensorFiles(weights_folder(locate(checkpoint), progress or (lambda now: None)))
    tensors = {name: tensor for tensor, name in layer_names(files).items()}
    common = [
        name
        for name, layer in parent.layers.items()
        if name in tensors and files.places[tensors[name]].shape == tuple(layer.weight.shape)
    ]
    pruned = [name for name in common if bool((files.read(tensors[name]) == 0).any())]
    if not pruned:
        raise SettingsError(
            f"no layer of {checkpoint} has zeros and the shape of one of {parent.title}: is that the model that it was "
            "made from?"
        )
    samples = capture(
        parent, windows, pruned, vectors_per_sequence=vectors_per_sequence, seed=seed, progress=progress
    )
    meter, found = Meter(progress, len(pruned)), []
    for done, name in enumerate(pruned):
        meter.report(f"Comparing {name}", done)
        found.append(_agreement(samples[name], files.read(tensors[name]).to(parent.device).float()))
    return found


def _agreement(sample: LayerSample, weight: Tensor) -> Agreement:
    dense = sample.weight.float()
    score = wanda_score(sample.weight, sample.input_norm)
    curves = retention_curves(sample.weight, sample.inputs, score, name=sample.name)
    kept = weight != 0
    row_zeros = (~kept).sum(dim=1)
    total = int(row_zeros.sum())
    sparsity = total / kept.numel()
    counts = {"rows": row_zeros, "uniform": uniform_counts(curves.rows, total).to(weight.device)}
    cap = max(SearchSettings.max_row_sparsity, sparsity)
    counts["trim"] = search(curves, SearchSettings(sparsity, max_row_sparsity=cap), total).counts
    limit = largest_count(curves.columns, max(OPTIMAL_CAP, cap))
    if total <= limit * curves.rows:
        counts["optimal"] = optimal_counts(lower_hull(curves.error, limit), total)
    lost = ((weight - dense) @ curves.inputs).double().square().sum()
    return Agreement(
        sample.name,
        {method: _both(kept, keep_mask(curves.ranks, each)) for method, each in counts.items()},
        float(lost / curves.output_energy.sum()),
    )


def _both(one: Tensor, other: Tensor) -> float:
    """Return the intersection of two masks over their union; of two that keep nothing: 1."""
    either = int((one | other).sum())
    return int((one & other).sum()) / either if either else 1.0
