"""Perplexity against a naive one; models, runs and exported folders; what is written down; bad input."""

import dataclasses
import json
import math
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

import trim
from tests.trim import rough, tiny
from trim.cli import main
from trim.evaluation.entries import find_entry, format_perplexity
from trim.evaluation.workbench import model_source, pruned

LENGTH = 32
TEXT = trim.EvaluationText("demo", windows=3, length=LENGTH)


@pytest.fixture(scope="module")
def run(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> trim.Run:
    return rough.wanda(folder, tmp_path_factory.mktemp("runs") / "wanda", target=0.6, windows=4)


def naive(module: torch.nn.Module, windows: torch.Tensor) -> float:
    """In float64, from the definition."""
    with torch.no_grad():
        logits = module.double()(windows, use_cache=False).logits
    module.float()
    return float(cross_entropy(logits[:, :-1].flatten(0, 1), windows[:, 1:].flatten()).exp())


@pytest.mark.parametrize("length", [2, 5, 128])
@pytest.mark.parametrize("batch", [1, 2, None])
def test_perplexity_is_that_of_the_definition(model, length, batch):
    windows = torch.randint(0, 256, (3, length), generator=torch.Generator().manual_seed(length))
    result = trim.perplexity(model, windows, batch=batch)
    assert result.perplexity == pytest.approx(naive(model.module, windows), rel=1e-5)
    assert (result.windows, result.length, result.undefined_windows) == (3, length, 0)


def test_long_windows_go_through_in_slices(model, monkeypatch):
    windows = torch.randint(0, 256, (2, 100))
    whole = trim.perplexity(model, windows).perplexity
    monkeypatch.setattr(sys.modules["trim.evaluation.perplexity"], "SLICE_TOKENS", 7)
    assert trim.perplexity(model, windows).perplexity == pytest.approx(whole, rel=1e-6)


def test_nan_is_reported_as_such(model):
    windows = torch.randint(1, 256, (3, 8))
    windows[1, 2] = 0
    with torch.no_grad():
        model.module.get_input_embeddings().weight[0] = math.nan
    result = trim.perplexity(model, windows)
    assert math.isnan(result.perplexity)
    assert result.undefined_windows == 1
    written = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert math.isnan(float(written["perplexity"]))
    assert format_perplexity(result.perplexity) == "NaN"


def test_an_overflow_is_infinite(model):
    with torch.no_grad():
        model.module.lm_head.weight.mul_(1e6)
    result = trim.perplexity(model, torch.randint(0, 256, (1, 16)))
    assert result.perplexity == math.inf
    assert 700 < result.negative_log_likelihood < math.inf
    assert float(result.to_json()["perplexity"]) == math.inf
    assert format_perplexity(math.inf) == "infinite"


def test_memory_that_runs_out_halves_the_batch(model, monkeypatch):
    windows = torch.randint(0, 256, (4, 8))
    expected = trim.perplexity(model, windows).perplexity
    forward, sizes = model.module.forward, []

    def small_memory(input_ids, **more):
        sizes.append(len(input_ids))
        if len(input_ids) > largest:
            raise torch.OutOfMemoryError
        return forward(input_ids, **more)

    monkeypatch.setattr(model.module, "forward", small_memory)
    largest = 1
    assert trim.perplexity(model, windows, batch=4).perplexity == pytest.approx(expected, rel=1e-6)
    assert sizes == [4, 2, 1, 1, 1, 1]
    largest = 0
    with pytest.raises(trim.NotEnoughMemoryError, match="one window of 8 tokens"):
        trim.perplexity(model, windows)


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        (torch.zeros(0, 8, dtype=torch.int64), "nothing to evaluate"),
        (torch.zeros(2, 1, dtype=torch.int64), "at least 2 tokens"),
        (torch.zeros(1, 129, dtype=torch.int64), "at most 128 tokens at once, not 129"),
        (torch.full((1, 8), 256), "outside the vocabulary of 256"),
    ],
)
def test_windows_that_cannot_be_evaluated(model, windows, message):
    with pytest.raises(trim.CorpusError, match=message):
        trim.perplexity(model, windows)


