"""The attention heads of a model, from its configuration: which rows or columns of a layer belong to which."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from transformers import PretrainedConfig

# What the architectures call the layers of attention, by the last part of their names.
KINDS = {
    "query": {"q_proj", "q_lin", "q", "query", "wq"},
    "key": {"k_proj", "k_lin", "k", "key", "wk"},
    "value": {"v_proj", "v_lin", "v", "value", "wv"},
    "output": {"o_proj", "out_proj", "out_lin", "out", "dense", "c_proj", "wo"},
    "joined": {"c_attn", "qkv_proj", "qkv", "Wqkv"},  # all queries, then all keys, then all values
    "joined by head": {"query_key_value"},  # query, key and value of one head, then of the next
}


@dataclass(frozen=True)
class HeadLayout:
    """The attention heads of a model.

    Attributes:
        query: how many heads ask.
        key_value: how many heads are asked; each answers `query / key_value` of the others.
        size: rows of each.
    """

    query: int
    key_value: int
    size: int

    @classmethod
    def of(cls, config: PretrainedConfig) -> HeadLayout | None:
        """Read it from a model's configuration; None where that does not say it."""
        text = config.get_text_config()

        def number(*names: str) -> int | None:
            return next((int(value) for name in names if (value := getattr(text, name, None))), None)

        query, width = number("num_attention_heads"), number("hidden_size")
        if query is None or width is None:
            return None
        key_value = number("num_key_value_heads") or query
        size = number("head_dim") or (width // query if width % query == 0 else None)
        return None if size is None else cls.checked(query, key_value, size)

    @classmethod
    def checked(cls, query: int, key_value: int, size: int) -> HeadLayout | None:
        """Return the layout; None where the heads that are asked are not shared evenly."""
        return None if query % key_value else cls(query, key_value, size)


@dataclass(frozen=True)
class LayerHeads:
    """The heads of one layer: `size` rows, or columns, that follow each other belong to each.

    Attributes:
        axis: "rows" of projections to heads, "columns" of the projection of their outputs.
        size: rows or columns of one head.
        names: of the heads in their order: "head 3", "key head 1 (of query heads 3 to 5)".
    """

    axis: Literal["rows", "columns"]
    size: int
    names: tuple[str, ...]


def layer_heads(name: str, shape: tuple[int, int], layout: HeadLayout | None) -> LayerHeads | None:
    """Return the heads of a layer.

        layer_heads("15.self_attn.k_proj", (192, 576), HeadLayout.of(model.module.config)).names

    Args:
        name: of the layer, such as "15.self_attn.q_proj".
        shape: D and N.
        layout: the model's; None: not known.

    Returns:
        None where the layer is not one of attention, or not divided as its name and the layout say.
    """
    *path, last = name.split(".")
    if layout is None or not any("attn" in part.lower() or "attention" in part.lower() for part in path):
        return None
    kind, size = next((kind for kind, names in KINDS.items() if last in names), ""), layout.size
    counts = {
        "query": layout.query,
        "key": layout.key_value,
        "value": layout.key_value,
        "output": layout.query,
    }
    counts["joined"] = layout.query + 2 * layout.key_value
    if kind == "joined by head":
        size, counts[kind] = 3 * size, layout.query if layout.query == layout.key_value else 0
    axis: Literal["rows", "columns"] = "columns" if kind == "output" else "rows"
    if not counts.get(kind) or shape[axis == "columns"] != size * counts[kind]:
        return None
    return LayerHeads(axis, size, _names(kind, layout))


def _names(kind: str, layout: HeadLayout) -> tuple[str, ...]:
    if kind == "joined":
        queries = tuple(f"query head {head}" for head in range(layout.query))
        return queries + _names("key", layout) + _names("value", layout)
    each = layout.query // layout.key_value
    if kind not in ("key", "value"):
        return tuple(f"head {head}" for head in range(layout.query))
    return tuple(
        f"{kind} head {head}"
        + (f" (of query heads {head * each} to {(head + 1) * each - 1})" if each > 1 else "")
        for head in range(layout.key_value)
    )
