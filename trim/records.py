"""From tensors to what a run keeps of a layer."""

import numpy as np
import torch
from torch import Tensor

from trim.concentration import gini
from trim.layer_record import LayerRecord, SearchRecord, curve_counts
from trim.masks import keep_mask, pack_bits, uniform_counts
from trim.quality import layer_quality
from trim.retention import Retained, RetentionCurves
from trim.search import SearchResult


def layer_record(
    name: str,
    curves: RetentionCurves,
    score: Tensor,
    counts: Tensor,
    *,
    budget: float,
    allocation: str,
    score_name: str,
    search: SearchResult | None = None,
    quality_measure: str = "cosim_flat",
    retained: Retained | None = None,
    keep: Tensor | None = None,
    sensitivity: Tensor | None = None,
) -> LayerRecord:
    """The record of one layer.

    Args:
        name: such as "15.mlp.gate_proj".
        curves: its retention curves.
        score: (D, N), what the curves were ordered by.
        counts: (D,) exact pruned weights of each row.
        budget: the layer's sparsity as it was asked for.
        allocation, score_name: who set the counts, and what the score is called.
        search: TRIM's result, where TRIM searched.
        quality_measure: which layer quality is recorded at the exact counts.
        retained: what is retained; None: of `counts` lowest scores in each row.
        keep: (D, N) bool, the mask to store; None: none is stored.
        sensitivity: (D,) the rows' weights of the optimal allocation; None: it was not used.
    """
    pruned = int(counts.sum())
    uniform = uniform_counts(curves.rows, pruned / (curves.rows * curves.columns), curves.columns, 1.0)
    before = curves.at(uniform.to(curves.dot.device))
    after = curves.at(counts.to(curves.dot.device)) if retained is None else retained
    grid = torch.from_numpy(curve_counts(curves.columns)).to(curves.dot.device)
    return LayerRecord(
        name=name,
        columns=curves.columns,
        budget=float(budget),
        allocation=allocation,
        score=score_name,
        vectors=curves.vectors,
        quality_measure=quality_measure,
        uniform_quality=float(layer_quality(before, quality_measure)),
        realised_quality=float(layer_quality(after, quality_measure)),
        counts=_numpy(counts, np.int32),
        gini=_numpy(gini(score, curves.order), np.float32),
        weight_norm=_numpy(torch.linalg.vector_norm(curves.weight, dim=1, dtype=torch.float32), np.float32),
        cosine_uniform=_numpy(before.cosine, np.float32),
        cosine=_numpy(after.cosine, np.float32),
        cosine_curve=_numpy(curves.cosine_at(grid), np.float16),
        dead_rows=_numpy(curves.dead_rows, np.bool_),
        search=None if search is None else search_record(search),
        sensitivity=None if sensitivity is None else _numpy(sensitivity, np.float32),
        packed_mask=None if keep is None else pack_bits(keep),
    )


def search_record(result: SearchResult) -> SearchRecord:
    """What a run keeps of a search."""
    trace = result.trace
    if result.learning_rate is None:
        iteration, path = 0, trace.row_sparsity[0, :1]
    else:
        iteration = trace.best_iteration(result.learning_rate)
        path = trace.row_sparsity[trace.rates.index(result.learning_rate)]
    return SearchRecord(
        learning_rate=result.learning_rate,
        best_iteration=iteration,
        tried=tuple(result.tried),
        layer_quality=result.layer_quality,
        uniform_quality=result.uniform_quality,
        rates=np.asarray(trace.rates, dtype=np.float64),
        quality=_numpy(trace.quality, np.float64),
        row_variance=_numpy(trace.row_variance, np.float64),
        row_sparsity=_numpy(path, np.float32),
    )


def record_of_search(
    name: str,
    curves: RetentionCurves,
    score: Tensor,
    result: SearchResult,
    *,
    score_name: str,
    with_mask: bool = False,
) -> LayerRecord:
    """The record of a TRIM search that somebody made by hand, for keeping it as a run of one layer."""
    return layer_record(
        name,
        curves,
        score,
        result.counts,
        budget=result.settings.target_sparsity,
        allocation="trim",
        score_name=score_name,
        search=result,
        quality_measure=result.settings.layer_quality,
        keep=keep_mask(curves.ranks, result.counts) if with_mask else None,
    )


def _numpy(values: Tensor, dtype: type) -> np.ndarray:
    return np.ascontiguousarray(values.detach().cpu().numpy().astype(dtype))
