"""A number of a layer's rows, or columns, by attention head: do heads differ, and does pruning remove whole ones?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diagnostics.numeric import quartiles, real_array

WHOLE = 0.95  # a head whose pruned share is at least this counts as removed: only the row caps keep the rest


@dataclass(frozen=True, eq=False)
class HeadNumbers:
    """A number of each row by head.

    Attributes:
        label: the number's name.
        names: the H heads' names.
        means: (H,) of each head's rows; NaN: its rows have no number.
        quartiles: (H, 3) of each head's rows; NaN likewise.
        between: the share of the variance of all rows that is between the means of heads; None if rows do not differ.
        chance: the mean of that share if rows were assigned to heads at random.
    """

    label: str
    names: tuple[str, ...]
    means: np.ndarray
    quartiles: np.ndarray
    between: float | None
    chance: float


def by_head(label: str, values: np.ndarray, names: Sequence[str]) -> HeadNumbers:
    """Group a number of the rows (D,), NaN where a row has none, by head: each head has D / H consecutive rows.

    Raises:
        ValueError: the rows do not divide into as many heads as there are names.
    """
    values = real_array(label, values, 1, finite=False).astype(np.float64)
    if not names or len(values) % len(names):
        raise ValueError(f"{len(values)} rows do not divide into {len(names)} heads")
    heads = values.reshape(len(names), -1)
    finite = np.isfinite(heads)
    counts = finite.sum(axis=1)
    means = np.where(counts > 0, np.where(finite, heads, 0).sum(axis=1) / np.maximum(counts, 1), np.nan)
    rows, used = int(counts.sum()), int((counts > 0).sum())
    between = None
    if rows and (total := float(np.square(heads[finite] - heads[finite].mean()).sum())) > 0:
        deviations = counts * np.square(np.nan_to_num(means) - heads[finite].mean())
        between = float(deviations.sum()) / total
    chance = (used - 1) / (rows - 1) if rows > 1 else 0.0
    return HeadNumbers(label, tuple(names), means, np.array(list(map(quartiles, heads))), between, chance)
