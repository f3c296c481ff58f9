"""A run in a few lines of text."""

from dataclasses import dataclass

import numpy as np

from trim.names import every_expert, path_in_block, text_table
from trim.runs.folder import Run
from trim.runs.shapes import LayerRecordJson


def summary(run: Run) -> str:
    """Return a table with one line per layer type, and the totals.

    A layer of all experts is one type. Sparsities are of layers; Gini is the median over rows; the qualities (such as
    cosim_flat) are means over layers at exact counts; "error left" is the part of the output error that refitting left,
    a mean too; + / - / 0 counts the layers whose learning rate was positive, negative, or none.
    """
    types: dict[str, list[_Layer]] = {}
    for name in run.layers:
        types.setdefault(path_in_block(every_expert(name) or name), []).append(_read(run, name))
    lines = text_table([_row(kind, layers) for kind, layers in types.items()])
    if run.layers:
        measure = run.numbers(run.layers[0])["quality_measure"]
        lines.append(f"quality: {measure}, mean over layers")
    if sparsity := run.metrics.get("sparsity"):
        lines.append(
            f"model sparsity: {sparsity['realised']:.6f} (requested: {sparsity['requested']:.6f}), "
            f"{run.metrics['weights']['pruned']:,} of {run.metrics['weights']['of']:,} weights"
        )
    if run.structure.dense:
        lines.append(f"stays dense: {'; '.join(run.structure.dense)}")
    return "\n".join(lines)


@dataclass(frozen=True)
class _Layer:
    """What the table needs of a layer: its numbers, its sparsity, and the Gini coefficients that its rows have."""

    numbers: LayerRecordJson
    sparsity: float
    gini: np.ndarray


def _read(run: Run, name: str) -> _Layer:
    numbers, arrays = run.numbers(name), run.arrays(name, "counts", "gini")
    pruned = int(arrays["counts"].sum(dtype=np.int64))
    gini = arrays["gini"]
    return _Layer(numbers, pruned / (numbers["rows"] * numbers["columns"]), gini[~np.isnan(gini)])


def _row(kind: str, layers: list[_Layer]) -> dict[str, str]:
    """Return one row of the table, for the layers of one type."""
    numbers, sparsities = [each.numbers for each in layers], [each.sparsity for each in layers]
    gini = np.concatenate([each.gini for each in layers])
    searches = [of["search"]["learning_rate"] for of in numbers if "search" in of]
    signs = [
        sum(rate is not None and rate > 0 for rate in searches),
        sum(rate is not None and rate < 0 for rate in searches),
        sum(rate is None for rate in searches),
    ]
    left = [float(of["error_left"]) for of in numbers if "error_left" in of]
    return {
        "layer type": kind,
        "layers": str(len(layers)),
        "sparsity": f"{np.mean(sparsities):.4f}",
        "lowest": f"{min(sparsities):.4f}",
        "highest": f"{max(sparsities):.4f}",
        "Gini": f"{np.median(gini):.3f}" if gini.size else "none",
        "uniform": f"{np.mean([float(of['uniform_quality']) for of in numbers]):.4f}",
        "realised": f"{np.mean([float(of['realised_quality']) for of in numbers]):.4f}",
        "error left": f"{np.mean(left):.4f}" if left else "-",
        "+ / - / 0": " / ".join(map(str, signs)) if searches else "-",
    }
