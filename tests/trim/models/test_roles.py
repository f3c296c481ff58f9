"""Layers that belong together, by the names of several architectures."""

from trim.models.roles import MlpLayers, in_mlp, mlp_layers, sharing_input

LLAMA = [
    *(f"{block}.self_attn.{part}_proj" for block in (0, 1) for part in "qkvo"),
    *(f"1.mlp.{part}_proj" for part in ("gate", "up", "down")),
]


def test_layers_that_share_an_input_are_of_one_parent():
    assert sharing_input("1.self_attn.k_proj", LLAMA) == [f"1.self_attn.{part}_proj" for part in "qkv"]
    assert sharing_input("1.mlp.up_proj", LLAMA) == ["1.mlp.gate_proj", "1.mlp.up_proj"]
    assert sharing_input("1.mlp.down_proj", LLAMA) == ["1.mlp.down_proj"]
    assert sharing_input("1.self_attn.o_proj", LLAMA) == ["1.self_attn.o_proj"]


def test_an_mlp_is_complete_or_none():
    whole = MlpLayers("1.mlp.gate_proj", "1.mlp.up_proj", "1.mlp.down_proj")
    assert {mlp_layers(name, LLAMA) for name in whole.names} == {whole}
    assert mlp_layers("1.mlp.up_proj", ["1.mlp.up_proj", "1.mlp.gate_proj"]) is None
    assert mlp_layers("1.self_attn.q_proj", LLAMA) is None
    plain = mlp_layers("0.mlp.c_proj", ["0.mlp.c_fc", "0.mlp.c_proj", "0.attn.c_proj"])
    assert plain == MlpLayers(None, "0.mlp.c_fc", "0.mlp.c_proj")
    assert plain.names == ("0.mlp.c_fc", "0.mlp.c_proj")
    assert [in_mlp(name) for name in ("0.mlp.c_proj", "0.fc1", "0.attn.c_proj", "0.mlp.router")] == [
        True,
        True,
        False,
        False,
    ]
    assert mlp_layers("0.attn.c_proj", ["0.mlp.c_fc", "0.mlp.c_proj", "0.attn.c_proj"]) is None
