"""Describe an X-ray in sentences and in a table. Imports no torch."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from trim.names import format_bytes

if TYPE_CHECKING:
    from trim.evaluation.agreement import Agreement
    from trim.evaluation.xray import Xray
    from trim.evaluation.xray_layer import LayerXray

MAX_NAMES_LISTED = 5  # in one sentence
METHODS = {
    "rows": "Wanda's scores, as many of each row",
    "uniform": "Wanda, rows alike",
    "trim": "TRIM",
    "optimal": "optimal allocation",
}


def findings(found: Xray) -> list[str]:
    """Return the findings in sentences, computed from the numbers, the most important first."""
    pruned = [layer for layer in found.layers if layer.zeros]
    weights = f"{found.weights:,} weights in {len(found.layers):,} layers"
    if not pruned:
        return [
            f"Not pruned: none of its {weights} is zero.",
            *_damage(found),
            *_quantized(found),
            *_lost(found),
        ]
    sparsities = [layer.sparsity for layer in found.layers]
    lines = [
        f"{found.sparsity:.1%} of its {weights} are zero; a layer has from {min(sparsities):.1%} to "
        f"{max(sparsities):.1%}.",
        _rows(pruned),
        _pattern(pruned),
    ]
    dead = [
        (kind, sum(getattr(layer, f"dead_{kind}") for layer in found.layers)) for kind in ("rows", "columns")
    ]
    if some := [f"{count:,} {kind}" for kind, count in dead if count]:
        lines.append(f"{' and '.join(some)} are zero throughout.")
    saving = 1 - found.bytes_packed / found.bytes_on_disk
    lines.append(
        f"It takes {format_bytes(found.bytes_on_disk)} on the disk; without the zeros and with one bit a weight for "
        f"their places it would take {format_bytes(found.bytes_packed)}, {saving:.0%} less."
        if saving > 0
        else f"It takes {format_bytes(found.bytes_on_disk)} on the disk; packing would save nothing."
    )
    return [*lines, *_against_parent(found), *_damage(found), *_quantized(found), *_lost(found)]


def _rows(pruned: list[LayerXray]) -> str:
    spread = [layer.name for layer in pruned if int(layer.row_zeros.max()) - int(layer.row_zeros.min()) > 1]
    if not spread:
        return "Within each layer all rows have the same sparsity, to the weight."
    widest = max(pruned, key=lambda layer: float(layer.row_zeros.std()) / layer.shape[1])
    low, high = (float(end) / widest.shape[1] for end in (widest.row_zeros.min(), widest.row_zeros.max()))
    return (
        f"Rows differ in {len(spread):,} of {len(pruned):,} layers with zeros, most in {widest.name}: from {low:.1%} "
        f"to {high:.1%}."
    )


def _pattern(pruned: list[LayerXray]) -> str:
    fits = [layer for layer in pruned if layer.fit is not None]
    if not fits:
        return "Its zeros follow no n:m pattern of groups of 4, 8 or 16."
    patterns = sorted({str(layer.fit.pattern) for layer in fits if layer.fit})
    where = (
        "every layer with zeros" if len(fits) == len(pruned) else f"{len(fits):,} of {len(pruned):,} layers"
    )
    broken = [layer for layer in fits if layer.fit and layer.fit.broken]
    if not broken:
        return f"The zeros of {where} follow the pattern {' or '.join(patterns)} without an exception."
    worst = max(broken, key=lambda layer: layer.fit.broken if layer.fit else 0)
    assert worst.fit is not None
    assert worst.fit.first is not None
    return (
        f"The zeros of {where} follow the pattern {' or '.join(patterns)}, but not in {len(broken):,} of these "
        f"everywhere: {worst.name} breaks it in {worst.fit.broken:,} of {worst.fit.groups:,} groups, first in row "
        f"{worst.fit.first[0]:,} at column {worst.fit.first[1]:,}."
    )


def _against_parent(found: Xray) -> list[str]:
    if found.parent is None:
        return []
    pairs = [(layer, layer.parent) for layer in found.layers if layer.parent is not None]
    lines = []
    if found.strangers:
        lines.append(f"{found.parent} has no layer of the same name and shape for {_list(found.strangers)}.")
    if not pairs:
        return lines
    before = sum(parent.zeros_before for _, parent in pairs)
    lines.append(f"{before:,} weights were zero in {found.parent} already.")
    if revived := sum(parent.revived for _, parent in pairs):
        lines.append(f"{revived:,} of these are not zero any more.")
    moved = [(parent.moved, layer) for layer, parent in pairs if parent.changed]
    if not moved:
        lines.append("Every kept weight is as it was: pruned, not trained or refitted.")
    else:
        most, where = max(moved, key=lambda each: each[0])
        lines.append(
            f"Kept weights changed in {len(moved):,} of {len(pairs):,} layers, most in {where.name}, by {most:.1%} of "
            "their norm."
        )
    shared = [parent.magnitude for layer, parent in pairs if layer.zeros]
    if shared:
        lines.append(
            f"Of the weights that it or the smallest-weights mask keeps, at the same sparsity of each row, both keep "
            f"{sum(shared) / len(shared):.1%}."
        )
    return lines


def _damage(found: Xray) -> list[str]:
    broken = [layer for layer in found.layers if layer.not_finite]
    if not broken:
        return []
    count = sum(layer.not_finite for layer in broken)
    return [f"{count:,} weights are NaN or infinite, in {_list([layer.name for layer in broken])}."]


def _quantized(found: Xray) -> list[str]:
    if not found.quantized:
        return []
    return [
        f"{len(found.quantized):,} more layers are quantized (type {', '.join(sorted(set(found.quantized.values())))}) "
        f"and left out: {_list(list(found.quantized))}. Their numbers are codes, and a code of 0 is not a weight of 0."
    ]


def _lost(found: Xray) -> list[str]:
    if not found.damaged:
        return []
    lines = list(found.damaged[:MAX_NAMES_LISTED])
    if (more := len(found.damaged) - len(lines)) > 0:
        lines.append(f"So are {more:,} more files.")
    some = "1 tensor is" if len(found.lost) == 1 else f"{len(found.lost):,} tensors are"
    lost = f"{some} lost with it: {_list(found.lost)}. " if found.lost else ""
    return [*lines, f"{lost}All numbers are of the rest."]


def _list(names: list[str] | tuple[str, ...]) -> str:
    more = len(names) - MAX_NAMES_LISTED
    return ", ".join(names[:MAX_NAMES_LISTED]) + (f" and {more:,} more" if more > 0 else "")


def by_kind(found: Xray) -> list[dict[str, object]]:
    """Return one table row for each kind of layer, by column title."""
    kinds: Mapping[str, list[LayerXray]] = defaultdict(list)
    for layer in found.layers:
        kinds[kind_of(layer.name)].append(layer)
    return [_row(kind, layers) for kind, layers in kinds.items()]


def kind_of(name: str) -> str:
    """Return a layer's name without its numbers: "15.mlp.gate_proj" gives "mlp.gate_proj"."""
    return ".".join(part for part in name.split("[")[0].split(".") if not part.isdigit())


