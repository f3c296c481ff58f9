"""The command `trim sweep`: its options, a cell that fails, and the settings as published."""

import trim
from trim.calibration import corpora
from trim.cli import main
from trim.sweeps import cell


def test_a_cell_that_fails_does_not_end_the_sweep(model, tmp_path, capsys):
    budgets = tmp_path / "budgets.json"
    budgets.write_text('{"nothing.*": 0.5}')
    asked = ["sweep", str(model), "--targets", "0.5", "--budgets", str(budgets), "uniform", "--windows", "2"]
    out = tmp_path / "s"
    asked += ["--length", "16", "--evaluation-windows", "2", "--evaluation-length", "16", "--device", "cpu"]
    assert main([*asked, "--out", str(out)]) == 2
    printed = capsys.readouterr()
    assert "no layer matches 'nothing.*'" in printed.out
    assert "| failed |" in printed.out
    assert "1 of 2 cells could not be made" in printed.err
    assert [outcome.done for outcome in trim.open_sweep(out).outcomes()] == [False, True]
    budgets.write_text('{"*": 0.5}')
    assert main(["sweep", "--resume", str(out)]) == 0
    assert "failed |" not in capsys.readouterr().out
    assert all(outcome.done and not outcome.problem for outcome in trim.open_sweep(out).outcomes())


def test_command_line(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TRIM_RUNS", str(tmp_path / "runs"))
    asked = ["sweep", str(model), "--targets", "0.5", "--recalculate-inputs", "no", "yes", "--windows", "2"]
    asked += ["--length", "16", "--evaluation-windows", "2", "--evaluation-length", "16", "--device", "cpu"]
    assert main(asked) == 0
    (entry,) = trim.list_sweeps()
    assert "recalculated" in capsys.readouterr().out
    assert len(entry.opened.outcomes()) == 2
    assert main(["inspect"]) == 0
    assert "a sweep of 2 cells" in capsys.readouterr().out
    assert main(["inspect", str(entry.path)]) == 0
    assert "| method | 50% |" in capsys.readouterr().out
    assert main([*asked, "--out", str(entry.path)]) == 0  # the same sweep again
    assert "2 of them done already" in capsys.readouterr().out
    for wrong, message in (
        (["sweep", str(model)], "--targets"),
        (["sweep"], "--resume"),
        ([*asked, "--resume", str(entry.path)], "leave out all other options"),
        ([*asked, "--out", str(entry.path), "--seeds", "3"], "another sweep"),
        ([*asked, "--out", str(model)], "not empty"),
        (["sweep", "--resume", str(model)], "not a sweep"),
    ):
        assert main(wrong) == 2
        assert message in capsys.readouterr().err


def test_as_published(model, tmp_path, monkeypatch, capsys):
    """It sets what a grid varies and what cells share, and gives way to what is given as well."""
    read_with_bos = []

    def load(*source, bos, **cut):
        read_with_bos.append(bos)
        return corpora.load_corpus(*source, bos=bos, **cut)

    monkeypatch.setattr(cell, "load_corpus", load)
    asked = ["sweep", str(model), "--targets", "0.5", "--as-published", "--corpus", "demo", "--windows", "2"]
    asked += ["--length", "16", "--dtype", "float32", "--input-vectors", "random", "last", "--device", "cpu"]
    asked += ["--evaluation-windows", "1", "--evaluation-length", "16", "--out", str(tmp_path / "s")]
    assert main(asked) == 0
    assert capsys.readouterr().err.startswith(
        "As published: --no-bos --vectors 1 --recalculation vectors --max-row-sparsity 0.95 "
        "--owl-width 0.05 --owl-multiple 7.0\n"
    )
    cells = trim.open_sweep(tmp_path / "s").cells.values()
    assert [each.settings.input_vectors for each in cells] == ["random", "last"]
    for each in cells:
        given = {"corpus": "demo", "windows": 2, "length": 16, "dtype": "float32"}
        published = trim.as_published(**given, input_vectors=each.settings.input_vectors)
        assert {name: getattr(each.settings, name) for name in published} == published
    assert read_with_bos == [False]  # read once for both
