"""Sweeps: which cells a grid yields, cells as runs, stopping and resuming, failures, tables, folders of others."""

import csv
import dataclasses
import functools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest

import trim
from tests.trim import tiny
from trim.cache import fingerprint
from trim.calibration import corpora
from trim.cli import main
from trim.progress import Progress
from trim.runs.settings import PruneSettings
from trim.runs.writer import RunWriter
from trim.sweeps import cell
from trim.sweeps.events import CellDone, DenseMeasured, SweepBegan, SweepFinished
from trim.sweeps.results import geometric_mean, results

SHARED = {"windows": 2, "length": 16, "device": "cpu"}
TEXTS = (trim.EvaluationText("demo", windows=2, length=16),)


@pytest.fixture(scope="module", autouse=True)
def short_texts() -> Iterator[None]:
    """The beginning of the demo's speeches: cutting all of them takes longer than pruning a tiny model."""
    text = functools.cache(corpora.demo_text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpora, "demo_text", lambda split: text(split)[:10_000])
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.folder(tmp_path_factory.mktemp("models") / "tiny")


def settings(model: Path, **grid: tuple) -> trim.SweepSettings:
    return trim.SweepSettings(model, {"target": (0.4, 0.6), **grid}, SHARED, TEXTS)


@pytest.fixture(scope="module")
def done(model: Path, tmp_path_factory: pytest.TempPathFactory) -> trim.Sweep:
    """Two targets by two allocations, worked through."""
    grid = settings(model, allocation=("uniform", "trim"))
    return trim.run_sweep(trim.create_sweep(tmp_path_factory.mktemp("sweeps") / "s", grid, name="first"))


def test_cells_that_cannot_differ_are_made_once():
    def count(**grid: tuple) -> int:
        return len(trim.SweepSettings("demo", {"target": (0.5,), **grid}).cells)

    assert count(allocation=("uniform", "trim"), vectors_per_sequence=(1, 8)) == 3
    assert count(allocation=("uniform",), vectors_per_sequence=(1, 8), seed=(0, 1)) == 2
    assert (
        count(allocation=("uniform",), score=("magnitude",), seed=(0, 1), recalculate_inputs=(True, False))
        == 1
    )
    assert count(budget=("uniform", "owl"), owl_width=(0.05, 0.1, 0.2), alpha_width=(0.1, 0.2)) == 4
    assert count(allocation=("trim", "optimal"), row_weights=("fisher", "ones")) == 3
    assert count(allocation=("trim", "solved"), tune=(False, True)) == 3
    assert count(allocation=("trim", "solved"), tune=(True,)) == 2
    magnitude = {"allocation": ("uniform",), "score": ("magnitude",), "budget": ("owl",)}
    assert count(**magnitude, seed=(0, 1), recalculate_inputs=(False, True)) == 2  # OWL looks at the text
    assert count(target=(0.5, 0.5)) == 1
    inputs, parts = (False, True), ("all", "vectors")
    assert count(allocation=("trim",), input_vectors=("random", "last")) == 2
    assert count(allocation=("uniform", "layer"), input_vectors=("random", "last")) == 2
    assert count(allocation=("trim",), recalculate_inputs=inputs, recalculation=parts) == 3
    magnitude = {"score": ("magnitude",), "allocation": ("uniform",)}
    assert count(**magnitude, recalculate_inputs=inputs, recalculation=parts) == 1
    # Magnitude reads no text, so that seeds are alike, until it is refitted to one; a refit recalculates inputs anyway.
    assert count(**magnitude, refit=(False, True), seed=(0, 1)) == 3
    assert count(**magnitude, refit=(False, True), recalculate_inputs=inputs) == 2
    assert count(allocation=("solved", "alps"), refit=(False, True), score=("wanda", "magnitude")) == 2
    assert count(allocation=("trim",), refit=(True,), recalculate_inputs=inputs, recalculation=parts) == 1


