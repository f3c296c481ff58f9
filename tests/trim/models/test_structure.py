"""Parts of fused layers are those that the classes of transformers split them into."""

import pytest
import torch
from torch import nn

from benchmarks import architectures
from trim.models.architecture import blueprint, find_blocks
from trim.models.conv1d import make_linear
from trim.models.replay import record_calls
from trim.models.structure import row_parts
from trim.row_parts import RowPart, row_labels

FUSED = {
    "bloom": {},
    "codegen": {"n_embd": 64, "n_head": 8},
    "falcon": {"new_decoder_architecture": False, "multi_query": True},
    "falcon groups": {"new_decoder_architecture": True, "num_kv_heads": 2},
    "falcon heads": {"new_decoder_architecture": False, "multi_query": False, "num_kv_heads": 4},
    "fuyu": {},
    "gpt2": {},
    "gpt_bigcode": {},
    "gpt_bigcode heads": {"multi_query": False},
    "gpt_neox": {},
    "gpt_neox_japanese": {},
    "mpt": {},
    "openai-gpt": {},
    "persimmon": {},
    "phi3": {},
    "qwen3_5_text": {"layer_types": ["full_attention", "full_attention"]},
}


@pytest.mark.parametrize("case", FUSED)
@torch.no_grad()
def test_queries_keys_and_values(case):
    """Without values nothing is left; without queries keys change nothing, and without keys queries do not."""
    kind = case.partition(" ")[0]
    config = architectures.small_config(kind)
    for name, value in FUSED[case].items():
        setattr(config, name, value)
    module = architectures.random_model(config)
    make_linear(module)
    blocks = find_blocks(module)
    name, parts = next(
        (name, parts) for name, parts in row_parts(blocks).items() if len(parts) > 1 and "q" in str(parts)
    )
    layer = blocks[0].get_submodule(name.partition(".")[2])
    last = next(
        part
        for path, part in list(blocks[0].named_modules())[::-1]
        if isinstance(part, nn.Linear)
        and path.startswith(name.split(".")[1])
        and "mlp" not in path
        and part is not layer
    )
    states, calls = record_calls(module, blocks, torch.arange(3, 11).view(1, 8), None)
    dense, bias = layer.weight.clone(), layer.bias
    rows = {part.name: part.members().ravel() for part in parts}
    assert sorted(row for part in rows.values() for row in part) == list(range(layer.out_features))

    def mixed(change: dict[str, float]) -> torch.Tensor:
        layer.weight.copy_(dense)
        for part, factor in change.items():
            layer.weight[rows[part]] *= factor
        heard: list[torch.Tensor] = []
        with last.register_forward_pre_hook(lambda _, given: heard.append(given[0])):
            calls[0].replay(blocks[0], states)
        return heard[0]

    if bias is not None:
        bias.zero_()
    if "gate" in rows:  # open and shut together let through what two half open gates do
        both = mixed({"gate": 1e6}) + mixed({"gate": -1e6})
        assert both.allclose(2 * mixed({"gate": 0}), atol=1e-5)
        assert not both.allclose(2 * mixed({}), atol=1e-2)
        return
    assert not mixed({}).eq(0).any()
    assert mixed({"v": 0}).eq(0).all()
    assert mixed({"q": 0}).equal(mixed({"q": 0, "k": -3}))
    assert mixed({"k": 0}).equal(mixed({"k": 0, "q": -3}))
    assert not mixed({}).allclose(mixed({"k": -3}))


def test_rows_are_named():
    parts = (RowPart("q", 2, (0, 4)), RowPart("k", 2, (2,)))
    assert row_labels(parts, 7) == ["q 0", "q 0", "k", "k", "q 1", "q 1", ""]


@pytest.mark.parametrize(
    ("kind", "layer", "names"),
    [
        ("phi3", "1.mlp.gate_up_proj", ["gate", "up"]),
        ("youtu", "0.self_attn.kv_b_proj", ["k", "v"]),
        ("mamba", "0.mixer.in_proj", ["x", "gate"]),
        ("falcon_h1", "0.mamba.in_proj", ["gate", "x", "B", "C", "dt"]),
    ],
)
def test_parts_of_other_layers(kind, layer, names):
    found = row_parts(find_blocks(blueprint(architectures.small_config(kind))))[layer]
    assert [part.name for part in found] == names
