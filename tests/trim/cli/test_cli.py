"""Every command end to end on a tiny model, as a user types it."""

import json
import signal
import subprocess
import sys
import warnings

import pytest
import torch

import trim
from tests import forks
from tests.trim import rough
from trim import cli

FEW = ["--windows", "4", "--length", "32", "--device", "cpu"]


@pytest.fixture
def text(tmp_path):
    return rough.write_text(tmp_path / "text.txt")


@pytest.fixture
def run(llama, text, tmp_path, capsys):
    out = tmp_path / "runs" / "first"
    arguments = ["prune", str(llama), "--target", "0.6", "--corpus", str(text), "--out", str(out), *FEW]
    assert cli.main(arguments) == 0
    capsys.readouterr()
    return out


def test_prune_inspect_export_apply(llama, run, tmp_path, capsys):
    assert cli.main(["inspect", str(run)]) == 0
    shown = capsys.readouterr().out
    assert "mlp.gate_proj" in shown
    assert "model sparsity: 0.600" in shown
    assert cli.main(["inspect", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["settings"]["request"]["target"] == 0.6
    assert cli.main(["inspect", str(run), "--layer", "1.mlp.up_proj"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 48
    assert cli.main(["inspect", str(run.parent)]) == 0
    assert "first: llama trim 60%, model sparsity 0.6000" in capsys.readouterr().out
    assert cli.main(["export", str(run), str(tmp_path / "out")]) == 0
    assert cli.main(["apply", str(run), str(llama), str(tmp_path / "applied")]) == 0
    one, other = (rough.load(tmp_path / name) for name in ("out", "applied"))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
    card = (tmp_path / "out" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\n")
    weights = trim.open_run(run).metrics["weights"]
    parameters = sum(each.numel() for each in one.parameters())
    assert f"Of the {weights['of']:,} weights in the linear layers of its blocks, " in card
    assert "(requested: 0.600000)" in card
    share = f"{weights['pruned'] / parameters:.2%}"
    assert f"{share} of the model's {parameters:,} parameters" in card
    assert weights["of"] < parameters
    assert str(tmp_path) not in card


def test_without_a_folder_the_run_gets_one(llama, text, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TRIM_RUNS", str(tmp_path / "mine"))
    assert cli.main(["inspect"]) == 0
    assert "mine holds no runs; make one with" in capsys.readouterr().out
    asked = ["prune", str(llama), "--pattern", "1:2", "--allocation", "uniform", "--corpus", str(text), *FEW]
    assert cli.main([*asked, "--name", "mine <b>", "--activation-memory", "0.001"]) == 0
    (entry,) = trim.list_runs()
    assert entry.opened.name == "mine <b>"
    assert cli.main(["inspect"]) == 0
    assert "model sparsity 0.5000" in capsys.readouterr().out


def test_relative_paths_stay_true_from_another_folder(own_llama, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["prune", "model", "--target", "0.5", "--corpus", "text.txt", "--out", "run", *FEW]) == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert cli.main(["export", "../run", "out"]) == 0


def test_the_version(capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"TRIM Lab {trim.__version__}\n"


@pytest.mark.parametrize(
    "command", ["", "prune", "sweep", "resume", "apply", "export", "evaluate", "inspect", "cache"]
)
@pytest.mark.parametrize(
    ("argument", "program"),
    [("/usr/bin/trim", "trim"), ("trim.exe", "trim"), ("/site/trim/__main__.py", "python -m trim")],
)
def test_help_calls_the_program_as_it_was_started(command, argument, program, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", [argument])
    with pytest.raises(SystemExit, match=r"^0$"):
        cli.main([*command.split(), "--help"])
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: {program} {command}".rstrip())
    assert shown.count(program) >= (1 if command == "cache" else 2)  # an example too
    assert ("python -m trim" in shown) == (program == "python -m trim")
    assert "%(" not in shown
    if command == "prune":
        assert "examples:" in shown
        assert "default: 128" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prune", "nowhere", "--target", "0.5"], "nowhere"),
        (["prune", "demo"], "--target 0.7"),
        (["prune", "demo", "--target", "0.99"], "row cap"),
        (["prune", "demo", "--target", "0.5", "--pattern", "2:4"], "have nothing to decide"),
        (["resume", "nowhere"], "nowhere does not exist"),
        (["export", "nowhere", "out"], "nowhere does not exist"),
        (["inspect", "nowhere"], "nowhere does not exist"),
        (["inspect", "nowhere", "--model", "demo"], "leave one out"),
        (["inspect", "--model", "demo", "--layer", "0.q"], "--layer is an option of runs"),
        (["prune", "demo", "--target", "70"], "70% is 0.7"),
        (["prune", "demo", "--target", "0.5", "--seed", "-1"], "a seed is a whole number from 0"),
        (["prune", "demo", "--target", "0.5", "--owl-multiple", "nan"], "multiple above 0"),
        (["prune", "demo", "--target", "0.5", "--corpus", "nowhere.txt"], "there is no file 'nowhere.txt'"),
        (["prune", "nowhere", "--target", "0.5", "--windows", "0"], "at least one window, not 0"),
        (["prune", "nowhere", "--target", "0.5", "--length", "1"], "a window has at least 2 tokens, not 1"),
        (["sweep", "demo", "--targets", "0.5", "--windows", "0"], "at least one window, not 0"),
        (["generate", "demo", "--prompt", "a", "--seed", f"{2**64}"], "a seed is"),
        (["prune", "demo", "--target", "0.5", "--budget", "no.json"], "no.json cannot be read (No such file"),
        (
            ["sweep", "demo", "--targets", "0.5", "--budgets", "no.json"],
            "no.json cannot be read (No such file",
        ),
        (["evaluate", "demo", "nowhere"], "there is no model 'nowhere'"),
        (["evaluate", "demo", "--corpus", "nowhere"], "there is no text named 'nowhere'"),
        (["evaluate", "demo", "--limit", "3"], "--limit is an option of zero-shot tasks"),
        (["evaluate", "demo", "--tasks", "--windows", "3"], "--windows is an option of perplexity"),
        (["recover", "nowhere"], "there is no model 'nowhere'"),
        (["recover", "nowhere", "--steps", "1", "--minutes", "1"], "give one of the two"),
        (["recover", "nowhere", "--windows", "1"], "2 windows, one to train on and one held out, not 1"),
        (["recover", "nowhere", "--length", "1"], "a window has at least 2 tokens, not 1"),
        (["sweep", "nowhere", "--targets", "0.5"], "there is no model 'nowhere'"),
        (["sweep", "demo", "--targets", "0.5", "--evaluation-corpus", "nowhere.txt"], "there is no file"),
        (["sweep", "--resume", "nowhere", "--targets", "0.5"], "leave out all other options"),
        (["xray", "demo", "--losses"], "--losses needs a text"),
        (["xray", "demo", "--parent", "demo", "--corpus", "demo", "--windows", "0"], "one window, not 0"),
        (["diagnose", "blocks", "nowhere", "--layers", "0.*"], "--layers is not an option of blocks"),
        (["xray", "demo", "--seed", "0"], "--seed needs a text"),
        (["diagnose", "targets", "nowhere", "--draws", "3"], "--draws is an option of signal"),
        (["diagnose", "signal", "nowhere", "--windows", "3"], "--windows is not an option of signal"),
        (["diagnose", "signal", "nowhere", "--texts", "demo", "--draws", "3"], "no effect beside --texts"),
    ],
)
def test_mistakes_are_one_paragraph(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_warning_is_a_line_and_not_the_reason_for_the_end(capsys):
    """A job of the app ends with the last line that begins "trim: "."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with cli._plain_warnings():
            warnings.warn("the cache is full", trim.CacheWarning, stacklevel=1)
    assert capsys.readouterr().err == "warning: the cache is full\n"


@pytest.mark.parametrize("amount", ["nan", "inf", "-1", "much"])
def test_memory_is_a_number(amount, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["prune", "demo", "--target", "0.5", "--activation-memory", amount])
    assert "give a number of GB, 0 or more" in capsys.readouterr().err


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_stopped_and_resumed(llama, text, tmp_path, how, capsys):
    out = tmp_path / "run"
    command = ["prune", str(llama), "--target", "0.5", "--corpus", str(text), "--out", str(out)]
    command += ["--windows", "16", "--length", "128", "--device", "cpu", "--recalculate-inputs"]
    worker = forks.Popen([sys.executable, "-m", "trim", *command], stdout=subprocess.PIPE)
    printed = ""
    with worker.stdout as lines:
        for line in lines:
            printed += line
            if "layers in 3 blocks" in line:
                worker.send_signal(how)
    status = worker.wait()
    assert status == 130, printed
    assert f"python -m trim resume {out}" in printed
    assert "Traceback" not in printed
    assert cli.main(["resume", str(out)]) == 0
    assert cli.main(["resume", str(out)]) == 0
    assert "complete already" in capsys.readouterr().out


def test_cache(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TRIM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache" / "captures" / "one").mkdir(parents=True)
    (tmp_path / "cache" / "captures" / "one" / "x").write_bytes(b"12345")
    assert cli.main(["cache"]) == 0
    assert "captures: 5 bytes" in capsys.readouterr().out
    assert cli.main(["cache", "--empty"]) == 0
    assert "5 bytes freed" in capsys.readouterr().out


def test_the_demo_model(tmp_path, capsys):
    """Two blocks of the real one; whole it is pruned in benchmarks/model.py."""
    command = f"prune demo --target 0.7 --windows 2 --length 64 --layers 0.* 1.*k_proj --out {tmp_path}/run"
    assert cli.main([*command.split(), "--device", "cpu"]) == 0
    assert trim.open_run(tmp_path / "run").metrics["sparsity"]["realised"] == pytest.approx(0.7, abs=1e-6)
    assert "model sparsity 0.7000" in capsys.readouterr().out


def test_as_published(llama, text, tmp_path, capsys):
    """It sets what the authors' run has, says so, and gives way to what is given as well."""
    out = tmp_path / "run"
    command = (
        f"prune {llama} --target 0.5 --as-published --corpus {text} --windows 2 --length 32 --owl-multiple 5"
    )
    assert cli.main([*command.split(), "--dtype", "float32", "--out", str(out)]) == 0
    assert capsys.readouterr().err.splitlines()[0] == (
        "As published: --no-bos --vectors 1 --input-vectors last --recalculation vectors --max-row-sparsity 0.95 "
        "--owl-width 0.05"
    )
    request = trim.open_run(out).request
    given = {"corpus": str(text), "windows": 2, "length": 32, "owl_multiple": 5.0, "dtype": "float32"}
    published = trim.as_published(**given)
    assert {name: getattr(request, name) for name in published} == published
    assert trim.open_run(out).layer("1.mlp.up_proj").vectors == 2


def test_as_published_is_the_authors_default_run():
    settings = trim.PruneSettings("demo", 0.7, **trim.as_published())
    assert (settings.windows, settings.length, settings.corpus) == (256, 2048, "c4")
    assert (settings.vectors_per_sequence, settings.input_vectors) == (1, "last")
    assert (settings.owl_width, settings.owl_multiple, settings.alpha_width) == (0.05, 7.0, 0.3)
    assert not settings.recalculate_inputs
    assert settings.search_settings(0.7) == trim.SearchSettings(0.7)
    assert trim.as_published(budget="owl")["budget"] == "owl"
