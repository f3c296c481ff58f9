"""Describe an X-ray in sentences and in a table. Imports no torch."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from trim.names import format_bytes

if TYPE_CHECKING:
    from trim.evaluation.agreement import Agreement
    from trim.evaluation.xray import Xray
    from trim.evaluation.xray_layer import LayerXray

MAX_NAMES_LISTED = 5  # in one sentence
MASK_TITLES = {
    "rows": "Wanda at the checkpoint's row counts",
    "uniform": "Wanda, uniform",
    "trim": "TRIM",
    "optimal": "optimal allocation",
}


def findings(xray: Xray) -> list[str]:
    """Return the findings in sentences, computed from the numbers, the most important first."""
    return list(_findings(xray))


def _findings(xray: Xray) -> Iterator[str]:
    pruned = [layer for layer in xray.layers if layer.zeros]
    weights = f"{xray.weights:,} weights in {len(xray.layers):,} layers"
    if pruned:
        sparsities = [layer.sparsity for layer in xray.layers]
        least, most = f"{min(sparsities):.1%}", f"{max(sparsities):.1%}"
        yield f"{xray.sparsity:.1%} of its {weights} are zero; " + (
            f"every layer has {least}." if least == most else f"a layer has from {least} to {most}."
        )
        yield _rows(pruned)
        yield _pattern(pruned)
        dead = {
            kind: sum(getattr(layer, f"dead_{kind}") for layer in xray.layers) for kind in ("rows", "columns")
        }
        if some := [
            f"{count:,} {kind[:-1] if count == 1 else kind}" for kind, count in dead.items() if count
        ]:
            yield f"{' and '.join(some)} {'is' if sum(dead.values()) == 1 else 'are'} zero throughout."
        saving, packing = 1 - xray.bytes_packed / xray.bytes_on_disk, "packing would save nothing."
        if saving > 0:
            packing = (
                "without the zeros and with one bit a weight for their places it would take "
                f"{format_bytes(xray.bytes_packed)}, {saving:.0%} less."
            )
        yield f"It takes {format_bytes(xray.bytes_on_disk)} on the disk; {packing}"
        if xray.parent is not None:
            yield from _against_parent(xray)
    else:
        yield f"Not pruned: none of its {weights} is zero."
    if broken := [layer for layer in xray.layers if layer.not_finite]:
        count = sum(layer.not_finite for layer in broken)
        yield f"{count:,} weights are NaN or infinite, in {_list([layer.name for layer in broken])}."
    if xray.quantized:
        kinds = ", ".join(sorted(set(xray.quantized.values())))
        yield (
            f"{len(xray.quantized):,} more layers are quantized (type {kinds}) and left out: "
            f"{_list(list(xray.quantized))}. Their numbers are codes, and a code of 0 is not a weight of 0."
        )
    if xray.damaged:
        yield from xray.damaged[:MAX_NAMES_LISTED]
        if (more := len(xray.damaged) - MAX_NAMES_LISTED) > 0:
            yield f"{more:,} more files are damaged."
        some_lost = "1 tensor is" if len(xray.lost) == 1 else f"{len(xray.lost):,} tensors are"
        lost = f"{some_lost} lost with it: {_list(xray.lost)}. " if xray.lost else ""
        yield f"{lost}All numbers describe the other tensors."


def _rows(pruned: list[LayerXray]) -> str:
    """Describe whether rows differ in sparsity."""
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
    """Describe the n:m patterns, and where they are broken."""
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


def _against_parent(xray: Xray) -> Iterator[str]:
    """Describe the changes from the parent."""
    pairs = [(layer, layer.parent) for layer in xray.layers if layer.parent is not None]
    if xray.unmatched:
        yield f"{xray.parent} has no layer of the same name and shape for {_list(xray.unmatched)}."
    if not pairs:
        return
    before = sum(parent.zeros_before for _, parent in pairs)
    yield f"{before:,} weights were zero in {xray.parent} already."
    if revived := sum(parent.revived for _, parent in pairs):
        yield f"{revived:,} of these are not zero any more."
    if moved := [(parent.moved, layer.name) for layer, parent in pairs if parent.changed]:
        most, where = max(moved)
        yield (
            f"Kept weights changed in {len(moved):,} of {len(pairs):,} layers, most in {where}, by {most:.1%} of "
            "their norm."
        )
    else:
        yield "Every kept weight is as it was: pruned, not trained or refitted."
    if shared := [parent.magnitude for layer, parent in pairs if layer.zeros]:
        yield (
            "Of the weights that it or the smallest-weights mask keeps, at the same sparsity of each row, both keep "
            f"{sum(shared) / len(shared):.1%}."
        )


def _list(names: list[str] | tuple[str, ...]) -> str:
    more = len(names) - MAX_NAMES_LISTED
    return ", ".join(names[:MAX_NAMES_LISTED]) + (f" and {more:,} more" if more > 0 else "")


def by_kind(xray: Xray) -> list[dict[str, object]]:
    """Return a table with a row for each kind of layer; values by column title."""
    kinds: Mapping[str, list[LayerXray]] = defaultdict(list)
    for layer in xray.layers:
        kinds[layer_kind(layer.name)].append(layer)
    return [_row(kind, layers) for kind, layers in kinds.items()]


def layer_kind(name: str) -> str:
    """Return a layer's name without its numbers: "15.mlp.gate_proj" gives "mlp.gate_proj"."""
    return ".".join(part for part in name.split("[")[0].split(".") if not part.isdigit())


def _row(kind: str, layers: list[LayerXray]) -> dict[str, object]:
    """Return one row of the table of `by_kind`."""
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


def xray_to_json(xray: Xray) -> dict:
    """Return everything but the numbers of single rows and columns, as plain JSON."""
    return {
        "title": xray.title,
        "parent": xray.parent,
        "sparsity": xray.sparsity,
        "weights": xray.weights,
        "bytes_on_disk": xray.bytes_on_disk,
        "bytes_packed": xray.bytes_packed,
        "pattern": None if xray.pattern is None else str(xray.pattern),
        "quantized": dict(xray.quantized),
        "damaged": list(xray.damaged),
        "lost": list(xray.lost),
        "findings": findings(xray),
        "layers": [_layer_to_json(layer) for layer in xray.layers],
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


def mean_agreement(agreements: list[Agreement]) -> dict[str, float]:
    """Return the mean agreement of each method over the layers for which it has a mask."""
    shares = {method: [each.kept_by_both.get(method) for each in agreements] for method in MASK_TITLES}
    known = {method: [share for share in values if share is not None] for method, values in shares.items()}
    return {method: sum(values) / len(values) for method, values in known.items() if values}
