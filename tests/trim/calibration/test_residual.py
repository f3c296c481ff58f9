"""Layers that write to the residual stream: which they are, and what the stream has lost before them."""

import pytest
import torch
import transformers
from torch import Tensor, nn

from trim.calibration.calibration import Calibration
from trim.calibration.layers import linear_layers
from trim.calibration.products import ProductsRequest
from trim.calibration.residual import residual_writer
from trim.calibration.text_pass import DensePass, text_pass
from trim.models.architecture import prepare
from trim.models.replay import record_calls
from trim.models.streamed import StreamedModel

SIZES = {"num_hidden_layers": 2, "num_attention_heads": 4, "hidden_size": 32, "vocab_size": 64}
GATED = SIZES | {"intermediate_size": 48, "num_key_value_heads": 2}
PLAIN = SIZES | {"intermediate_size": 48}
OPT = SIZES | {"ffn_dim": 48, "word_embed_proj_dim": 32, "max_position_embeddings": 32}
LLAMA = {"self_attn.o_proj": 1.0, "mlp.down_proj": 1.0}


pytestmark = pytest.mark.usefixtures("inference")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (transformers.LlamaConfig(**GATED), LLAMA),
        (transformers.GraniteConfig(**GATED, residual_multiplier=0.22), dict.fromkeys(LLAMA, 0.22)),
        (transformers.Gemma2Config(**GATED, head_dim=8), {}),  # norms come between
        # Attention and MLP beside each other, and an MLP that sees all windows as one.
        (transformers.GPTNeoXConfig(**PLAIN), {"attention.dense": 1.0, "mlp.dense_4h_to_h": 1.0}),
        (transformers.OPTConfig(**OPT), {"self_attn.out_proj": 1.0, "fc2": 1.0}),
    ],
    ids=lambda value: getattr(value, "model_type", None),
)
def test_writers_are_found_by_what_they_move(config, expected, dtype):
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).to(dtype).eval()
    blocks = next(part for part in model.modules() if isinstance(part, nn.ModuleList) and len(part) == 2)
    states, calls = record_calls(model, list(blocks), torch.arange(24)[None], None)
    found = {
        name: writer.scale
        for name in linear_layers(blocks[1], 1)
        if (writer := residual_writer(name, 1, blocks[1], lambda: calls[1].replay(blocks[1], states)))
    }
    assert found == pytest.approx({f"1.{name}": scale for name, scale in expected.items()}, rel=5e-3)
    assert not any("forward" in vars(part) for part in blocks[1].modules())


def test_noise_may_route_tokens_to_other_experts():
    torch.manual_seed(0)
    config = transformers.Qwen3MoeConfig(
        **GATED, head_dim=8, moe_intermediate_size=16, num_experts=4, num_experts_per_tok=2
    )
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    prepare(model)
    blocks = list(model.model.layers)
    states, calls = record_calls(model, blocks, torch.arange(24)[None], None)
    layers = linear_layers(blocks[1], 1)
    assert "1.mlp.experts.3.down_proj" in layers
    found = {
        name
        for name in layers
        if residual_writer(name, 1, blocks[1], lambda: calls[1].replay(blocks[1], states))
    }
    assert found == {"1.self_attn.o_proj"}
    assert not any("forward" in vars(part) for part in blocks[1].modules())


def test_what_a_stream_has_lost(llama, tmp_path):
    """Of `down_proj`: all that came before it, block and attention, over real tokens, by windows held out or not."""
    model = StreamedModel(llama, device=torch.device("cpu"))
    tokens = torch.randint(3, 60, (4, 8), generator=torch.Generator().manual_seed(0))
    mask = torch.ones(4, 8, dtype=torch.bool)
    mask[1, 5:] = mask[3, 6:] = False
    calibration = Calibration.of(tokens, mask=mask)
    with (
        text_pass(model, calibration, batch=3, folder=tmp_path) as text,
        text_pass(model, calibration, batch=3, folder=tmp_path, alongside=text) as before,
        model.block(0) as block,
    ):
        dense = DensePass(before)
        layers = linear_layers(block, 0)
        name = "0.mlp.down_proj"
        with dense.block(layers.values()):
            attended: list[Tensor] = []
            with block.post_attention_layernorm.register_forward_pre_hook(
                lambda _, given: attended.append(given[0])
            ):
                wanted = _both(attended, text, block)
                layers["0.self_attn.o_proj"].weight.mul_(0.5)
                text.states.write(slice(0, 4), text.states.read(slice(0, 4), model.device) * 1.1)
                got = _both(attended, text, block)
            inputs: list[Tensor] = []
            with layers[name].register_forward_pre_hook(lambda _, given: inputs.append(given[0])):
                text.output(0, block, slice(0, 4))
            writer = text.residual_writer(0, block, name)
            chosen = {name: layers[name]}
            received = text.capture(
                0,
                block,
                chosen,
                ProductsRequest(1, stream=True),
                dense.dense_batches(0, block, chosen, writer),
                writer,
            )[name]
    lost = wanted - got
    for products, windows in ((received.text, slice(0, 3)), (received.held_out, slice(3, 4))):
        real = mask[windows]
        expected = lost[windows][real].T @ inputs[0][windows][real]
        torch.testing.assert_close(products.error_cross, expected, rtol=1e-4, atol=1e-5)
        assert products.drift(torch.zeros_like(expected)).equal(products.error_cross)
    there = lost.gather(1, calibration.positions[..., None].expand(-1, -1, lost.shape[-1])).flatten(0, 1)
    torch.testing.assert_close(received.stream_error.T, there, rtol=1e-4, atol=1e-5)
    assert received.target_outputs(torch.zeros(lost.shape[-1], len(received.inputs))).equal(
        received.stream_error
    )


def _both(attended: list[Tensor], text: object, block: nn.Module) -> Tensor:
    """Return the stream after attention."""
    attended.clear()
    text.output(0, block, slice(0, 4))
    return attended[0]