def _row(kind: str, layers: list[LayerXray]) -> dict[str, object]:
    sparsities = [layer.sparsity for layer in layers]
    ginis = [layer.median_gini for layer in layers if not math.isnan(layer.median_gini)]
    return {
        "Layers": kind,
        "Number": len(layers),
        "Sparsity": sum(layer.zeros for layer in layers) / sum(layer.weights for layer in layers),
        "Lowest": min(sparsities),
        "Highest": max(sparsities),
        "Spread of rows": max(float(layer.row_zeros.std()) / layer.shape[1] for layer in layers),
        "Gini of kept": sum(ginis) / len(ginis) if ginis else None,
        "Dead rows": sum(layer.dead_rows for layer in layers),
        "Dead columns": sum(layer.dead_columns for layer in layers),
    }


def to_json(found: Xray) -> dict:
    """Return everything but the numbers of single rows and columns, as plain JSON."""
    return {
        "title": found.title,
        "parent": found.parent,
        "sparsity": found.sparsity,
        "weights": found.weights,
        "bytes_on_disk": found.bytes_on_disk,
        "bytes_packed": found.bytes_packed,
        "pattern": None if found.pattern is None else str(found.pattern),
        "quantized": dict(found.quantized),
        "damaged": list(found.damaged),
        "lost": list(found.lost),
        "findings": findings(found),
        "layers": [_layer_to_json(layer) for layer in found.layers],
    }


def _layer_to_json(layer: LayerXray) -> dict:
    fit, parent = layer.fit, layer.parent
    return {
        "name": layer.name,
        "tensor": layer.tensor,
        "shape": layer.shape,
        "dtype": layer.dtype,
        "sparsity": layer.sparsity,
        "dead_rows": layer.dead_rows,
        "dead_columns": layer.dead_columns,
        "median_gini": None if math.isnan(layer.median_gini) else layer.median_gini,
        "not_finite": layer.not_finite,
        "pattern": None if fit is None else str(fit.pattern),
        "groups_that_break_it": None if fit is None else fit.broken,
        "parent": None if parent is None else vars(parent),
    }


def mean_agreement(found: list[Agreement]) -> dict[str, float]:
    """Return by method the mean over the layers that have it."""
    shares = {method: [each.kept_by_both.get(method) for each in found] for method in METHODS}
    known = {method: [share for share in values if share is not None] for method, values in shares.items()}
    return {method: sum(values) / len(values) for method, values in known.items() if values}
