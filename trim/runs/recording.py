"""Make the records of layers from tensors, and apply them to the layers' weights."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from trim.errors import RunError
from trim.methods.allocations import Allocation, MaskRetained, ScoredLayer
from trim.methods.choices import SOLVERS
from trim.methods.counts import uniform_counts
from trim.methods.gini import gini
from trim.methods.masks import apply_mask, pack_bits
from trim.methods.quality import layer_quality
from trim.methods.retention import RetentionCurves, dense_curves
from trim.methods.search import exact_qualities
from trim.methods.search_types import SearchResult
from trim.runs.record import ARRAYS, LayerRecord, SearchRecord, check_arrays, curve_counts
from trim.runs.shapes import LayerRecordJson
from trim.runs.weight_changes import WeightChange, weight_change


def with_weights(
    record: LayerRecord, weight: Tensor, changed: Tensor, inputs: Tensor, target_outputs: Tensor
) -> LayerRecord:
    """Return the record of a layer, which has a mask, with other kept weights; arguments as for `weight_change`."""
    keep = torch.from_numpy(record.keep()).to(weight.device)
    change = weight_change(weight, keep, changed, inputs, target_outputs)
    tensors = change.arrays()
    numbers = {"error_left": change.error_left.double()}
    if record.allocation in SOLVERS:
        retained = MaskRetained(dense_curves(weight, inputs), keep, changed.float())
        tensors["cosine"] = retained.cosine
        numbers["realised_quality"] = layer_quality(retained, record.quality_measure)
    values, arrays = _start_copies(numbers, tensors)()
    return replace(record, **values[0], **arrays)


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
    keep: Tensor | None = None,
) -> LayerRecord:
    """Return the record of one layer with unchanged weights, which is not an expert's.

    Args:
        name: such as "15.mlp.gate_proj".
        layer: its curves, its score, and the sensitivities of an optimal allocation.
        counts: (D,) exact pruned weights of each row.
        budget: the requested sparsity of the layer.
        allocation: the method that set the counts.
        score_name: the name of the score.
        search: TRIM's result, where TRIM searched.
        quality_measure: which layer quality is recorded at the exact counts.
        keep: (D, N) bool, the mask to store; None: the record has no mask.
    """
    make = deferred_records(
        [name],
        layer,
        [Allocation(counts, search=search)],
        budgets=[budget],
        allocation=allocation,
        score_name=score_name,
        quality_measure=quality_measure,
        keep=keep,
        change=None,
        tokens=[None],
    )
    return make()[0]


def deferred_records(
    names: Sequence[str],
    layers: ScoredLayer,
    allocations: Sequence[Allocation],
    *,
    budgets: Sequence[float],
    allocation: str,
    score_name: str,
    quality_measure: str,
    keep: Tensor | None,
    change: WeightChange | None,
    tokens: Sequence[int | None],
) -> Callable[[], list[LayerRecord]]:
    """Compute the contents of the records of layers whose curves were computed together, and make the records later.

    The arguments are those of `layer_record`, by layer. An allocation with its own `retained`, and a `change`, are
    allowed for a single layer only.

    Returns:
        A function that makes the records. It waits for the copies from a GPU, needs no memory there, and may be called
        in another thread while the GPU continues.
    """
    curves = layers.curves
    counts = torch.cat([each.counts for each in allocations]).to(curves.dot.device)
    uniform = uniform_counts(curves.layer_rows, curves.by_layer(counts).sum(dim=-1))
    before, after = curves.at(uniform.flatten()), allocations[0].retained or curves.at(counts)
    grid = torch.from_numpy(curve_counts(curves.columns)).to(curves.dot.device)
    tensors = {
        "counts": counts,
        "gini": gini(layers.score, curves.sorted_columns),
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
    if layers.sensitivity is not None:
        tensors["sensitivity"] = layers.sensitivity
    if keep is not None:
        tensors["packed_mask"] = pack_bits(keep)
    if change is not None:
        tensors |= change.arrays()
        numbers["error_left"] = change.error_left.double()
    searches = [each.search for each in allocations if each.search is not None]
    if searches:
        paths = [each.trace.updates[each.learning_rate or each.trace.rates[0]] for each in searches]
        tensors["search_row_sparsity"] = torch.cat(paths)
    count, columns, vectors = curves.layers, curves.columns, curves.vectors_of_layers
    have_exact = all(each.trace.exact_quality is not None for each in searches)
    layer_curves = [curves] * count if have_exact else curves.split_layers()
    search_numbers = [_search_numbers(*each) for each in zip(searches, layer_curves, strict=False)]
    wait_for_copies = _start_copies(numbers, tensors, count)

    def make() -> list[LayerRecord]:
        values, arrays = wait_for_copies()
        checked = count > 1 and _all_valid(arrays, columns)
        parts = {
            key: value.reshape(count, len(value) // count, *value.shape[1:]) for key, value in arrays.items()
        }
        paths_on_host = parts.pop("search_row_sparsity", None)
        return [
            LayerRecord(
                name=name,
                columns=columns,
                budget=float(budgets[index]),
                allocation=allocation,
                score=score_name,
                vectors=vectors[index],
                quality_measure=quality_measure,
                search=None
                if paths_on_host is None
                else _search_record(search_numbers[index], paths_on_host[index]),
                tokens=tokens[index],
                checked=checked,
                **values[index],
                **{key: part[index] for key, part in parts.items()},
            )
            for index, name in enumerate(names)
        ]

    return make


def _all_valid(arrays: dict[str, np.ndarray], columns: int) -> bool:
    """Check the arrays of several layers at once; if this fails, each layer is checked again for a precise error."""
    own = {key: value for key, value in arrays.items() if not key.startswith("search_")}
    numbers = cast(LayerRecordJson, {"rows": len(arrays["counts"]), "columns": columns})
    try:
        check_arrays("some layers", own, numbers)
    except RunError:
        return False
    return bool(np.isfinite(arrays.get("search_row_sparsity", 0)).all())


def _search_numbers(search: SearchResult[Tensor], curves: RetentionCurves) -> dict[str, Any]:
    """Return the fields of the record of a search on these curves, except for the row sparsities."""
    trace, rate = search.trace, search.learning_rate
    exact = trace.exact_quality
    if exact is None:
        result = search.converted(lambda values: values.cpu().numpy())
        exact = torch.from_numpy(exact_qualities(curves, result))
    return {
        "learning_rate": rate,
        "best_iteration": 0 if rate is None else trace.best_iteration(rate),
        "tried": tuple(search.tried),
        "layer_quality": search.layer_quality,
        "uniform_quality": search.uniform_quality,
        "rates": np.asarray(trace.rates, dtype=np.float64),
        "quality": _owned(trace.quality.numpy(), "float64"),
        "row_variance": _owned(trace.row_variance.numpy(), "float64"),
        "exact_quality": _owned(exact.numpy(), "float64"),
    }


def _search_record(numbers: dict[str, Any], path: np.ndarray) -> SearchRecord:
    """Return the record of a search; `path`: (K + 1, D) float32, x through the iterations of one rate."""
    return SearchRecord(**numbers, row_sparsity=path[:1].copy() if numbers["learning_rate"] is None else path)


def apply_record(weight: Tensor, record: LayerRecord) -> None:
    """Apply the record's mask and, where it has them, its changed weights to a layer's weight (D, N), in place.

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
        keep=layer.curves.keep_mask(result.counts) if with_mask else None,
    )


