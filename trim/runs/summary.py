"""A run in a few lines of text."""

import numpy as np

from trim.names import path_in_block, text_table
from trim.runs.folder import Run


def summary(run: Run) -> str:
    """Return a table with one line per layer type, and the totals.

    Sparsities are of layers; Gini is the median over rows; the qualities (such as cosim_flat) are means over layers
    at exact counts; "error left" is the part of the output error that refitting left, a mean too; + / - / 0 counts the
    layers whose learning rate was positive, negative, or none.
    """
    types: dict[str, list[str]] = {}
    for name in run.layers:
        types.setdefault(path_in_block(name), []).append(name)
    lines = text_table([_row(run, kind, names) for kind, names in types.items()])
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


def _row(run: Run, kind: str, names: list[str]) -> dict[str, str]:
    """Return one row of the table, for the layers of one type."""
    numbers = [run.numbers(name) for name in names]
    sparsities = [
        run.array(name, "counts").sum(dtype=np.int64) / (of["rows"] * of["columns"])
        for name, of in zip(names, numbers, strict=True)
    ]
    gini = np.concatenate([run.array(name, "gini") for name in names])
    gini = gini[~np.isnan(gini)]
    searches = [of["search"]["learning_rate"] for of in numbers if "search" in of]
    signs = [
        sum(rate is not None and rate > 0 for rate in searches),
        sum(rate is not None and rate < 0 for rate in searches),
        sum(rate is None for rate in searches),
    ]
    left = [float(of["error_left"]) for of in numbers if "error_left" in of]
    return {
        "layer type": kind,
        "layers": str(len(names)),
        "sparsity": f"{np.mean(sparsities):.4f}",
        "lowest": f"{min(sparsities):.4f}",
        "highest": f"{max(sparsities):.4f}",
        "Gini": f"{np.median(gini):.3f}" if gini.size else "none",
        "uniform": f"{np.mean([float(of['uniform_quality']) for of in numbers]):.4f}",
        "realised": f"{np.mean([float(of['realised_quality']) for of in numbers]):.4f}",
        "error left": f"{np.mean(left):.4f}" if left else "-",
        "+ / - / 0": " / ".join(map(str, signs)) if searches else "-",
    }
