"""Recoveries of a tiny model: zeros stay, the loss falls, stopped ones end bit for bit alike; refusals say why."""

from pathlib import Path

import pytest
import torch

import trim
from tests.trim import rough
from tests.trim.recovery.models import LENGTH, OPTIONS, weights
from trim.cli import main
from trim.recovery import memory
from trim.recovery.events import Measured
from trim.recovery.recover import default_path


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
    assert "holds a recovery already" in capsys.readouterr().err
    before = sorted(path.name for path in dense.iterdir())
    assert main(["recover", str(run.path), "--out", str(dense), *options, "--corpus", "demo"]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert sorted(path.name for path in dense.iterdir()) == before


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
        (
            run.path,
            {"tokens": torch.zeros(8, 16, dtype=torch.int64)},
            "repeats itself too much, to hold a part of it out",
        ),
    ]
    for sparse, changes, message in cases:
        with pytest.raises(trim.TrimError, match=message):
            trim.recover(sparse, out, **({"device": "cpu", "steps": 1} | changes))
    monkeypatch.setattr(memory, "available_bytes", lambda device: 1000)
    with pytest.raises(trim.NotEnoughMemoryError, match=r"needs about .* MB of memory.*1 kB free"):
        trim.recover(run.path, out, device="cpu", steps=1)
    assert not out.exists()