def test_a_run_is_applied_to_its_model_and_removed(folder, run, model):
    dense = {name: layer.weight.clone() for name, layer in model.layers.items()}

    def crash_inside() -> None:
        with pruned(model, run):
            for name, layer in model.layers.items():
                assert torch.equal(layer.weight == 0, torch.from_numpy(~run.layer(name).keep()))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        crash_inside()
    assert all(torch.equal(layer.weight, dense[name]) for name, layer in model.layers.items())


def test_a_run_and_its_export_agree_and_the_run_keeps_the_result(run, folder, tmp_path):
    exported = trim.export(run, tmp_path / "exported")
    (of_run,) = trim.evaluate(run.path, [TEXT])
    (of_folder,) = trim.evaluate(exported, [TEXT])
    (dense,) = trim.evaluate(folder, [TEXT])
    assert of_run.result == of_folder.result
    assert of_run.result != dense.result
    (entry,) = trim.open_run(run.path).metrics["perplexities"]
    assert entry["perplexity"] == of_run.result.perplexity
    assert entry == find_entry([entry], trim.EvaluationText("demo"))
    assert find_entry([entry], trim.EvaluationText("wikitext2")) is None
    trim.evaluate(run.path, [TEXT])  # again: replaced, not added
    trim.evaluate(run.path, [trim.EvaluationText("demo", windows=2, length=LENGTH)])
    metrics = trim.open_run(run.path).metrics
    assert [entry["windows"] for entry in metrics["perplexities"]] == [3, 2]
    assert metrics["sparsity"]["realised"] == pytest.approx(0.6, abs=1e-6)


def test_a_run_on_another_model_is_not_written_into_the_run(run, tmp_path):
    other = tiny.folder(tmp_path / "other", seed=1)
    before = trim.open_run(run.path).metrics
    (result,) = trim.evaluate(run.path, [TEXT], model=other)
    assert result.result.windows == 3
    assert trim.open_run(run.path).metrics == before


def test_a_changed_model_is_refused(run, folder, tmp_path, monkeypatch):
    other = tiny.folder(tmp_path / "other", seed=1)
    record = dataclasses.replace(run.record, request=dataclasses.replace(run.request, model=str(other)))
    with pytest.raises(trim.ModelError, match="has changed since"):
        model_source(dataclasses.replace(run, record=record))


def test_default_windows_are_as_long_as_the_model_reads(folder, tmp_path):
    text = tmp_path / "short.txt"
    text.write_text("a b c " * 100)
    (result,) = trim.evaluate(folder, [trim.EvaluationText(text, whole=True)])
    assert (result.result.windows, result.result.length) == (4, 128)  # 600 bytes; the tail of 88 is dropped
    (part,) = trim.evaluate(folder, [trim.EvaluationText(text, length=16)])
    assert part.result.windows == 120 // 16


def test_no_windows_at_all():
    with pytest.raises(trim.CorpusError, match="at least one window, not 0"):
        trim.EvaluationText("demo", windows=0)


def test_command_line(run, folder, capsys):
    asked = ["--windows", "2", "--length", "32", "--device", "cpu"]
    assert main(["evaluate", str(folder), str(run.path), *asked]) == 0
    dense, of_run = capsys.readouterr().out.splitlines()
    assert dense.startswith(str(folder))
    assert "perplexity" in of_run
    assert "demo, 2 windows of 32" in of_run
    assert main(["evaluate", str(run.path), *asked, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["windows"] == 2
    assert main(["evaluate", str(run.path), "--corpus", "wikitex"]) == 2
    assert "wikitext2" in capsys.readouterr().err
    assert main(["evaluate", str(run.path), "--batch", "0"]) == 2
    assert "at least one window" in capsys.readouterr().err