def test_equal_cells_really_are_equal(model, tmp_path):
    """An option that counts as idle changes no mask."""
    asked = {"target": 0.5, "allocation": "uniform", "windows": 3, "length": 16}
    for number, (fixed, varied) in enumerate(
        [
            ({"budget": "owl"}, {"vectors_per_sequence": 5, "alpha_width": 0.1}),
            ({"score": "magnitude", "budget": "alphapruning"}, {"seed": 5, "recalculate_inputs": True}),
            ({"score": "magnitude", "budget": "owl"}, {"recalculate_inputs": True}),
            ({"score": "magnitude", "allocation": "variant"}, {"seed": 5, "recalculate_inputs": True}),
            ({"allocation": "variant", "recalculate_inputs": True}, {"vectors_per_sequence": 5}),
        ]
    ):
        one = trim.prune(model, tmp_path / f"{number}-one", **(asked | fixed))
        other = trim.prune(model, tmp_path / f"{number}-other", **(asked | fixed | varied))
        assert all((one.layer(name).keep() == other.layer(name).keep()).all() for name in one.layers)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({}, "sparsity of the model"),
        ({"target": ()}, "sparsity of the model"),
        ({"target": (None,), "budget": ("budgets.json",)}, "sparsity of the model"),
        ({"target": (0.5,), "seeds": (1,)}, "closest names: seed"),
        ({"target": (0.5,), "allocation": ()}, "at least one value"),
        ({"target": (0.5, 0.99)}, "0.99"),
        ({"target": (0.5,), "seed": range(10_001)}, "10,001 combinations"),
        ({"target": (0.5,), "allocation": ("trimm",)}, "allocation must be one of"),
    ],
)
def test_grids_that_make_no_sense(grid, message):
    with pytest.raises(trim.SettingsError, match=message):
        trim.SweepSettings("demo", grid)


def test_settings_survive_json(model):
    before = settings(model, seed=(0, 1), recalculate_inputs=(False, True))
    after = trim.SweepSettings.from_json(json.loads(json.dumps(before.to_json())))
    assert after == before
    assert after.fingerprint == before.fingerprint
    with pytest.raises(trim.SettingsError, match="another version"):
        trim.SweepSettings.from_json({"model": "demo"})


def test_each_cell_is_a_run_that_is_measured(done, model):
    assert sorted(done.cells) == [
        "wanda-trim-uniform-0.4",
        "wanda-trim-uniform-0.6",
        "wanda-uniform-uniform-0.4",
        "wanda-uniform-uniform-0.6",
    ]
    entries = done.runs()
    assert sorted(entry.opened.id for entry in entries) == sorted(done.cells)
    for outcome in done.outcomes():
        assert outcome.done
        assert outcome.problem is None
        assert outcome.run.request == outcome.cell.settings
        record = outcome.run.layer("1.mlp.up_proj")
        assert record.packed_mask is None
        assert outcome.run.metrics["sparsity"]["realised"] == pytest.approx(
            outcome.cell.settings.target, abs=1e-6
        )
    (dense,) = trim.evaluate(model, TEXTS)
    assert done.dense()[0]["perplexity"] == dense.result.perplexity


def test_an_option_of_all_cells_is_in_their_label(model, tmp_path):
    grid = {
        "allocation": ("optimal",),
        "refit": (True,),
        "recalculate_inputs": (True,),
    }
    shared = SHARED | {"sensitivity_windows": 1}
    chosen = trim.SweepSettings(model, {"target": (0.5,), **grid}, shared, TEXTS)
    sweep = trim.run_sweep(trim.create_sweep(tmp_path / "s", chosen, name="all"))
    (curve,) = results(sweep, sweep.outcomes())["curves"]
    assert curve["perplexity"]
    assert "refitted" in curve["label"]


def test_a_cell_equals_the_run_made_by_hand(done, model, tmp_path):
    cell = done.cells["wanda-trim-uniform-0.6"]
    fields = {key: getattr(cell.settings, key) for key in PruneSettings.__dataclass_fields__}
    del fields["model"]
    by_hand = trim.prune(model, tmp_path / "run", **fields)
    of_sweep = done.outcome(cell)
    assert by_hand.fingerprint == of_sweep.run.fingerprint
    assert all(
        (by_hand.array(name, "counts") == of_sweep.run.array(name, "counts")).all() for name in by_hand.layers
    )
    (measured,) = trim.evaluate(by_hand.path, TEXTS)
    assert of_sweep.perplexities[0]["perplexity"] == measured.result.perplexity


def test_paths_hold_from_any_folder(model, tmp_path, monkeypatch):
    (tmp_path / "text.txt").write_text("we the people " * 200)
    (tmp_path / "model").symlink_to(model)
    monkeypatch.chdir(tmp_path)
    text = trim.EvaluationText("text.txt", windows=2, length=16)
    grid = trim.SweepSettings("model", {"target": (0.5,)}, SHARED | {"corpus": "text.txt"}, (text,))
    trim.create_sweep("s", grid)
    monkeypatch.chdir("/")
    sweep = trim.run_sweep(trim.open_sweep(tmp_path / "s"))
    assert [outcome.problem for outcome in sweep.outcomes()] == [None]
    assert sweep.outcomes()[0].done


