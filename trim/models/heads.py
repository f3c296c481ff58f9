"""The attention heads of a model, from its configuration, and the rows or columns of a layer that each head owns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from trim.row_parts import RowPart

if TYPE_CHECKING:
    from transformers import PretrainedConfig

# The last parts of the names that architectures give to the layers of attention.
KINDS = {
    "query": {"q_proj", "q_lin", "q", "query", "wq"},
    "key": {"k_proj", "k_lin", "k", "key", "wk"},
    "value": {"v_proj", "v_lin", "v", "value", "wv"},
    "output": {"o_proj", "out_proj", "out_lin", "out", "dense", "c_proj", "wo"},
}
_NAMES = {"q": "query", "k": "key", "v": "value"}  # of parts of fused layers


@dataclass(frozen=True)
class HeadLayout:
    """The attention heads of a model.

    Attributes:
        query: the number of query heads.
        key_value: the number of key heads and of value heads; each serves `query / key_value` query heads.
        size: the rows of one head.
    """

    query: int
    key_value: int
    size: int

    @classmethod
    def of(cls, config: PretrainedConfig) -> HeadLayout | None:
        """Read the layout from a model's configuration; None where it does not say."""
        text = config.get_text_config()

        def number(*names: str) -> int | None:
            return next((int(value) for name in names if (value := getattr(text, name, None))), None)

        try:
            query, width = number("num_attention_heads"), number("hidden_size")
            if query is None or width is None:
                return None
            key_value = number("num_key_value_heads") or query
            size = number("head_dim") or (width // query if width % query == 0 else None)
        except RuntimeError:  # raised by transformers where heads differ between blocks
            return None
        return None if size is None else cls.checked(query, key_value, size)

    @classmethod
    def checked(cls, query: int, key_value: int, size: int) -> HeadLayout | None:
        """Return the layout; None where the key heads do not divide the query heads."""
        return None if query % key_value else cls(query, key_value, size)


@dataclass(frozen=True)
class LayerHeads:
    """The heads of one layer: each owns `size` consecutive rows, or columns.

    Attributes:
        axis: "rows" for query, key and value projections, "columns" for the output projection.
        size: rows or columns of one head.
        names: the heads' names in their order: "head 3", "key head 1 (of query heads 3 to 5)".
        starts: the first row of each head; empty: the heads follow each other.
    """

    axis: Literal["rows", "columns"]
    size: int
    names: tuple[str, ...]
    starts: tuple[int, ...] = ()

    @property
    def order(self) -> np.ndarray:
        """Return the rows, or columns, in the order of the heads."""
        starts = self.starts or range(0, self.size * len(self.names), self.size)
        return (np.asarray(starts)[:, None] + np.arange(self.size)).ravel()


def layer_heads(
    name: str, shape: tuple[int, int], layout: HeadLayout | None, parts: Sequence[RowPart] = ()
) -> LayerHeads | None:
    """Return the heads of a layer.

        layer_heads("15.self_attn.k_proj", (192, 576), HeadLayout.of(model.module.config)).names

    Args:
        name: the layer's name, such as "15.self_attn.q_proj".
        shape: D and N.
        layout: the model's; None: not known.
        parts: the parts of a fused layer.

    Returns:
        None where the layer does not belong to attention, or its shape does not match its name and the layout.
    """
    joined = [part for part in parts if part.name in _NAMES]
    if layout is not None and joined and {part.rows for part in joined} == {layout.size}:
        names = [_names(_NAMES[part.name], layout, len(part.starts)) for part in joined]
        starts = tuple(start for part in joined for start in part.starts)
        return LayerHeads("rows", layout.size, tuple(name for each in names for name in each), starts)
    *path, last = name.split(".")
    if layout is None or not any("attn" in part.lower() or "attention" in part.lower() for part in path):
        return None
    kind, size = next((kind for kind, names in KINDS.items() if last in names), ""), layout.size
    heads = layout.key_value if kind in ("key", "value") else layout.query
    axis: Literal["rows", "columns"] = "columns" if kind == "output" else "rows"
    if not kind or shape[axis == "columns"] != size * heads:
        return None
    return LayerHeads(axis, size, _names(kind if kind in ("key", "value") else "", layout, heads))


def _names(kind: str, layout: HeadLayout, heads: int) -> tuple[str, ...]:
    each = layout.query // heads if kind in ("key", "value") else 1
    return tuple(
        f"{kind} head {head}".strip()
        + (f" (of query heads {head * each} to {(head + 1) * each - 1})" if each > 1 else "")
        for head in range(heads)
    )
