"""Name the rows of a fused layer that belong together: queries, keys and values by head, gate and up."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np


@dataclass(frozen=True)
class RowPart:
    """Rows of one kind in a layer, in segments of equal length: one for each head, or a single one.

    Attributes:
        name: such as "q", "k", "v", "gate" or "up".
        rows: number of rows of a segment.
        starts: the first row of each segment.
    """

    name: str
    rows: int
    starts: tuple[int, ...]

    def members(self) -> np.ndarray:
        """Return the indices of the rows, (segments, rows)."""
        return np.asarray(self.starts)[:, None] + np.arange(self.rows)


@dataclass(frozen=True)
class Structure:
    """Facts of a model's blocks besides the shapes of their layers.

    Attributes:
        dense: a line for each kind of weights that always stays dense, such as convolutions.
        parts: the parts of each fused layer, by its name ("15.self_attn.qkv_proj"), or by its path
            ("self_attn.qkv_proj") where they are the same in all blocks.
    """

    dense: tuple[str, ...] = ()
    parts: Mapping[str, tuple[RowPart, ...]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.dense or self.parts)

    def layer_parts(self, layer: str) -> tuple[RowPart, ...]:
        """Return the parts of a layer; empty if they are not known."""
        return self.parts.get(layer, self.parts.get(layer.partition(".")[2], ()))

    def to_json(self) -> dict:
        """Return plain JSON, as `config.json` of a run holds it."""
        parts = {name: [asdict(part) for part in each] for name, each in self.parts.items()}
        return {"dense": list(self.dense), "parts": parts}


def row_labels(parts: Sequence[RowPart], rows: int) -> list[str]:
    """Label each row by its part, and by its segment if there are several: "q 0", "q 1", "gate"; "": no part."""
    labels = [""] * rows
    for part in parts:
        for segment, start in enumerate(part.starts):
            label = part.name if len(part.starts) == 1 else f"{part.name} {segment}"
            labels[start : start + part.rows] = [label] * part.rows
    return labels
