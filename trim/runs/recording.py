"""Make the records of a run and of a layer from tensors, and apply them to the layer's weight."""

import platform
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor

from trim.cache import text_sha256
from trim.errors import NonFiniteError
from trim.matmul import full_product
from trim.methods.allocations import MaskRetained, ScoredLayer
from trim.methods.choices import SOLVERS
from trim.methods.counts import uniform_counts
from trim.methods.gini import gini
from trim.methods.masks import apply_mask, keep_mask, pack_bits
from trim.methods.quality import layer_quality
from trim.methods.retention import Retained, RetentionCurves, dense_curves
from trim.methods.search import exact_qualities
from trim.methods.search_types import SearchResult
from trim.runs.record import ARRAYS, LayerRecord, SearchRecord, curve_counts
from trim.runs.run_record import Compute, ModelFacts, RunRecord, TextFacts
from trim.runs.settings import PruneSettings


def run_record(
    request: PruneSettings,
    model: ModelFacts,
    text: TextFacts,
    compute: Compute,
    budget_file: dict[str, float] | None = None,
) -> RunRecord:
    """Make the record of a run that begins now, of a whole model or of a layer that is kept.

    Args:
        request: what the user asked for.
        model: what is pruned.
        text: what it is calibrated on.
        compute: the device and the type that compute the run.
        budget_file: each layer's sparsity, where the request names a file of budgets.
    """
    return RunRecord(request, model, text, compute, versions(), budget_file)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries whose arithmetic a result depends on."""
    return {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "transformers": transformers.__version__,
        "numpy": np.__version__,
    }


def text_facts(
    tokens: Tensor, mask: Tensor | None = None, *, given: bool = False, bos_token: int | None = None
) -> TextFacts:
    """Describe a calibration text.

    Args:
        tokens: (sequences, length) int64.
        mask: (sequences, length) bool, False where tokens are padding.
        given: whether the caller gave the tokens, rather than the name of a corpus.
        bos_token: the model's beginning-of-text token, if it has one.
    """
    return TextFacts(
        tokens.numel() if mask is None else int(mask.sum()),
        text_sha256(tokens, mask),
        given,
        bos_token is not None and bool((tokens[:, 0] == bos_token).all()),
    )


def compute_facts(
    device: torch.device, dtype: torch.dtype, batch: int | None = None, threads: int | None = None
) -> Compute:
    """Describe what computes a run."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return Compute(device.type, name, str(dtype).removeprefix("torch."), batch, threads)


@dataclass(frozen=True, eq=False)
class Change:
    """A change of a layer's kept weights, in place of the mask alone.

    Attributes:
        weights: (K,) float16, the new ones, row by row.
        error_masked, error: (D,) float32, each row's output error over its dense output, squared, on the kept vectors:
            of the mask alone, and as changed; NaN for a row without output.
        error_left: () which part of the layer's error the mask alone has is left.
        moved: (D,) float32, ‖ŵ − w‖ / ‖w‖ over the row's kept weights; NaN where ‖w‖ is 0.
    """

    weights: Tensor
    error_masked: Tensor
    error: Tensor
    error_left: Tensor
    moved: Tensor

    def arrays(self) -> dict[str, Tensor]:
        """Return what a layer's record keeps of it for each row and weight, by its names there."""
        return {
            "kept_weights": self.weights,
            "row_error_masked": self.error_masked,
            "row_error": self.error,
            "row_moved": self.moved,
        }


def weight_change(weight: Tensor, keep: Tensor, changed: Tensor, inputs: Tensor, aimed_at: Tensor) -> Change:
    """Compare changed weights with the mask alone.

    Args:
        weight: (D, N), dense.
        keep: (D, N) bool, True where a weight is kept.
        changed: (D, N) float16, 0 where none is kept.
        inputs: (N, L), vectors that the layer receives.
        aimed_at: (N, L), those that the dense layer would receive, whose outputs are aimed at.
    """
    outputs = full_product(weight, aimed_at)
    masked = weight * keep
    bare, left = (
        (outputs - full_product(each.to(weight.dtype), inputs)).square().sum(dim=1)
        for each in (masked, changed)
    )
    energy = outputs.square().sum(dim=1)
    moved, norm = (
        torch.linalg.vector_norm(each.float(), dim=1) for each in (changed.float() - masked, masked)
    )
    before, after = bare.sum(), left.sum()
    return Change(
        changed[keep],
        torch.where(energy > 0, bare / energy, torch.nan),
        torch.where(energy > 0, left / energy, torch.nan),
        torch.where(before > 0, after / before, 1.0),
        torch.where(norm > 0, moved / norm, torch.nan),
    )


def as_stored(name: str, weight: Tensor) -> Tensor:
    """Round weights to float16, as a run keeps them.

    Raises:
        NonFiniteError: one leaves its range.
    """
    half = weight.half()
    if not bool(half.isfinite().all()):
        raise NonFiniteError(
            f"{name}: a changed weight leaves the range of float16; go without --refit, or choose another --allocation"
        )
    return half


def with_weights(
    record: LayerRecord, weight: Tensor, changed: Tensor, inputs: Tensor, aimed_at: Tensor
) -> LayerRecord:
    """Return the record of a layer whose kept weights were changed once more.

    Args:
        record: with its mask.
        weight: as for `weight_change`, with what follows.
        changed: likewise.
        inputs: likewise.
        aimed_at: likewise.
    """
    keep = torch.from_numpy(record.keep()).to(weight.device)
    change = weight_change(weight, keep, changed, inputs, aimed_at)
    tensors = change.arrays()
    numbers = {"error_left": change.error_left.double()}
    if record.allocation in SOLVERS:
        retained = MaskRetained(dense_curves(weight, inputs), keep, changed.float())
        tensors["cosine"] = retained.cosine
        numbers["realised_quality"] = layer_quality(retained, record.quality_measure)
    return replace(record, **_stored(numbers, tensors))


