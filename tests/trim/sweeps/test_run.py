"""Sweeps as they run: cells are runs, what is stopped is resumed, events, and what fails."""

from unittest.mock import Mock

import numpy as np
import pytest

import trim
from tests.trim.sweeps.grids import SHARED, TEXTS, settings
from trim.progress import Progress
from trim.runs.settings import PruneSettings
from trim.runs.writer import RunWriter
from trim.sweeps import cell
from trim.sweeps.events import CellDone, DenseMeasured, SweepBegan, SweepFinished


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


def test_a_text_that_cannot_be_read_is_reported_before_pruning(model, tmp_path):
    grid = trim.SweepSettings(model, {"target": (0.5,)}, SHARED, (trim.EvaluationText("demo", length=500),))
    sweep = trim.create_sweep(tmp_path / "s", grid)
    with pytest.raises(trim.CorpusError, match="at most 128"):
        trim.run_sweep(sweep)
    assert not sweep.cells_folder.exists()
