"""Make the records of a run and of a layer from tensors, and apply them to the layer's weight."""

import platform
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
import transformers
from torch import Tensor

from trim.cache import text_sha256
from trim.errors import RunError
from trim.methods.allocations import Allocation, MaskRetained, ScoredLayer
from trim.methods.choices import SOLVERS
from trim.methods.counts import uniform_counts
from trim.methods.gini import gini
from trim.methods.masks import apply_mask, pack_bits
from trim.methods.quality import layer_quality
from trim.methods.retention import Retained, RetentionCurves, dense_curves
from trim.methods.search import exact_qualities
from trim.methods.search_types import SearchResult
from trim.runs.record import ARRAYS, LayerRecord, SearchRecord, check_arrays, curve_counts
from trim.runs.run_record import Compute, ModelFacts, RunRecord, TextFacts
from trim.runs.settings import PruneSettings
from trim.runs.shapes import LayerNumbers
from trim.runs.weight_changes import Change, weight_change


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
    values, arrays = _stored(numbers, tensors)
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
    return layer_records(
        [name],
        layer,
        [Allocation(counts, search=search, retained=retained)],
        budgets=[budget],
        allocation=allocation,
        score_name=score_name,
        quality_measure=quality_measure,
        keep=keep,
        change=change,
        tokens=[tokens],
    )[0]


def layer_records(
    names: Sequence[str],
    layers: ScoredLayer,
    allocations: Sequence[Allocation],
    *,
    budgets: Sequence[float],
    allocation: str,
    score_name: str,
    quality_measure: str,
    keep: Tensor | None,
    change: Change | None = None,
    tokens: Sequence[int | None],
) -> list[LayerRecord]:
    """Return the records of layers that were swept together, each as `layer_record` makes it.

    What is retained in another way than by lowest scores, and a change of weights, are of a single layer.
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
    values, arrays = _stored(numbers, tensors, curves.layers)
    checked = len(names) > 1 and _sound(arrays, curves.columns)
    parts: dict[str, Any] = {key: np.split(value, curves.layers) for key, value in arrays.items()}
    paths_on_host = parts.pop("search_row_sparsity", [])
    records = []
    for place, (name, each) in enumerate(zip(names, curves.apart(), strict=True)):
        search = _search_record(each, searches[place], paths_on_host[place]) if searches else None
        records.append(
            LayerRecord(
                name=name,
                columns=curves.columns,
                budget=float(budgets[place]),
                allocation=allocation,
                score=score_name,
                vectors=curves.vectors_of_layers[place],
                quality_measure=quality_measure,
                search=search,
                tokens=tokens[place],
                checked=checked,
                **values[place],
                **{key: part[place] for key, part in parts.items()},
            )
        )
    return records


def _sound(arrays: dict[str, np.ndarray], columns: int) -> bool:
    """Check the arrays of several layers at once; where something is wrong, the check of each layer says what."""
    own = {key: value for key, value in arrays.items() if not key.startswith("search_")}
    numbers = cast(LayerNumbers, {"rows": len(arrays["counts"]), "columns": columns})
    try:
        check_arrays("some layers", own, numbers)
    except RunError:
        return False
    return bool(np.isfinite(arrays.get("search_row_sparsity", 0)).all())


def _search_record(curves: RetentionCurves, search: SearchResult[Tensor], path: np.ndarray) -> SearchRecord:
    """Return the record of a search on these curves.

    `path`: (K + 1, D) float32, x through the iterations of its rate, or of any where none was chosen.
    """
    trace, rate = search.trace, search.learning_rate
    exact = trace.exact_quality
    if exact is None:
        result = search.converted(lambda values: values.cpu().numpy())
        exact = torch.from_numpy(exact_qualities(curves, result))
    return SearchRecord(
        learning_rate=rate,
        best_iteration=0 if rate is None else trace.best_iteration(rate),
        tried=tuple(search.tried),
        layer_quality=search.layer_quality,
        uniform_quality=search.uniform_quality,
        rates=np.asarray(trace.rates, dtype=np.float64),
        quality=_typed(trace.quality.numpy(), "float64"),
        row_variance=_typed(trace.row_variance.numpy(), "float64"),
        row_sparsity=path[:1].copy() if rate is None else path,
        exact_quality=_typed(exact.numpy(), "float64"),
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
        keep=layer.curves.keep_mask(result.counts) if with_mask else None,
    )


def _stored(
    numbers: dict[str, Tensor], tensors: dict[str, Tensor], layers: int = 1
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return each layer's numbers, all of one type, and the arrays of all in the type that a record has them in.

    All copies from a GPU, which converts them, are under way before any is waited for.
    """
    given = [torch.stack(list(numbers.values()))]
    for key, values in tensors.items():
        given.append(values.to(getattr(torch, ARRAYS[key][0])) if values.is_cuda else values)
    copies = [values.detach().contiguous().to("cpu", non_blocking=True) for values in given]
    for device in {values.device for values in given if values.is_cuda}:
        torch.cuda.current_stream(device).synchronize()
    of_layers = copies[0].view(len(numbers), layers).T.tolist()
    arrays = {}
    for (key, values), copy in zip(tensors.items(), copies[1:], strict=True):
        arrays[key] = copy.numpy() if values.is_cuda else _typed(copy.numpy(), ARRAYS[key][0])
    return [dict(zip(numbers, each, strict=True)) for each in of_layers], arrays


def _typed(values: np.ndarray, dtype: str) -> np.ndarray:
    """Copy an array, so that the record owns it."""
    return np.array(values, dtype=dtype, order="C")