def layer_record(
    name: str,
    layer: ScoredLayer,
    counts: Tensor,
    *,
    budget: float,
    allocation: str,
    score_name: str,
    search: SearchResult[Tensor] | None = None,
    quality_measure: str = "cosim_flat",
    retained: Retained | None = None,
    keep: Tensor | None = None,
    change: Change | None = None,
    tokens: int | None = None,
) -> LayerRecord:
    """Return the record of one layer.

    Args:
        name: such as "15.mlp.gate_proj".
        layer: its curves, in the order of which score, and the sensitivities that the optimal allocation went by.
        counts: (D,) exact pruned weights of each row.
        budget: the layer's sparsity as it was asked for.
        allocation: the method that set the counts.
        score_name: the name of the score.
        search: TRIM's result, where TRIM searched.
        quality_measure: which layer quality is recorded at the exact counts.
        retained: what is retained; None: of `counts` lowest scores in each row.
        keep: (D, N) bool, the mask to store; None: none is stored.
        change: the change of the kept weights; None: they are as they were.
        tokens: how many an expert received; None: it is not an expert's.
    """
    curves, counts = layer.curves, counts.to(layer.curves.dot.device)
    before = curves.at(uniform_counts(curves.rows, counts.sum()))
    after = curves.at(counts) if retained is None else retained
    grid = torch.from_numpy(curve_counts(curves.columns)).to(curves.dot.device)
    tensors = {
        "counts": counts,
        "gini": gini(layer.score, curves.sorted_columns),
        "weight_norm": torch.linalg.vector_norm(curves.captured_weight, dim=1, dtype=torch.float32),
        "cosine_uniform": before.cosine,
        "cosine": after.cosine,
        "cosine_curve": curves.cosine_at(grid),
        "dead_rows": curves.dead_rows,
    }
    numbers = {
        "uniform_quality": layer_quality(before, quality_measure),
        "realised_quality": layer_quality(after, quality_measure),
    }
    if layer.sensitivity is not None:
        tensors["sensitivity"] = layer.sensitivity
    if keep is not None:
        tensors["packed_mask"] = pack_bits(keep)
    if change is not None:
        tensors |= change.arrays()
        numbers["error_left"] = change.error_left.double()
    return LayerRecord(
        name=name,
        columns=curves.columns,
        budget=float(budget),
        allocation=allocation,
        score=score_name,
        vectors=curves.vectors,
        quality_measure=quality_measure,
        search=None if search is None else search_record(curves, search),
        tokens=tokens,
        **_stored(numbers, tensors),
    )


def search_record(curves: RetentionCurves, search: SearchResult[Tensor]) -> SearchRecord:
    """Return the record of a search on these curves."""
    updates = torch.stack(list(search.trace.updates.values())).cpu()  # one copy instead of one for each rate
    on_host = replace(search.trace, updates=dict(zip(search.trace.updates, updates, strict=True)))
    result = replace(search, trace=on_host).converted(lambda values: values.cpu().numpy())
    trace = result.trace
    if result.learning_rate is None:
        iteration, path = 0, trace.updates[trace.rates[0]][:1]
    else:
        iteration = trace.best_iteration(result.learning_rate)
        path = trace.updates[result.learning_rate]
    return SearchRecord(
        learning_rate=result.learning_rate,
        best_iteration=iteration,
        tried=tuple(result.tried),
        layer_quality=result.layer_quality,
        uniform_quality=result.uniform_quality,
        rates=np.asarray(trace.rates, dtype=np.float64),
        quality=_typed(trace.quality, "float64"),
        row_variance=_typed(trace.row_variance, "float64"),
        row_sparsity=_typed(path, "float32"),
        exact_quality=exact_qualities(curves, result),
    )


def apply_record(weight: Tensor, record: LayerRecord) -> None:
    """Give a layer's weight (D, N), in place, the record's mask and, where it has them, its changed weights.

    Raises:
        RunError: the run was kept without masks.
    """
    keep = torch.from_numpy(record.keep()).to(weight.device)
    kept = None if record.kept_weights is None else torch.from_numpy(record.kept_weights).to(weight.device)
    apply_mask(weight, keep, kept)


def record_of_search(
    name: str, layer: ScoredLayer, result: SearchResult[Tensor], *, score_name: str, with_mask: bool = False
) -> LayerRecord:
    """Return the record of a TRIM search that the user made by hand, to save it as a run of one layer."""
    return layer_record(
        name,
        layer,
        result.counts,
        budget=result.settings.target_sparsity,
        allocation="trim",
        score_name=score_name,
        search=result,
        quality_measure=result.settings.layer_quality,
        keep=keep_mask(layer.curves.ranks, result.counts) if with_mask else None,
    )


def _stored(numbers: dict[str, Tensor], tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Return fields of a record: numbers of one type as they are, arrays in the type that a record has them in.

    All copies from a GPU are under way before any is waited for.
    """
    given = [torch.stack(list(numbers.values())), *tensors.values()]
    copies = [values.detach().to("cpu", non_blocking=True) for values in given]
    for device in {values.device for values in given if values.is_cuda}:
        torch.cuda.current_stream(device).synchronize()
    fields: dict[str, Any] = dict(zip(numbers, copies[0].tolist(), strict=True))
    for key, values in zip(tensors, copies[1:], strict=True):
        fields[key] = _typed(values.numpy(), ARRAYS[key][0])
    return fields


def _typed(values: np.ndarray, dtype: str) -> np.ndarray:
    """Copy an array, so that the record owns it."""
    return np.array(values, dtype=dtype, order="C")
