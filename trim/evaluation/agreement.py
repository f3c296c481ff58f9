"""The library's masks for one layer, and their agreement with the zeros of a checkpoint."""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from torch import Tensor

from trim.calibration.capture import LayerSample, capture
from trim.errors import SettingsError, SparsityError
from trim.evaluation.solved_layer import solve_layer
from trim.evaluation.xray import layer_names
from trim.methods.agreement import iou
from trim.methods.allocations import ScoredLayer
from trim.methods.choices import ALLOCATIONS, METHODS, OPTIMAL_CAP, SCORES, SOLVERS
from trim.methods.counts import total_count
from trim.methods.search_settings import SearchSettings
from trim.models.loaded import Model
from trim.models.source import locate, readable_files
from trim.progress import Meter, ProgressListener


@dataclass(frozen=True)
class Agreement:
    """One layer of a checkpoint compared with the library's masks of its parent.

    Attributes:
        name: the layer's name.
        kept_by_both: by the names in `xray_text.MASK_TITLES`, the agreement of both masks (kept weights, intersection
            over union), at the checkpoint's number of zeros in this layer; a method that cannot reach it is missing.
        error: ‖(W − P)·X‖² / ‖P·X‖², the error of the layer's output on its inputs in the dense parent.
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
        windows: (windows, length) int64 tokens, from `load_corpus`.
        vectors_per_sequence: number of input vectors sampled from each window.
        seed: seed of the sampling.
        progress: called at each step; an exception from it ends the work.

    Returns:
        One for each layer of both models with zeros in the checkpoint, in the order of the blocks.

    Raises:
        ModelError: the checkpoint cannot be read.
        SettingsError: no layer of both models has zeros in the checkpoint.
    """
    files = readable_files(locate(checkpoint), progress or (lambda now: None))
    tensors = {name: tensor for tensor, name in layer_names(files).items()}
    common = [
        name
        for name, layer in parent.layers.items()
        if name in tensors and files.places[tensors[name]].shape == tuple(layer.weight.shape)
    ]
    # Search for zeros before the slow capture; layers before the first one with zeros need not be read again.
    meter = Meter(progress, len(common))
    first = None
    for done, name in enumerate(common):
        meter.report(f"Looking for zeros: {name}", done)
        if bool((files.read(tensors[name]) == 0).any()):
            first = name
            break
    if first is None:
        raise SettingsError(
            f"no layer of {checkpoint} has zeros and the shape of one of {parent.title}: is that the model that it was "
            "made from?"
        )
    common = common[common.index(first) :]
    samples = capture(
        parent, windows, common, vectors_per_sequence=vectors_per_sequence, seed=seed, progress=progress
    )
    meter, results = Meter(progress, len(common)), []
    for done, name in enumerate(common):
        meter.report(f"Comparing {name}", done)
        weight = files.read(tensors[name]).to(parent.device).float()
        if bool((weight == 0).any()):
            results.append(_agreement(samples.pop(name), weight))
    return results


def method_masks(
    sample: LayerSample,
    sparsity: float,
    methods: Iterable[tuple[str, str]] = (("wanda", "uniform"), ("wanda", "trim"), ("wanda", "optimal")),
    *,
    settings: SearchSettings | None = None,
    sensitivity: Tensor | None = None,
) -> dict[tuple[str, str], Tensor]:
    """Return the masks of several methods for one layer at one sparsity, to compare them.

        masks = trim.method_masks(sample, 0.7, [("wanda", "trim"), ("magnitude", "layer"), ("", "solved")])
        trim.mask_agreement(masks["wanda", "trim"].numpy(), masks["", "solved"].numpy()).whole

    Args:
        sample: a layer and its inputs, from `capture`; solvers need the products of the text.
        sparsity: the share of the layer's weights to prune; Wanda's variant reaches it only nearly.
        methods: pairs of a score of `SCORES` and an allocation of `ALLOCATIONS`, or of "" and one of `SOLVERS`, which
            use no score.
        settings: TRIM's settings, whose target is replaced by the sparsity; None: the defaults.
        sensitivity: (D,), the row weights of the optimal allocation and of the solver; None: equal weights.

    Returns:
        (D, N) bool by pair, True where a weight is kept.

    Raises:
        SettingsError: a score or an allocation does not exist, or a solver lacks the products of the text.
    """
    pairs = list(methods)
    for score_name, method in pairs:
        if method not in METHODS:
            raise SettingsError(f"allocation {method!r} is not one of {', '.join(METHODS)}")
        if score_name not in SCORES and method not in SOLVERS:
            raise SettingsError(f"score {score_name!r} is not one of {', '.join(SCORES)}")
    searched = SearchSettings(sparsity) if settings is None else replace(settings, target_sparsity=sparsity)
    rows, columns = sample.weight.shape
    total = total_count(sparsity, rows, columns, searched.max_row_sparsity)
    masks = {
        (name, method): solve_layer(sample, sparsity, method, sensitivity=sensitivity).keep
        for name, method in pairs
        if method in SOLVERS
    }
    for name in dict.fromkeys(score for score, method in pairs if method not in SOLVERS):
        layer = sample.scored(name, sensitivity)
        for score, method in pairs:
            if score == name and method not in SOLVERS:
                masks[name, method] = allocated_mask(layer, method, total, searched)
    return {pair: masks[pair] for pair in pairs}


def allocated_mask(layer: ScoredLayer, allocation: str, total: int, settings: SearchSettings) -> Tensor:
    """Return the mask (D, N) bool of one of `ALLOCATIONS` at a number of pruned weights, True where one is kept.

    Raises:
        SparsityError: the rows cannot lose as many weights under the allocation's cap.
    """
    if allocation == "optimal":
        settings = replace(settings, max_row_sparsity=max(OPTIMAL_CAP, settings.max_row_sparsity))
    return ALLOCATIONS[allocation](layer, total, settings).mask(layer.curves)


def _agreement(sample: LayerSample, weight: Tensor) -> Agreement:
    """Compare a layer of the checkpoint with the masks; `weight`: (D, N) float32 of the checkpoint."""
    dense = sample.weight.float()
    layer = sample.scored("wanda")
    kept = weight != 0
    row_zeros = (~kept).sum(dim=1)
    total = int(row_zeros.sum())
    sparsity = total / kept.numel()
    settings = SearchSettings(sparsity, max_row_sparsity=max(SearchSettings.max_row_sparsity, sparsity))
    masks = {"rows": layer.curves.keep_mask(row_zeros)}
    for method in ("uniform", "trim", "optimal"):
        with contextlib.suppress(SparsityError):
            masks[method] = allocated_mask(layer, method, total, settings)
    lost = ((weight - dense) @ layer.curves.inputs).double().square().sum()
    return Agreement(
        sample.name,
        {
            method: float(iou(int((kept & mask).sum()), int((kept | mask).sum())))
            for method, mask in masks.items()
        },
        float(lost / layer.curves.output_energy.sum()),
    )
