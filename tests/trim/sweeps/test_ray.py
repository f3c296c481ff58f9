"""A sweep on a local Ray cluster of two workers, one of which is killed while it prunes."""

import contextlib
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

import trim
from tests.trim import tiny
from trim.cli import main

pytestmark = pytest.mark.filterwarnings("ignore")  # of Ray's own

SHARED = {"windows": 8, "length": 64, "device": "cpu"}
TEXTS = (trim.EvaluationText("demo", windows=2, length=16),)


def test_without_ray_its_extra_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    model = tiny.folder(tmp_path / "tiny")
    asked = ["sweep", str(model), "--targets", "0.5", "--windows", "2", "--length", "16", "--ray"]
    assert main([*asked, "--out", str(tmp_path / "s")]) == 2
    assert "pip install 'trim-lab[ray]'" in capsys.readouterr().err


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch):
    """Two workers that find this repository."""
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'trim-lab[ray]'")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    root = str(Path(__file__).resolve().parents[3])
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": root}},
    )
    yield ray
    ray.shutdown()


def kill_a_worker(cells: Path, stop: threading.Event, killed: list[str]) -> None:
    """The first worker seen to prune a cell: its process id is in the run's lock, and no block or some are there."""
    while not stop.is_set() and not killed:
        for config in cells.glob("*/config.json"):
            run = trim.open_run(config.parent)
            if not run.complete:
                with contextlib.suppress(OSError, ValueError):
                    pid = int((config.parent / "lock").read_text())
                    if pid != os.getpid():
                        os.kill(pid, signal.SIGKILL)
                        killed.append(config.parent.name)
                        break
        time.sleep(0.002)


def test_a_lost_worker_s_cell_is_run_again(cluster, tmp_path):
    model = tiny.folder(tmp_path / "tiny")
    grid = {"target": (0.4, 0.6), "allocation": ("uniform", "trim")}
    settings = trim.SweepSettings(model, grid, SHARED, TEXTS)
    sweep = trim.create_sweep(tmp_path / "on-ray", settings)
    stop, killed, events = threading.Event(), [], []
    killer = threading.Thread(target=kill_a_worker, args=(sweep.cells_folder, stop, killed))
    killer.start()
    try:
        trim.run_sweep(sweep, ray="local", listener=events.append)
    finally:
        stop.set()
        killer.join()
    assert len(killed) == 1
    assert [outcome.problem for outcome in sweep.outcomes()] == [None] * 4
    assert all(outcome.done for outcome in sweep.outcomes())
    assert events[-1].failed == 0

    alone = trim.run_sweep(trim.create_sweep(tmp_path / "alone", settings))
    for here, there in zip(alone.outcomes(), sweep.outcomes(), strict=True):
        assert there.run.metrics["sparsity"] == here.run.metrics["sparsity"]
        assert there.perplexities[0]["perplexity"] == pytest.approx(
            here.perplexities[0]["perplexity"], rel=1e-4
        )


def test_what_goes_wrong_in_a_worker_is_the_cell_s_problem(cluster, tmp_path):
    model = tiny.folder(tmp_path / "tiny")
    budgets = tmp_path / "budgets.json"
    budgets.write_text('{"nothing.*": 0.5}')
    settings = trim.SweepSettings(
        model, {"target": (0.5,), "budget": ("uniform", str(budgets))}, SHARED, TEXTS
    )
    sweep = trim.run_sweep(trim.create_sweep(tmp_path / "s", settings), ray="local")
    assert [outcome.done for outcome in sweep.outcomes()] == [True, False]
    assert "no layer matches" in sweep.outcomes()[1].problem

    too_long = trim.SweepSettings(
        model, {"target": (0.5,)}, SHARED, (trim.EvaluationText("demo", length=500),)
    )
    with pytest.raises(trim.CorpusError, match="at most 128"):
        trim.run_sweep(trim.create_sweep(tmp_path / "long", too_long), ray="local")


def test_a_cluster_that_is_not_there(tmp_path):
    pytest.importorskip("ray", reason="ray is not installed: pip install 'trim-lab[ray]'")
    settings = trim.SweepSettings(tiny.folder(tmp_path / "tiny"), {"target": (0.5,)}, SHARED, TEXTS)
    with pytest.raises(trim.SettingsError, match="no Ray cluster at 'auto'"):
        trim.run_sweep(trim.create_sweep(tmp_path / "s", settings), ray="auto")
