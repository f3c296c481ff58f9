"""Windows that begin with a beginning-of-text token: runs and results say so, and results of both kinds stay apart."""

import copy
from pathlib import Path

import pytest
from tokenizers import processors

import trim
from app.services.results.perplexities import on_one_text, text_of
from app.services.results.sweep_curves import texts as sweep_texts
from app.services.runs.commands import arguments, reproduce
from tests.trim import rough, tiny
from trim.cli import main
from trim.evaluation.entries import find_entry
from trim.sweeps.results import results_markdown

WITH = trim.EvaluationText("demo", windows=2, length=16)
WITHOUT = trim.EvaluationText("demo", windows=2, length=16, bos=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose tokenizer begins each text with token 7."""
    path = tiny.folder(tmp_path_factory.mktemp("models") / "tiny")
    tokenizer = copy.deepcopy(tiny.tokenizer())
    token = tokenizer.convert_ids_to_tokens(7)
    tokenizer.add_special_tokens({"bos_token": token})
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{token} $A", special_tokens=[(token, 7)]
    )
    tokenizer.save_pretrained(path)
    rough.edit_json(path / "config.json", bos_token_id=7)
    return path


def test_a_run_records_it_and_its_command_repeats_it(folder, tmp_path):
    begun, once = rough.wanda(folder, tmp_path / "begun"), rough.wanda(folder, tmp_path / "once", bos=False)
    assert (begun.text.bos, once.text.bos) == (True, False)
    assert begun.text.sha256 != once.text.sha256
    assert "--no-bos" in arguments(once.request)
    assert "--no-bos" not in arguments(begun.request)
    given = trim.load_corpus("demo", tiny.tokenizer(), windows=2, length=16)
    assert rough.wanda(tiny.folder(tmp_path / "plain"), tmp_path / "none", tokens=given).text.bos is False


def test_results_say_how_their_windows_began_and_stay_apart(folder, tmp_path, capsys):
    run = rough.wanda(folder, tmp_path / "run")
    with_token, without = trim.evaluate(run.path, [WITH, WITHOUT])
    assert (with_token.bos, without.bos) == (True, False)
    assert with_token.result.perplexity != without.result.perplexity
    entries = trim.open_run(run.path).metrics["perplexities"]
    assert find_entry(entries, WITH) == with_token.to_json()
    assert find_entry(entries, WITHOUT) == without.to_json()
    run = trim.open_run(run.path)
    assert [text_of(each) for each in run.metrics["perplexities"]] == [
        "demo, 2 windows of 16 tokens, each after BOS",
        "demo, 2 windows of 16 tokens, without BOS in each",
    ]
    other = rough.wanda(folder, tmp_path / "other")
    trim.evaluate(other.path, [WITH])
    found = on_one_text([trim.open_run(other.path), run])
    assert found is not None
    assert found.text.endswith("each after BOS")
    assert [value for _, value in found.runs][1] == with_token.result.perplexity
    assert reproduce(run).count("--no-bos") == 1
    assert (
        main(["evaluate", str(folder), "--windows", "2", "--length", "16", "--no-bos", "--device", "cpu"])
        == 0
    )
    assert "2 windows of 16 tokens, without BOS in each" in capsys.readouterr().out


def test_a_tokenizer_that_adds_none_has_one_kind_of_result(tmp_path):
    run = rough.wanda(tiny.folder(tmp_path / "model"), tmp_path / "run")
    (result,) = trim.evaluate(run.path, [WITH])
    assert result.bos is None
    entries = trim.open_run(run.path).metrics["perplexities"]
    assert find_entry(entries, WITHOUT) == find_entry(entries, WITH) == result.to_json()


def test_tables_and_curves_of_sweeps_name_it(folder, tmp_path):
    shared = {"windows": 2, "length": 16, "device": "cpu", "bos": False}
    settings = trim.SweepSettings(
        str(folder), {"target": (0.5,), "allocation": ("uniform",)}, shared, (WITHOUT,)
    )
    sweep = trim.create_sweep(tmp_path / "sweep", settings)
    outcomes = trim.run_sweep(sweep).outcomes()
    assert "2 windows of 16 tokens, without BOS in each; dense:" in results_markdown(sweep, outcomes)
    assert sweep_texts([sweep]) == ["demo, 2 windows of 16 tokens, without BOS in each"]