def _start_copies(
    numbers: dict[str, Tensor], tensors: dict[str, Tensor], layers: int = 1
) -> Callable[[], tuple[list[dict[str, Any]], dict[str, Any]]]:
    """Start to copy numbers and arrays from a GPU, in the types of `ARRAYS`.

    Args:
        numbers: (layers,) each, by name.
        tensors: arrays of all layers, row after row, by their names in `ARRAYS`.
        layers: the number of layers.

    Returns:
        A function that waits for the copies, and returns each layer's numbers, and the arrays of all layers.
    """
    # `wait` must not refer to tensors on a GPU: they would stay in its memory until it is called.
    names, types = list(numbers), {key: ARRAYS[key][0] for key in tensors}
    sources = [torch.stack(list(numbers.values()))]
    for key, values in tensors.items():
        sources.append(values.to(getattr(torch, types[key])) if values.is_cuda else values)
    copies = [values.detach().contiguous().to("cpu", non_blocking=True) for values in sources]
    from_host = [not values.is_cuda for values in tensors.values()]
    devices = {values.device for values in sources if values.is_cuda}
    events = [torch.cuda.current_stream(device).record_event() for device in devices]

    def wait() -> tuple[list[dict[str, Any]], dict[str, Any]]:
        for event in events:
            event.synchronize()
        by_layer = copies[0].view(len(names), layers).T.tolist()
        arrays = {}
        for (key, dtype), copy, shared in zip(types.items(), copies[1:], from_host, strict=True):
            arrays[key] = _owned(copy.numpy(), dtype) if shared else copy.numpy()
        return [dict(zip(names, each, strict=True)) for each in by_layer], arrays

    return wait


def _owned(values: np.ndarray, dtype: str) -> np.ndarray:
    """Copy an array, because the caller may change its memory."""
    return np.array(values, dtype=dtype, order="C")
