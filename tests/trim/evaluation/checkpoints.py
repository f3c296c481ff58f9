"""How tests prune a tiny checkpoint, and the layer that they look at."""

from collections.abc import Callable

import numpy as np

LAYER = "1.mlp.up_proj"
TENSOR = "model.layers.1.mlp.up_proj.weight"


def smallest_of_rows(share: float) -> Callable[[str, np.ndarray], np.ndarray]:
    """Return the change that prunes the smallest magnitudes of each row."""

    def change(name: str, weight: np.ndarray) -> np.ndarray:
        count = round(share * weight.shape[1])
        np.put_along_axis(weight, np.abs(weight).argsort(axis=1, kind="stable")[:, :count], 0, axis=1)
        return weight

    return change
