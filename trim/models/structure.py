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
_CONCATENATED = (
    "MptAttention",
    "GPT2Attention",
    "Phi3Attention",
    "Phi4MultimodalAttention",
    "DbrxAttention",
    "Attention",
)


def find_structure(blocks: list[nn.Module]) -> Structure:
    """Return the facts about a model's blocks that a run records."""
    named = row_parts(blocks)
    by_path: dict[str, set[tuple[RowPart, ...]]] = {}
    for name, parts in named.items():
        by_path.setdefault(name.partition(".")[2], set()).add(parts)
    common = {path: next(iter(each)) for path, each in by_path.items() if len(each) == 1}
    others = {name: parts for name, parts in named.items() if name.partition(".")[2] not in common}
    return Structure(tuple(dense_parts(blocks)), common | others)


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
        return _concatenated(("gate", rows // 2), ("up", rows // 2))
    if leaf in ("in_proj", "x_proj"):
        return _split_state_space(owner, leaf, rows)
    size = _number(owner, *_HEAD_SIZES) or _number(owner, "split_size") // (_heads(owner) or 1)
    if leaf == "kv_b_proj" and (nope := _number(owner, "qk_nope_head_dim")):
        value = _number(owner, "v_head_dim")
        return _repeated(rows // (nope + value), ("k", nope, 1), ("v", value, 1))
    if not size or rows % size:
        return ()
    if leaf == "q_proj" and rows == 2 * size * _heads(owner):  # a gate for each head's output
        return _repeated(rows // (2 * size), ("q", size, 1), ("gate", size, 1))
    return _split_attention(owner, rows, size) if leaf in _FUSED else ()


def _split_attention(owner: nn.Module, rows: int, size: int) -> tuple[RowPart, ...]:
    """Split a layer that makes queries, keys and values at once."""
    kind, heads = type(owner).__name__, _heads(owner)
    key_heads = (rows // size - heads) // 2  # and as many value heads
    if kind.startswith("Falcon") and owner.new_decoder_architecture:
        return _queries_keys_values(size, heads, key_heads, key_heads)
    if kind.startswith("Falcon") or kind == "GPTBigCodeAttention":
        return (
            _queries_keys_values(size, heads, 1)
            if owner.multi_query
            else _queries_keys_values(size, heads, heads, heads)
        )
    if kind == "CodeGenAttention":  # four shares of the heads, each with all its queries, values and keys
        return _repeated(4, *((name, size, heads // 4) for name in "qvk"))
    if kind in _BY_HEAD:
        return _queries_keys_values(size, heads, heads, heads)
    return _queries_keys_values(size, heads, key_heads) if kind in _CONCATENATED else ()


def _split_state_space(owner: nn.Module, leaf: str, rows: int) -> tuple[RowPart, ...]:
    """Split the projection of a state-space layer: B writes the state, C reads it, dt is its step size."""
    inner, state = _number(owner, "intermediate_size"), _number(owner, "ssm_state_size")
    rank, groups = _number(owner, "time_step_rank"), _number(owner, "n_groups")
    heads = _number(owner, "num_heads")
    if leaf == "x_proj" and rows == rank + 2 * state:
        return _concatenated(("dt", rank), ("B", state), ("C", state))
    if rank and not _number(owner, "n_mamba_heads") and rows == 2 * inner:
        return _concatenated(("x", inner), ("gate", inner))
    if heads and rows == 2 * inner + 2 * groups * state + heads:
        wide = groups * state
        return _concatenated(("gate", inner), ("x", inner), ("B", wide), ("C", wide), ("dt", heads))
    return ()


def _repeated(groups: int, *parts: tuple[str, int, int]) -> tuple[RowPart, ...]:
    """Split rows into equal groups, in each of which the parts follow each other.

    Args:
        groups: how many.
        parts: the name of each part, the rows of one of its runs, and how many runs of it a group has.
    """
    length, found, begin = sum(rows * runs for _, rows, runs in parts), [], 0
    for name, rows, runs in parts:
        starts = (group * length + begin + run * rows for group in range(groups) for run in range(runs))
        found.append(RowPart(name, rows, tuple(starts)))
        begin += rows * runs
    return tuple(found)


def _concatenated(*parts: tuple[str, int]) -> tuple[RowPart, ...]:
    """Split rows into one run of each part."""
    return _repeated(1, *((name, rows, 1) for name, rows in parts))


def _queries_keys_values(size: int, heads: int, key_heads: int, groups: int = 1) -> tuple[RowPart, ...]:
    """Split into all queries, all keys and all values of each group of heads."""
    q, kv = heads // groups, key_heads // groups
    return _repeated(groups, ("q", size, q), ("k", size, kv), ("v", size, kv))


def _heads(owner: nn.Module) -> int:
    """Return the number of query heads."""
    names = ("num_attention_heads", "num_heads", "n_heads", "n_head")
    return _number(owner, *names) or _number(getattr(owner, "config", None), *names)


def _number(owner: object, *names: str) -> int:
    """Return the first of these attributes that is a whole number; 0: none is."""
    values = (getattr(owner, name, None) for name in names)
    return next((value for value in values if type(value) is int), 0)
