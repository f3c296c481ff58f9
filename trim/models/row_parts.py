"""Find the parts of a fused layer's rows, such as queries, keys and values, and their heads.

`transformers` has no common description of them, so the layouts of its classes are listed here, and tested against the
outputs of the classes. An unknown layer has no parts.
"""

from torch import nn

from trim.models.dense import dense_parts
from trim.row_parts import RowPart, Structure

_FUSED = ("query_key_value", "qkv_proj", "Wqkv", "c_attn")
_GATED = ("gate_up_proj", "Wi")
_HEAD_SIZES = ("head_dim", "head_size", "attention_head_size")
# Classes whose fused layer has q, k and v of one head next to each other; others have all q, then all k, then all v.
_BY_HEAD = (
    "BloomAttention",
    "GPTNeoXAttention",
    "GPTNeoXJapaneseAttention",
    "PersimmonAttention",
)
_IN_A_ROW = (
    "MptAttention",
    "GPT2Attention",
    "Phi3Attention",
    "Phi4MultimodalAttention",
    "DbrxAttention",
    "Attention",
)


def structure(blocks: list[nn.Module]) -> Structure:
    """Return the facts about a model's blocks that a run records."""
    named = row_parts(blocks)
    by_path: dict[str, set[tuple[RowPart, ...]]] = {}
    for name, parts in named.items():
        by_path.setdefault(name.partition(".")[2], set()).add(parts)
    alike = {path: next(iter(each)) for path, each in by_path.items() if len(each) == 1}
    others = {name: parts for name, parts in named.items() if name.partition(".")[2] not in alike}
    return Structure(tuple(dense_parts(blocks)), alike | others)


def row_parts(blocks: list[nn.Module]) -> dict[str, tuple[RowPart, ...]]:
    """Return the parts of each fused layer that is known, by names such as "15.self_attn.qkv_proj"."""
    found = {}
    for index, block in enumerate(blocks):
        for path, layer in block.named_modules():
            if isinstance(layer, nn.Linear) and "." in path:
                parent, _, leaf = path.rpartition(".")
                if parts := _parts(block.get_submodule(parent), leaf, layer.out_features):
                    found[f"{index}.{path}"] = parts
    return found


def _parts(owner: nn.Module, leaf: str, rows: int) -> tuple[RowPart, ...]:
    """Return the parts of one layer; none: they are not known."""
    if leaf in _GATED:
        return _in_a_row(("gate", rows // 2), ("up", rows // 2))
    if leaf in ("in_proj", "x_proj"):
        return _of_state_space(owner, leaf, rows)
    size = _number(owner, *_HEAD_SIZES) or _number(owner, "split_size") // (_heads(owner) or 1)
    if leaf == "kv_b_proj" and (nope := _number(owner, "qk_nope_head_dim")):
        return _interleaved(rows, ("k", nope), ("v", _number(owner, "v_head_dim")))
    if not size or rows % size:
        return ()
    if leaf == "q_proj" and rows == 2 * size * _heads(owner):  # a gate for each head's output
        return _interleaved(rows, ("q", size), ("gate", size))
    return _of_fused(owner, rows, size) if leaf in _FUSED else ()


def _of_fused(owner: nn.Module, rows: int, size: int) -> tuple[RowPart, ...]:
    """Split a layer that makes queries, keys and values at once."""
    kind, heads = type(owner).__name__, _heads(owner)
    several = (rows // size - heads) // 2  # heads of keys, and of values
    if kind.startswith("Falcon"):
        if owner.new_decoder_architecture:
            return _grouped(size, heads, several)
        return _heads_in_a_row(size, heads, 1) if owner.multi_query else _grouped(size, heads, heads)
    if kind == "GPTBigCodeAttention":
        return _heads_in_a_row(size, heads, 1) if owner.multi_query else _grouped(size, heads, heads)
    if (
        kind == "CodeGenAttention"
    ):  # four shares of the heads, each with its queries, values and keys in a row
        share = heads // 4 * size
        starts = [[3 * share * group + place for place in range(0, share, size)] for group in range(4)]
        first = tuple(start for group in starts for start in group)
        return tuple(
            RowPart(name, size, tuple(start + place * share for start in first))
            for place, name in enumerate("qvk")
        )
    if kind in _BY_HEAD:
        return _grouped(size, heads, heads)
    return _heads_in_a_row(size, heads, several) if kind in _IN_A_ROW else ()


def _of_state_space(owner: nn.Module, leaf: str, rows: int) -> tuple[RowPart, ...]:
    """Split the projection of a state-space layer: B writes the state, C reads it, dt is its step size."""
    inner, state = _number(owner, "intermediate_size"), _number(owner, "ssm_state_size")
    rank, groups = _number(owner, "time_step_rank"), _number(owner, "n_groups")
    heads = _number(owner, "num_heads")
    if leaf == "x_proj" and rows == rank + 2 * state:
        return _in_a_row(("dt", rank), ("B", state), ("C", state))
    if rank and not _number(owner, "n_mamba_heads") and rows == 2 * inner:
        return _in_a_row(("x", inner), ("gate", inner))
    if heads and rows == 2 * inner + 2 * groups * state + heads:
        wide = groups * state
        return _in_a_row(("gate", inner), ("x", inner), ("B", wide), ("C", wide), ("dt", heads))
    return ()


def _in_a_row(*parts: tuple[str, int]) -> tuple[RowPart, ...]:
    found, start = [], 0
    for name, rows in parts:
        found.append(RowPart(name, rows, (start,)))
        start += rows
    return tuple(found)


def _interleaved(rows: int, *parts: tuple[str, int]) -> tuple[RowPart, ...]:
    """Split rows into equal stretches, each with all parts in a row."""
    stretch, found, start = sum(size for _, size in parts), [], 0
    for name, size in parts:
        found.append(RowPart(name, size, tuple(range(start, rows, stretch))))
        start += size
    return tuple(found)


def _heads_in_a_row(size: int, heads: int, several: int) -> tuple[RowPart, ...]:
    """Split into all queries, all keys and all values."""
    found, start = [], 0
    for name, number in (("q", heads), ("k", several), ("v", several)):
        found.append(RowPart(name, size, tuple(range(start, start + number * size, size))))
        start += number * size
    return tuple(found)


def _grouped(size: int, heads: int, groups: int) -> tuple[RowPart, ...]:
    """Split into groups of heads, each with its queries, its key and its value."""
    queries = heads // groups
    first = range(0, groups * (queries + 2) * size, (queries + 2) * size)
    q = tuple(start + place * size for start in first for place in range(queries))
    k, v = (tuple(start + place * size for start in first) for place in (queries, queries + 1))
    return RowPart("q", size, q), RowPart("k", size, k), RowPart("v", size, v)


def _heads(owner: nn.Module) -> int:
    """Return the number of query heads."""
    names = ("num_attention_heads", "num_heads", "n_heads", "n_head")
    return _number(owner, *names) or _number(getattr(owner, "config", None), *names)


def _number(owner: object, *names: str) -> int:
    """Return the first of these attributes that is a whole number; 0: none is."""
    values = (getattr(owner, name, None) for name in names)
    return next((value for value in values if type(value) is int), 0)