def test_what_comes_out(done):
    found = json.loads((done.path / "results.json").read_text())
    assert found == json.loads(json.dumps(results(done, done.outcomes())))
    assert found["model"] == "tiny"
    assert str(done.path.parent) not in json.dumps(found)
    assert found["texts"][0]["windows"] == 2
    uniform, learned = found["curves"]
    assert uniform["label"] == "wanda, uniform, budgets uniform"
    assert uniform["sparsity"] == learned["sparsity"] == [0.4, 0.6]
    by_id = {cell["id"]: cell for cell in found["cells"]}
    assert learned["perplexity"][1] == pytest.approx(by_id["wanda-trim-uniform-0.6"]["perplexities"][0])
    lines = list(csv.DictReader((done.path / "results.csv").read_text().splitlines()))
    assert [line["cell"] for line in lines] == list(done.cells)
    assert lines[0]["vectors_per_sequence"] == ""  # makes no difference to plain Wanda
    assert float(lines[3]["perplexity"]) == by_id[lines[3]["cell"]]["perplexities"][0]
    table = (done.path / "results.md").read_text()
    assert "| method | 40% | 60% |" in table
    assert table.count("| wanda, ") == 2


def test_several_seeds_become_one_point(model, tmp_path):
    sweep = trim.run_sweep(trim.create_sweep(tmp_path / "s", settings(model, target=(0.5,), seed=(0, 1, 2))))
    (curve,) = results(sweep, sweep.outcomes())["curves"]
    values = [float(outcome.perplexities[0]["perplexity"]) for outcome in sweep.outcomes()]
    assert curve["perplexity"] == [pytest.approx(math.prod(values) ** (1 / 3))]
    assert (curve["least"], curve["most"], curve["seeds"]) == ([min(values)], [max(values)], [3])
    assert "–" in (sweep.path / "results.md").read_text()


def test_nan_is_in_the_table(done):
    outcomes = done.outcomes()
    entry = outcomes[1].perplexities[0] | {"perplexity": "nan"}
    outcomes[1] = dataclasses.replace(outcomes[1], perplexities=(entry,))
    found = results(done, outcomes)
    assert found["curves"][0]["perplexity"][1] == "nan"
    json.dumps(found, allow_nan=False)
    from trim.sweeps.results import results_markdown

    assert "| NaN |" in results_markdown(done, outcomes)
    assert math.isnan(geometric_mean([1.0, math.nan]))
    assert geometric_mean([1.0, math.inf]) == math.inf
    assert geometric_mean([2.0, 8.0]) == pytest.approx(4)


class _Killed(BaseException):
    pass


def test_stopped_anywhere_it_is_resumed_and_ends_the_same(done, model, tmp_path, monkeypatch):
    """Stopped in the middle of a cell, after pruning, and while masks are dropped."""
    path, stops, prunings = tmp_path / "s", [], []
    real_prune = cell.prune

    def counted(*given, **more):
        prunings.append(given)
        return real_prune(*given, **more)

    monkeypatch.setattr(cell, "prune", counted)

    def stop_in(name: str, after: int) -> None:
        real, calls = getattr(cell, name), []

        def stopping(*given, **more):
            calls.append(given)
            if len(calls) > after:
                raise _Killed
            return real(*given, **more)

        with monkeypatch.context() as patch:
            patch.setattr(cell, name, stopping)
            with pytest.raises(_Killed):
                trim.run_sweep(trim.create_sweep(path, done.settings, name="first"))
        stops.append(sum(outcome.done for outcome in trim.open_sweep(path).outcomes()))

    stop_in("evaluate", 0)
    stop_in("evaluate", 1)
    stop_in("drop_masks", 0)

    def stop_in_block(step: Progress) -> None:
        if "Block 1: " in step.what:
            raise _Killed

    with pytest.raises(_Killed):
        trim.run_sweep(trim.open_sweep(path), progress=stop_in_block)
    assert stops == [0, 0, 1]
    sweep = trim.run_sweep(trim.open_sweep(path))
    assert len(prunings) == len(sweep.cells)  # each cell was begun once
    for before, after in zip(done.outcomes(), sweep.outcomes(), strict=True):
        assert after.done
        assert before.perplexities[0]["perplexity"] == after.perplexities[0]["perplexity"]
    sizes = [sum(file.stat().st_size for file in run.opened.path.glob("blocks/*")) for run in sweep.runs()]
    assert sizes == [
        sum(file.stat().st_size for file in run.opened.path.glob("blocks/*")) for run in done.runs()
    ]


