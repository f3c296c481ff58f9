"""Row sensitivities against plain autograd through the whole model, in every family."""

from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor, nn

import trim
from tests.trim import rough
from trim.calibration.block_states import InMemoryModel
from trim.calibration.calibration import Calibration
from trim.calibration.inputs import LayerInputs
from trim.calibration.sensitivity import cached_sensitivity, row_sensitivity
from trim.errors import NonFiniteError, NotEnoughMemoryError
from trim.models.loaded import find_blocks
from trim.models.streamed import StreamedModel

PASSES = [*(f"forward, block {b}" for b in range(3)), *(f"backward, block {b}" for b in (2, 1, 0))]
CPU = torch.device("cpu")


def layers_of(module: nn.Module) -> dict[str, nn.Linear]:
    return {
        f"{index}.{path}": layer
        for index, block in enumerate(find_blocks(module))
        for path, layer in block.named_modules()
        if isinstance(layer, nn.Linear)
    }


def naive(folder: Path, tokens: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
    """One window at a time through the whole model in float64, with every gradient that autograd likes to make."""
    module = rough.load(folder).double()
    sums: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    def keep(name: str, output: Tensor) -> None:
        output.retain_grad()
        outputs[name] = output

    for name, layer in layers_of(module).items():
        layer.register_forward_hook(lambda layer, arguments, output, name=name: keep(name, output))
    for row in range(len(tokens)):
        seen = torch.ones_like(tokens[row]).bool() if mask is None else mask[row]
        logits = module(tokens[row : row + 1], attention_mask=seen[None].long(), use_cache=False).logits[0]
        each = -logits.log_softmax(-1)[:-1].gather(1, tokens[row, 1:, None])[:, 0]
        each[seen[:-1] & seen[1:]].sum().backward()
        for name, output in outputs.items():
            gradient = output.grad.reshape(len(seen), -1)  # OPT's fc1 and fc2 see one long list of tokens
            sums[name] = sums.get(name, 0) + gradient[seen].square().sum(0)
    real = tokens.numel() if mask is None else int(mask.sum())
    return {name: total / real for name, total in sums.items()}


@pytest.mark.parametrize("family", rough.FAMILIES)
@pytest.mark.parametrize("padded", [False, True])
def test_every_family_against_autograd(family, padded, tmp_path):
    """In batches that do not divide the windows, streamed from disk, hidden states on disk or in memory."""
    folder = rough.make_model(family, tmp_path / "model")
    tokens, mask = rough.random_tokens(5, 14), None
    if padded:
        mask = torch.ones_like(tokens, dtype=torch.bool)
        mask[1, :5] = mask[4, :9] = False
    model = StreamedModel(folder, device=CPU)
    blocks = []
    with torch.inference_mode():  # as the block loop runs
        found = row_sensitivity(
            model,
            Calibration.of(tokens, mask),
            batch=2,
            folder=tmp_path,
            activation_bytes=0 if padded else None,
            progress=blocks.append,
        )
    expected = naive(folder, tokens, mask)
    assert list(found) == list(model.layers)
    assert [step.what.partition(": ")[2] for step in blocks] == PASSES
    assert [(step.done, step.of) for step in blocks] == [(done, 12) for done in (0, 1, 2, 3, 6, 9)]
    for name, values in found.items():
        assert values.dtype == torch.float32
        torch.testing.assert_close(values.double(), expected[name], rtol=2e-4, atol=1e-9)
    assert not [name for name, part in model.module.named_parameters() if not part.is_meta]
    assert not list(tmp_path.glob(".activations*"))


def test_a_loaded_model_gives_the_same_and_keeps_no_gradient(llama, tmp_path, own_cache):
    calibration = Calibration.of(rough.random_tokens())
    model = trim.load_model(str(llama), device="cpu", dtype="float32")
    whole = row_sensitivity(InMemoryModel(model), calibration, batch=6, folder=tmp_path)
    streamed = row_sensitivity(StreamedModel(llama, device=CPU), calibration, batch=6, folder=tmp_path)
    for name, values in whole.items():
        assert torch.equal(values, streamed[name])
    blocks = []
    for _ in range(2):  # the second time from the cache
        by_name = trim.sensitivity(model, calibration.tokens, progress=blocks.append)
        assert all(torch.equal(values, whole[name]) for name, values in by_name.items())
        assert by_name.keys() == model.layers.keys()
    assert [step.what.partition(": ")[2] for step in blocks] == PASSES
    assert [(step.done, step.of) for step in blocks] == [(done, 12) for done in (0, 1, 2, 3, 6, 9)]
    assert all(parameter.grad is None for parameter in model.module.parameters())
    assert rough.hooks_left(model.module) == 0


def test_a_float64_model_computes_in_float64(llama, tmp_path):
    tokens = rough.random_tokens(3, 14)
    model = trim.load_model(str(llama), device="cpu", dtype="float32")
    model.module.double()
    received: dict[str, LayerInputs] = {}

    def visit(name: str, layer: nn.Linear, inputs: LayerInputs, sensitivity: Tensor) -> None:
        received[name] = inputs

    layers = ["0.self_attn.q_proj"]
    whole = InMemoryModel(model)
    assert whole.dtype == torch.float64
    found = row_sensitivity(
        whole, Calibration.of(tokens), batch=2, folder=tmp_path, visited=layers, visit=visit
    )
    expected = naive(llama, tokens, None)
    assert found.keys() == model.layers.keys()
    for name, values in found.items():  # the type of the result alone rounds
        assert values.dtype == torch.float32
        torch.testing.assert_close(values.double(), expected[name], rtol=1e-7, atol=0)
    assert received[layers[0]].inputs.dtype == torch.float64


def test_a_full_memory_halves_the_batch(llama, tmp_path, monkeypatch):
    """At any moment; and what was gathered of a batch that failed is not counted twice."""
    model = StreamedModel(llama, device=CPU)
    calibration = Calibration.of(rough.random_tokens())
    visited = ["1.mlp.up_proj", "1.mlp.gate_proj", "0.self_attn.o_proj"]
    heard: list[LayerInputs] = []

    def visit(name: str, layer: nn.Linear, received: LayerInputs, sensitivity: torch.Tensor) -> None:
        assert sensitivity.shape == (layer.out_features,)
        heard.append(received)

    whole = row_sensitivity(model, calibration, batch=1, folder=tmp_path, visited=visited, visit=visit)
    plain, calls = torch.autograd.grad, []

    def sometimes_full(*arguments: object, **options: object) -> tuple:
        calls.append(0)
        if len(calls) in (8, 12):
            raise torch.OutOfMemoryError("full")
        return plain(*arguments, **options)

    monkeypatch.setattr(torch.autograd, "grad", sometimes_full)
    found = row_sensitivity(model, calibration, batch=4, folder=tmp_path, visited=visited, visit=visit)
    for name, values in found.items():
        torch.testing.assert_close(values, whole[name], rtol=1e-4, atol=1e-9)
    assert len(heard) == 2 * len(visited)
    for expected, received in zip(heard[:3], heard[3:], strict=True):
        torch.testing.assert_close(received.inputs, expected.inputs, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(received.input_norm, expected.input_norm, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(torch.autograd, "grad", Mock(side_effect=torch.OutOfMemoryError("full")))
    with pytest.raises(NotEnoughMemoryError, match="shorter windows"):
        row_sensitivity(model, calibration, batch=4, folder=tmp_path)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("model.layers.1.mlp.down_proj", r"1\.mlp\.down_proj has a weight that is NaN"),
        (
            "model.layers.1.post_attention_layernorm",
            r"gradient at 2\.\S+ is NaN or infinite",
        ),  # no layer's own
    ],
)
def test_nan_names_its_layer(llama, tmp_path, where, message):
    model = trim.load_model(str(llama), device="cpu", dtype="float32")
    with torch.no_grad():
        model.module.get_submodule(where).weight[3] = torch.nan
    with pytest.raises(NonFiniteError, match=message):
        row_sensitivity(InMemoryModel(model), Calibration.of(rough.random_tokens()), batch=4, folder=tmp_path)
    assert rough.hooks_left(model.module) == 0


def test_the_cache_knows_model_and_text(llama, own_cache):
    model = StreamedModel(llama, device=CPU)
    measured = []

    def get(weights: object, seed: int) -> Tensor:
        def measure() -> dict[str, Tensor]:
            measured.append(0)
            return {"0.fc1": torch.full((3,), float(seed))}

        calibration = Calibration.of(rough.random_tokens(seed=seed))
        return cached_sensitivity(weights, model, calibration, measure)["0.fc1"]

    assert get("a", 1).tolist() == get("a", 1).tolist() == [1, 1, 1]
    assert len(measured) == 1
    assert get("a", 2).tolist() == [2, 2, 2]
    get("b", 1)
    assert len(measured) == 3
