"""Every row of a run as columns of one table."""

import numpy as np

from trim.runs.folder import Run

_KEYS = ("counts", "gini", "weight_norm", "cosine_uniform", "cosine", "dead_rows")


def row_columns(run: Run) -> dict[str, np.ndarray]:
    """A line per row of every layer that is done, in the model's order: where it is, and what the run keeps of it.

    Raises:
        RunError: a file of the run is damaged or gone.
    """
    columns: dict[str, list[np.ndarray]] = {}
    for name in run.layers:
        numbers = run.numbers(name)
        rows = numbers["rows"]
        part = {
            "layer": np.full(rows, name),
            "row": np.arange(rows),
            "weights": np.full(rows, numbers["columns"]),
            **{key: run.array(name, key) for key in _KEYS},
        }
        part["row_sparsity"] = part["counts"] / numbers["columns"]
        for key, values in part.items():
            columns.setdefault(key, []).append(values)
    return {key: np.concatenate(parts) for key, parts in columns.items()}
