"""A run takes as long as the last one that differs from it in nothing that takes time."""

import dataclasses

import pytest

from app.services.runs.estimate import estimated_seconds
from app.services.runs.store import RunStore
from tests.app.small_runs import make_run


@pytest.fixture
def runs(tmp_path):
    make_run(tmp_path / "runs/optimal", "optimal", metrics={"seconds": 75.0})
    make_run(tmp_path / "runs/half", "trim", blocks=1)
    (tmp_path / "none").mkdir()
    return RunStore(lambda: tmp_path / "runs", lambda: tmp_path / "none").runs()


@pytest.mark.parametrize(
    ("change", "seconds"),
    [
        ({}, 75.0),
        ({"target": 0.6, "seed": 3, "score": "magnitude", "max_row_sparsity": 0.9}, 75.0),
        ({"owl_width": 0.2, "iterations": 3}, 75.0),  # idle
        ({"layers": ("0.*",)}, None),
        ({"refit": True}, None),
        ({"allocation": "solved", "tune": True}, None),
        ({"sensitivity_windows": 1}, None),
        ({"row_weights": "ones"}, None),
        ({"windows": 3}, None),
        ({"allocation": "trim", "budget": "uniform"}, None),  # of that one there is half a run
    ],
)
def test_seconds(runs, change, seconds):
    (optimal,) = [entry.run for entry in runs if entry.id == "optimal"]
    assert estimated_seconds(dataclasses.replace(optimal.request, **change), runs) == seconds


def test_runs_that_came_with_the_app_were_made_elsewhere(runs):
    shipped = [dataclasses.replace(entry, shipped=True) for entry in runs]
    assert estimated_seconds(shipped[0].run.request, shipped) is None
