"""Recoveries of a tiny model: zeros stay, the loss falls, stopped ones end bit for bit alike; refusals say why."""

import dataclasses
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import trim
from tests.trim import rough
from trim.calibration.corpora import load_corpus
from trim.cli import main
from trim.models.checkpoint import load_tokenizer
from trim.progress import Progress
from trim.recovery import memory, training
from trim.recovery.divergence import divergence, losses
from trim.recovery.events import Began, Measured
from trim.recovery.kept import BETAS, KeptWeights
from trim.recovery.pair import open_pair
from trim.recovery.recover import calibration_windows, default_path
from trim.recovery.result import write_model
from trim.recovery.run import recomputed
from trim.recovery.sampling import sample_windows
from trim.recovery.text import RecoveryText

LENGTH = 32
OPTIONS = {"steps": 8, "windows": 24, "batch": 4, "sampled": 0.5, "learning_rate": 0.005, "device": "cpu"}


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return rough.make_model("qwen2", tmp_path_factory.mktemp("models") / "dense")


@pytest.fixture(scope="module")
def run(dense: Path, tmp_path_factory: pytest.TempPathFactory) -> trim.Run:
    out = tmp_path_factory.mktemp("runs") / "wanda"
    return rough.wanda(dense, out, target=0.6, windows=4, length=LENGTH)


@pytest.fixture(scope="module")
def recovered(run: trim.Run, tmp_path_factory: pytest.TempPathFactory) -> trim.Recovery:
    return trim.recover(run.path, tmp_path_factory.mktemp("recovered") / "whole", **OPTIONS)


