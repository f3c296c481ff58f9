"""Which rows and columns belong to which head, by the configurations of several architectures."""

import pytest
import transformers

from trim.models.heads import HeadLayout, LayerHeads, layer_heads
from trim.row_parts import RowPart

GROUPED = HeadLayout(query=6, key_value=2, size=4)


def test_a_layout_is_what_the_configuration_says():
    qwen = transformers.Qwen3Config(num_attention_heads=6, num_key_value_heads=2, head_dim=4, hidden_size=32)
    assert HeadLayout.of(qwen) == GROUPED, "the size need not be the width over the heads"
    assert HeadLayout.of(transformers.GPT2Config(n_head=3, n_embd=12)) == HeadLayout(3, 3, 4)
    assert HeadLayout.of(transformers.OPTConfig(num_attention_heads=4, hidden_size=30)) is None
    assert HeadLayout.of(transformers.MambaConfig()) is None
    assert HeadLayout.checked(6, 4, 4) is None


@pytest.mark.parametrize(
    ("name", "shape", "axis", "size", "heads", "last"),
    [
        ("3.self_attn.q_proj", (24, 32), "rows", 4, 6, "head 5"),
        ("3.self_attn.k_proj", (8, 32), "rows", 4, 2, "key head 1 (of query heads 3 to 5)"),
        ("3.self_attn.v_proj", (8, 32), "rows", 4, 2, "value head 1 (of query heads 3 to 5)"),
        ("3.self_attn.o_proj", (32, 24), "columns", 4, 6, "head 5"),
    ],
)
def test_heads_of_a_layer(name, shape, axis, size, heads, last):
    found = layer_heads(name, shape, GROUPED)
    assert isinstance(found, LayerHeads)
    assert (found.axis, found.size, len(found.names), found.names[-1]) == (axis, size, heads, last)


def test_heads_of_a_fused_layer():
    parts = (RowPart("q", 4, (0, 12)), RowPart("k", 4, (4, 16)), RowPart("v", 4, (8, 20)))
    found = layer_heads("0.attention.query_key_value", (24, 8), HeadLayout(2, 2, 4), parts)
    assert found.names == tuple(
        f"{part} head {head}" for part in ("query", "key", "value") for head in (0, 1)
    )
    assert found.order[[0, 4, 8, 23]].tolist() == [0, 12, 4, 23]
    one = layer_heads("0.attn.c_attn", (24, 8), HeadLayout(4, 4, 4), (RowPart("k", 4, (16,)),))
    assert one.names == ("key head 0 (of query heads 0 to 3)",)


def test_a_layer_that_is_not_of_heads_has_none():
    for name, shape in (
        ("0.mlp.up_proj", (24, 32)),
        ("0.self_attn.q_proj", (25, 32)),
        ("0.attention.query_key_value", (40, 32)),
        ("0.self_attn.q_norm", (24, 32)),
    ):
        assert layer_heads(name, shape, GROUPED) is None
    assert layer_heads("0.self_attn.q_proj", (24, 32), None) is None
    assert layer_heads("0.self_attn.q_proj", (24, 32), HeadLayout(2**31, 2**31, 2**31)) is None, (
        "no names are made"
    )