def test_killed_between_a_block_without_masks_and_its_manifest(model, tmp_path, monkeypatch):
    sweep = trim.create_sweep(tmp_path / "s", settings(model), keep_masks=True)
    path = next(outcome.run.path for outcome in trim.run_sweep(sweep).outcomes() if outcome.run)
    before = trim.open_run(path).layer(trim.open_run(path).layers[0])
    with monkeypatch.context() as patch:
        patch.setattr(RunWriter, "_write_manifest", Mock(side_effect=_Killed))
        with pytest.raises(_Killed):
            cell.drop_masks(path)
    np.testing.assert_array_equal(trim.open_run(path).layer(before.name).packed_mask, before.packed_mask)
    (path.parent / f".{path.name}.problem.json-{'a' * 12}").touch()
    with trim.open_sweep(sweep.path).locked():
        cell.drop_masks(path)
        (path / "blocks/000.safetensors").touch()  # as if killed before the last file with masks was removed
        cell.drop_masks(path)
    run = trim.open_run(path)
    np.testing.assert_array_equal(run.layer(before.name).counts, before.counts)
    assert all(run.layer(name).packed_mask is None for name in run.layers)
    files = {file.name for file in path.glob("blocks/*")}
    assert files == {entry["file"].removeprefix("blocks/") for entry in run.manifest["blocks"].values()}
    assert not list(sweep.path.rglob(".*-*"))


def test_events_tell_how_far_it_is(model, tmp_path):
    events, steps = [], []
    sweep = trim.create_sweep(tmp_path / "s", settings(model))
    trim.run_sweep(sweep, progress=steps.append, listener=events.append)
    assert [type(event) for event in events] == [
        SweepBegan,
        DenseMeasured,
        CellDone,
        CellDone,
        SweepFinished,
    ]
    assert sorted({(step.done, step.of) for step in steps}) == [(0, 2), (1, 2), (2, 2)]
    assert steps[-1].seconds_left == 0
    assert any(step.what.startswith("2 of 2, ") and "Block 0: " in step.what for step in steps)
    assert events[-1].done == 2
    events.clear()
    trim.run_sweep(sweep, listener=events.append)  # nothing is left to do
    assert events[0] == SweepBegan(2, 2)
    assert CellDone not in map(type, events)


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
        ([*asked, "--resume", str(entry.path)], "leave out MODEL"),
        ([*asked, "--out", str(entry.path), "--seeds", "3"], "another sweep"),
        ([*asked, "--out", str(model)], "not empty"),
        (["sweep", "--resume", str(model)], "not a sweep"),
    ):
        assert main(wrong) == 2
        assert message in capsys.readouterr().err


def test_a_text_that_cannot_be_read_is_reported_before_pruning(model, tmp_path):
    grid = trim.SweepSettings(model, {"target": (0.5,)}, SHARED, (trim.EvaluationText("demo", length=500),))
    sweep = trim.create_sweep(tmp_path / "s", grid)
    with pytest.raises(trim.CorpusError, match="at most 128"):
        trim.run_sweep(sweep)
    assert not sweep.cells_folder.exists()


def test_folders_that_cannot_be_opened(done, tmp_path):
    folder = tmp_path / "sweeps" / "s"
    folder.mkdir(parents=True)
    config = json.loads((done.path / "sweep.json").read_text())

    def say(content: object, message: str) -> None:
        (folder / "sweep.json").write_text(content if isinstance(content, str) else json.dumps(content))
        with pytest.raises(trim.RunError, match=message):
            trim.open_sweep(folder)
        (entry,) = trim.list_sweeps(folder.parent)
        assert entry.opened is None
        assert entry.problem

    say(config | {"schema": 2}, "schema 2, and this version reads schema 1")
    say("{", "damaged")
    say(config | {"settings": 3}, "damaged")
    strange = config["settings"] | {"grid": {"new": [1]}}
    say(config | {"settings": strange, "fingerprint": fingerprint(strange)}, "is not a setting")
    say(config | {"settings": config["settings"] | {"shared": ["x"]}}, "damaged")
    say(config | {"settings": config["settings"] | {"grid": {"target": [0.5]}}}, "was edited")
    older = config["settings"] | {"texts": [{"corpus": "demo", "windows": 1, "length": 16, "whole": False}]}
    (folder / "sweep.json").write_text(
        json.dumps(config | {"settings": older, "fingerprint": fingerprint(older)})
    )
    (text,) = trim.open_sweep(folder).settings.texts  # from before windows could begin with BOS
    assert text.bos
    with pytest.raises(trim.RunError, match=r"no sweep\.json"):
        trim.open_sweep(tmp_path)


def test_a_second_process_is_refused(done):
    with done.locked(), pytest.raises(trim.RunLockedError):
        trim.run_sweep(done)


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