@pytest.fixture(scope="module")
def checkpoint(run: trim.Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trim.export(run, tmp_path_factory.mktemp("exported") / "pruned")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_zeros_stay_and_the_held_out_loss_falls(recovered, checkpoint, dense):
    before, after = weights(checkpoint), weights(recovered.model)
    assert before.keys() == after.keys()
    for name, old in before.items():
        new = after[name]
        if "embed" in name:
            assert torch.equal(new, old)
            continue
        assert not torch.equal(new, old)
        if old.ndim > 1:
            assert torch.equal(new == 0, old == 0)
    metrics = recovered.metrics
    assert metrics["sampled"] == 16, "half of 8 steps of 4 windows the dense model wrote itself"
    curve = [each["divergence"] for each in metrics["curve"]]
    assert curve[metrics["best"]] == min(curve) < 0.9 * curve[0]
    assert metrics["sparsity"] == trim.xray(recovered.path).sparsity
    assert metrics["steps"] == 8
    moved = recovered.rows_moved()["0.mlp.down_proj"]
    name = "model.layers.0.mlp.down_proj.weight"
    change = (after[name] - before[name]).norm(dim=1) / before[name].norm(dim=1)
    torch.testing.assert_close(torch.from_numpy(moved), change)
    record = trim.open_recovery(recovered.path).record
    assert (record.parent, record.request.corpus, record.text.length) == (str(dense), "demo", LENGTH)


def test_a_stopped_recovery_ends_bit_for_bit_as_if_it_had_not_been(run, recovered, tmp_path):
    def stop(event: object) -> None:
        if isinstance(event, Measured) and event.step >= 3:
            raise KeyboardInterrupt

    out = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        trim.recover(run.path, out, **OPTIONS, listener=stop)
    assert not trim.open_recovery(out).complete
    with pytest.raises(trim.RunError, match="not complete; resume with"):
        trim.recover(out)
    ended = trim.resume_recovery(out)
    assert weights(ended.model).keys() == weights(recovered.model).keys()
    for name, tensor in weights(ended.model).items():
        assert torch.equal(tensor, weights(recovered.model)[name]), name
    for key in ("step", "divergence"):
        curves = [[each[key] for each in one.metrics["curve"]] for one in (ended, recovered)]
        assert curves[0] == curves[1]


def test_the_commands(run, checkpoint, dense, tmp_path, capsys):
    out = tmp_path / "of-checkpoint"
    options = ["--steps", "2", "--windows", "16", "--length", "16", "--device", "cpu", "--batch", "2"]
    assert main(["recover", str(checkpoint), "--parent", str(dense), "--out", str(out), *options]) == 0
    assert "held-out perplexity" in capsys.readouterr().out
    assert main(["evaluate", str(out), "--windows", "2", "--length", "16"]) == 0
    (entry,) = trim.open_recovery(out).metrics["perplexities"]
    assert entry["windows"] == 2
    assert main(["inspect", str(tmp_path)]) == 0
    assert "of-checkpoint: recovered, model sparsity 0.6" in capsys.readouterr().out
    assert main(["export", str(out), str(tmp_path / "copy")]) == 0
    assert weights(tmp_path / "copy").keys() == weights(out / "model").keys()
    assert main(["resume", str(out)]) == 0
    assert "complete already" in capsys.readouterr().out
    assert main(["recover", str(run.path), "--out", str(out), *options]) == 2
    assert "is not empty" in capsys.readouterr().err


def test_a_checkpoint_with_its_parent_is_recovered_as_its_run(tmp_path):
    """Of a model with biases, learned positions, and matrices outside of its blocks."""
    dense = rough.make_model("opt", tmp_path / "opt")
    text, few = rough.random_tokens(12, 16, seed=4), {"steps": 2, "batch": 2, "sampled": 0.5, "device": "cpu"}
    run = rough.pruned(dense, tmp_path / "run", tokens=text[:4], allocation="uniform")
    pruned = trim.export(run, tmp_path / "pruned")
    one = trim.recover(run.path, tmp_path / "one", tokens=text, **few)
    other = trim.recover(pruned, tmp_path / "other", parent=dense, tokens=text, **few)
    before, after = weights(pruned), weights(one.model)
    assert all(torch.equal(after[name], tensor) for name, tensor in weights(other.model).items())
    assert all(torch.equal(after[name] == 0, old == 0) for name, old in before.items() if old.ndim > 1)
    assert not torch.equal(
        *(each["model.decoder.layers.0.self_attn.q_proj.bias"] for each in (before, after))
    )
    assert one.metrics["sparsity"] == trim.xray(one.path).sparsity == 0.5


def test_where_a_recovery_is_written(tmp_path):
    for run in ("first", "sweep/cells/wanda-0.5"):
        (tmp_path / run).mkdir(parents=True)
        (tmp_path / run / "manifest.json").touch()
    (tmp_path / "sweep/sweep.json").touch()
    assert default_path(tmp_path / "first") == tmp_path / "first-recovered"
    (tmp_path / "first-recovered").mkdir()
    assert default_path(tmp_path / "first") == tmp_path / "first-recovered-2"
    assert default_path(tmp_path / "sweep/cells/wanda-0.5") == tmp_path / "sweep-wanda-0.5-recovered"


def test_what_cannot_be_recovered(run, checkpoint, dense, tmp_path, monkeypatch):
    out = tmp_path / "none"
    other = rough.make_model("qwen2", tmp_path / "other", seed=5)
    small = rough.make_model("qwen2", tmp_path / "small", intermediate_size=24)
    given = rough.pruned(dense, tmp_path / "given", tokens=rough.random_tokens(2, 8), allocation="uniform")
    cases: list[tuple[Path, dict, str]] = [
        (checkpoint, {}, "name the dense model that .*pruned was made from with --parent"),
        (run.path, {"parent": other}, "pruned dense, and other is another model"),
        (checkpoint, {"parent": other}, r"was not made from other: the cosine of their weights is"),
        (checkpoint, {"parent": small}, r"was not made from small: that one has no .*mlp"),
        (dense, {"parent": dense}, "only 0.00% are zero.* in a few bits does not keep zeros"),
        (run.path, {"dtype": "float16"}, "float16 loses small gradients"),
        (run.path, {"sampled": 1.0}, "between 0 and 0.9"),
        (run.path, {"minutes": 0}, "--minutes must be above 0"),
        (run.path, {"length": 256}, "at most 128 tokens"),
        (given.path, {}, "name a text with --corpus"),
        (run.path, {"tokens": torch.zeros(8, 16, dtype=torch.int64)}, "too short to hold a part of it out"),
    ]
    for sparse, changes, message in cases:
        with pytest.raises(trim.TrimError, match=message):
            trim.recover(sparse, out, **({"device": "cpu", "steps": 1} | changes))
    monkeypatch.setattr(memory, "available_bytes", lambda device: 1000)
    with pytest.raises(trim.NotEnoughMemoryError, match=r"needs about .* MB of memory.*1 kB free"):
        trim.recover(run.path, out, device="cpu", steps=1)
    assert not out.exists()


def test_a_loss_that_is_not_a_number_goes_back_to_the_best(run, tmp_path, monkeypatch):
    calls: list[None] = []
    always = False

    def broken(student: torch.Tensor, dense: torch.Tensor, scale: float) -> torch.Tensor:
        calls.append(None)
        return divergence(student, dense, math.nan if always or len(calls) == 5 else scale)

    monkeypatch.setattr(training, "divergence", broken)
    reported: list[object] = []
    ended = trim.recover(
        run.path, tmp_path / "nan", **OPTIONS, listener=reported.append, progress=reported.append
    )
    needed = next(place for place, event in enumerate(reported) if isinstance(event, Began))
    assert needed < reported.index(Progress("Loading both models")), "what memory it needs is said before"
    assert ended.metrics["restarts"] == [6]
    assert any("back to the best weights so far, at half the rate" in str(event) for event in reported)
    assert all(bool(tensor.isfinite().all()) for tensor in weights(ended.model).values())
    curve = [each["divergence"] for each in ended.metrics["curve"]]
    assert min(curve) == curve[ended.metrics["best"]] < curve[0]
    always = True
    ended = trim.recover(run.path, tmp_path / "always", **OPTIONS, listener=reported.append)
    assert len(ended.metrics["restarts"]) == training.MAX_RESTARTS + 1
    assert ended.metrics["best"] == 0, "the result is the run as it was"
    assert any("the loss was not a number again and again" in str(event) for event in reported)


def test_kept_weights_that_the_type_of_the_files_does_not_hold(checkpoint, dense, tmp_path):
    half = tmp_path / "half"
    shutil.copytree(checkpoint, half)
    save_file({name: each.half() for name, each in weights(checkpoint).items()}, half / "model.safetensors")
    pair = open_pair(half, dense, torch.float32)
    _, student = pair.load(torch.device("cpu"), torch.float32, None)
    named = dict(student.module.named_parameters())
    kept = KeptWeights((name, named[name]) for name in pair.trained)
    after = kept.values.clone()
    after[:3] = 1e-9
    found = write_model(tmp_path / "small", pair, kept, kept.values, after, "", None)
    assert (found["rounded"], found["of"] - found["zeros"]) == (
        3,
        sum(
            int(each.count_nonzero())
            for name, each in weights(half).items()
            if "proj" in name and each.ndim > 1
        )
        - 3,
    )
    after[0] = 1e6
    with pytest.raises(trim.ModelError, match="exceeds the range of float16"):
        write_model(tmp_path / "large", pair, kept, kept.values, after, "", None)
    assert not (tmp_path / "large").exists()


def test_adam_on_kept_weights_is_adam():
    torch.manual_seed(0)
    matrix = torch.nn.Parameter(torch.randn(4, 6) * (torch.rand(4, 6) < 0.5))
    vector = torch.nn.Parameter(torch.randn(6))
    twins = [torch.nn.Parameter(each.detach().clone()) for each in (matrix, vector)]
    mask = (matrix != 0).float().detach()
    kept = KeptWeights([("matrix", matrix), ("vector", vector)])
    kept.collect_gradients()
    assert len(kept) == int(mask.sum()) + 6
    adam = torch.optim.Adam(twins, lr=0.01, betas=BETAS)
    for _ in range(3):
        inputs = torch.randn(5, 6)
        ((inputs * vector) @ matrix.t()).square().sum().backward()
        ((inputs * twins[1]) @ (twins[0] * mask).t()).square().sum().backward()
        torch.nn.utils.clip_grad_norm_(twins, 1.0)
        assert matrix.grad is None
        kept.step(0.01, 1.0)
        adam.step()
        adam.zero_grad()
    torch.testing.assert_close(matrix, twins[0])
    torch.testing.assert_close(vector, twins[1])


def test_the_divergence_and_its_gradient_are_those_of_the_definition():
    torch.manual_seed(0)
    student, dense = torch.randn(2, 5, 11, requires_grad=True), torch.randn(2, 5, 11)
    tokens = torch.randint(0, 11, (2, 5))
    expected = torch.nn.functional.kl_div(
        student.log_softmax(-1), dense.log_softmax(-1), reduction="sum", log_target=True
    )
    (gradient,) = torch.autograd.grad(expected / 10, student)
    apart, surprise = losses(student, dense, tokens)
    assert apart == pytest.approx(float(expected.detach()), rel=1e-5)
    expected_surprise = torch.nn.functional.cross_entropy(
        student[:, :-1].flatten(0, 1), tokens[:, 1:].flatten(), reduction="sum"
    )
    assert surprise == pytest.approx(float(expected_surprise.detach()), rel=1e-5)
    result = divergence(student, dense.clone(), 0.1)
    torch.testing.assert_close(result, expected / 10)
    torch.testing.assert_close(torch.autograd.grad(result, student)[0], gradient)


def test_held_out_windows_share_nothing_with_the_others_and_each_is_read_in_its_turn():
    long = torch.arange(400)
    windows = long[torch.tensor([0, 100, 8, 300, 90, 200, 250, 120])[:, None] + torch.arange(32)]
    text = RecoveryText.split(windows, torch.device("cpu"))
    assert torch.equal(text.held_out, windows[:1])
    assert {int(each[0]) for each in text.training} == {
        100,
        300,
        90,
        200,
        250,
        120,
    }  # 8 shares 24 tokens with 0
    both = dataclasses.replace(text, sampled=torch.full((2, 32), -1) - torch.arange(2)[:, None])
    read = torch.cat([both.step(number, 3, 0.5, seed=1) for number in range(4)])[:, 0].tolist()
    assert sorted(each for each in read if each >= 0) == [90, 100, 120, 200, 250, 300]
    assert sorted(each for each in read if each < 0) == [-2, -2, -2, -1, -1, -1]


def test_held_out_windows_share_least_with_what_the_model_was_pruned_on(run, dense):
    windows = torch.arange(400)[torch.tensor([0, 100, 200, 300])[:, None] + torch.arange(32)]
    seen = torch.arange(400)[torch.tensor([4, 110, 200])[:, None] + torch.arange(20)]
    text = RecoveryText.split(windows, torch.device("cpu"), seen)
    assert [int(each[0]) for each in torch.cat([text.held_out, text.training])] == [300, 0, 100, 200]
    request = run.request
    tokenizer = load_tokenizer(dense)
    expected = load_corpus(request.corpus, tokenizer, windows=4, length=LENGTH, seed=request.seed)
    pair = open_pair(run.path, None, torch.float32, None)
    found = calibration_windows("demo", pair, None)
    assert found is not None
    assert torch.equal(found, expected)
    assert calibration_windows("wikitext2", pair, None) is None


def test_the_rate_follows_the_damage():
    assert training.highest_rate(None, 0.25) == pytest.approx(0.001)
    assert training.highest_rate(None, 7.0) == pytest.approx(0.002)
    assert training.highest_rate(0.003, 7.0) == 0.003


def test_what_the_model_writes_begins_as_texts_do_or_as_the_text(dense):
    model = trim.load_model(dense, device="cpu")
    model.tokenizer.bos_token_id = 1
    prompts = torch.full((3, 40), 7)
    written = sample_windows(model, prompts, 6, seed=3)
    assert written.shape == (6, 40)
    assert torch.equal(written[::2, 0], torch.full((3,), 1))
    assert torch.equal(written[1::2, :16], torch.full((3, 16), 7))
    assert torch.equal(written, sample_windows(model, prompts, 6, seed=3))
    assert not torch.equal(written, sample_windows(model, prompts, 6, seed=4))


def test_memory_decides_how_much_is_computed_at_once(monkeypatch):
    sizes = memory.ModelSizes(10**6, 10**5, 10**4, 4, 100, 1000, 4)

    def free(bytes: float) -> Callable[[torch.device], int]:
        return lambda device: int(bytes)

    cpu = torch.device("cpu")
    monkeypatch.setattr(memory, "available_bytes", free(10**9))
    whole = memory.plan_memory(sizes, 8, 100, cpu)
    assert (whole.windows, whole.checkpointing) == (8, False)
    monkeypatch.setattr(memory, "available_bytes", free(whole.bytes - 1))
    assert memory.plan_memory(sizes, 8, 100, cpu).windows == 4
    one = memory.plan_memory(sizes, 1, 100, cpu)
    monkeypatch.setattr(memory, "available_bytes", free(one.bytes - 1))
    again = memory.plan_memory(sizes, 1, 100, cpu)
    assert again.checkpointing
    assert again.bytes < one.bytes


def test_blocks_that_are_computed_again_give_the_same_gradients(dense):
    model = trim.load_model(dense, device="cpu")
    tokens = rough.random_tokens(2, 8)
    weight = model.layers["1.mlp.up_proj"].weight.requires_grad_(True)

    def gradient() -> torch.Tensor:
        model.module(input_ids=tokens).logits.square().mean().backward()
        found = weight.grad
        weight.grad = None
        return found

    plain = gradient()
    with recomputed(model.blocks):
        assert torch.equal(gradient(), plain)
    assert "forward" not in vars(model.blocks[0])
