"""The cost of single layers and the growth of errors, against whole float64 passes through the model."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import torch

import trim
from tests.trim import rough, tiny
from trim.cli import main
from trim.evaluation.diagnose_text import finding, measured_tokens
from trim.evaluation.diagnoses import token_pieces
from trim.runs.recording import apply_record
from trim.runs.writer import RunWriter

WINDOWS = torch.randint(0, 256, (5, 24), generator=torch.Generator().manual_seed(0))
NAMES = ["0.mlp.down_proj", "1.self_attn.q_proj", "2.mlp.gate_proj"]


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> trim.Run:
    out = tmp_path_factory.mktemp("runs") / "wanda"
    return rough.wanda(folder, out, target=0.6, layers=NAMES, windows=4)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("texts") / "text.txt"
    path.write_text("Few words. " * 400)
    return str(path)


def token_losses(module: torch.nn.Module) -> torch.Tensor:
    """(windows, length − 1) float64, from whole passes."""
    logits = module(WINDOWS, use_cache=False).logits[:, :-1]
    return -logits.log_softmax(-1).gather(-1, WINDOWS[:, 1:, None])[..., 0]


def in_float64(model: trim.Model, run: trim.Run, name: str) -> tuple[torch.Tensor, float]:
    """Each window's loss with one layer alone pruned, and what its rows' sensitivities foresee, from autograd."""
    module, layer = model.module.double(), model.layers[name]
    seen: list[torch.Tensor] = []

    def listen(module: torch.nn.Module, arguments: tuple, output: torch.Tensor) -> None:
        seen.append(arguments[0].detach())
        output.retain_grad()
        seen.append(output)

    layer.weight.requires_grad_()
    with layer.register_forward_hook(listen):
        token_losses(module).sum().backward()
    fisher = seen[1].grad.flatten(0, 1).square().mean(dim=0)
    layer.weight.requires_grad_(False).grad = None
    dense = layer.weight.clone()
    with torch.no_grad():
        apply_record(layer.weight, run.layer(name))
        error = seen[0].flatten(0, 1) @ (layer.weight - dense).T
        losses = token_losses(module).mean(dim=1)
        layer.weight.copy_(dense)
    return losses, 0.5 * float((fisher * error.square().mean(dim=0)).sum())


@pytest.mark.parametrize("batch", [2, None])
def test_costs_are_those_of_whole_passes(model, run, batch):
    before = {name: layer.weight.clone() for name, layer in model.layers.items()}
    seen: list[int] = []
    found = trim.layer_costs(
        model, run, WINDOWS, batch=batch, each=lambda costs: seen.append(len(costs.layers))
    )
    assert all(torch.equal(layer.weight, before[name]) for name, layer in model.layers.items())
    assert ([cost.name for cost in found.layers], seen) == (NAMES, [1, 2, 3])
    by_token = trim.token_losses(model, WINDOWS, batch=batch)
    with torch.no_grad():
        losses = token_losses(model.module.double())
    torch.testing.assert_close(by_token.double(), losses, rtol=1e-5, atol=1e-6)
    dense = losses.mean(dim=1)
    assert found.dense_loss == pytest.approx(dense.mean().item(), rel=1e-6)
    for cost in found.layers:
        losses, predicted = in_float64(model, run, cost.name)
        assert cost.loss == pytest.approx(losses.mean().item(), rel=1e-6)
        assert cost.standard_error == pytest.approx(((losses - dense).std() / 5**0.5).item(), abs=1e-7)
        assert cost.predicted == pytest.approx(predicted, rel=1e-4, abs=0)


def test_some_layers_and_what_is_refused(model, run):
    found = trim.layer_costs(model, run, WINDOWS[:1], layers=["1.*"])
    assert [cost.name for cost in found.layers] == ["1.self_attn.q_proj"]
    assert (
        found.layers[0].standard_error != found.layers[0].standard_error
    )  # a single window says nothing of it
    with pytest.raises(trim.LayerNotFoundError, match="has pruned no layer that matches '9"):
        trim.layer_costs(model, run, WINDOWS, layers=["9.*"])
    with pytest.raises(trim.CorpusError, match="reads at most 128"):
        trim.layer_costs(model, run, torch.zeros(1, 129, dtype=torch.int64))


def test_errors_by_block_are_those_of_whole_passes(model, run):
    found = trim.block_errors(model, run, WINDOWS, batch=2)
    module = model.module.double()
    length = torch.arange(WINDOWS.shape[1])[None]

    def through(index: int, states: torch.Tensor, names: list[str]) -> torch.Tensor:
        """One block with some of its layers pruned, called as the model calls it."""
        rotary = module.model.rotary_emb(states, length)
        before = {name: model.layers[name].weight.clone() for name in names}
        for name in names:
            apply_record(model.layers[name].weight, run.layer(name))
        after = module.model.layers[index](states, position_embeddings=rotary, position_ids=length)
        for name, weight in before.items():
            model.layers[name].weight.copy_(weight)
        return after[0] if isinstance(after, tuple) else after

    def median(one: torch.Tensor, other: torch.Tensor, dense: torch.Tensor) -> float:
        return ((one - other).norm(dim=-1) / dense.norm(dim=-1)).quantile(0.5).item()

    with torch.no_grad():
        dense = pruned = module.model.embed_tokens(WINDOWS)
        for index, error in enumerate(found):
            names = [name for name in NAMES if name.startswith(f"{index}.")]
            after, carried = through(index, dense, []), through(index, pruned, [])
            alone = {name: median(through(index, pruned, [name]), carried, after) for name in names}
            pruned = through(index, pruned, names)
            assert error.carried == pytest.approx(median(carried, after, after), rel=1e-4, abs=1e-9)
            assert error.added == pytest.approx(median(pruned, carried, after), rel=1e-4)
            assert error.layers == pytest.approx(alone, rel=1e-4)
            assert error.error == pytest.approx(median(pruned, after, after), rel=1e-4)
            assert error.low <= error.error <= error.high
            assert error.cosine == pytest.approx(
                torch.cosine_similarity(pruned, after, dim=-1).median().item(), rel=1e-5
            )
            dense = after


def test_diagnoses_are_kept_with_the_run(run, text, capsys):
    asked = ["--corpus", text, "--windows", "2", "--length", "24"]
    for what in ("layers", "blocks", "tokens"):
        assert main(["diagnose", what, str(run.path), *asked]) == 0
        assert "2 windows of 24 tokens of text.txt" in capsys.readouterr().out
    found = trim.open_run(run.path).diagnoses
    assert list(found["layers"]["layers"]) == NAMES
    assert [each["block"] for each in found["blocks"]["blocks"]] == [0, 1, 2]
    tokens = found["tokens"]
    assert [[len(each) for each in tokens[key]] for key in ("pieces", "dense", "pruned")] == [
        [24, 24],
        [23, 23],
        [23, 23],
    ]
    assert sum(map(sum, tokens["dense"])) / 46 == pytest.approx(found["layers"]["dense_loss"], rel=1e-5)
    assert sum(token.difference for token in measured_tokens(tokens)) == pytest.approx(
        sum(map(sum, tokens["pruned"])) - sum(map(sum, tokens["dense"])), abs=1e-9
    )
    for what in found:
        assert finding(what, found)


def test_costs_that_a_run_has_for_a_text_are_not_measured_again(run, text, capsys):
    asked = ["diagnose", "layers", str(run.path), "--corpus", text, "--windows", "2", "--length", "12"]
    asked += ["--json", "--layers"]
    for layers, measured in (("1.*", NAMES[1:2]), ("*", [NAMES[0], NAMES[2]]), ("*", NAMES)):
        assert main([*asked, layers]) == 0
        printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        done = [each["what"] for each in printed if each.get("what", "").endswith(" alone")]
        assert done == [f"Pruning {name} alone" for name in measured]
    assert list(printed[-1]["layers"]["layers"]) == NAMES


def test_a_damaged_diagnosis_and_a_run_without_masks(run, folder, tmp_path, capsys):
    bare = shutil.copytree(run.path, tmp_path / "bare")
    (bare / "diagnoses.json").write_text('{"tokens": {"text": {}}}')
    with pytest.raises(trim.RunError, match=r"diagnoses.json is damaged \(it.tokens.pieces is missing"):
        trim.open_run(bare).diagnoses  # noqa: B018
    with RunWriter.create(tmp_path / "masks", run.settings) as writer:
        writer.write_block(0, [dataclasses.replace(run.layer(NAMES[0]), packed_mask=None)])
        writer.finish({})
    with pytest.raises(trim.RunError, match="was kept without masks"):
        trim.diagnose(tmp_path / "masks", "tokens")


def test_letters_of_several_tokens_come_with_the_last():
    tokens = tiny.tokenizer()("a é €", add_special_tokens=False)["input_ids"]
    assert token_pieces(tiny.tokenizer(), tokens) == ["a", " ", "", "é", " ", "", "", "€"]
