"""Measurements for budgets are made once for all targets, and again when anything that they depend on changes."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

import trim
from tests.trim import tiny
from trim.cache import usage_bytes
from trim.methods.budgets import Budgets
from trim.pruning.prune import _saved_budgets


@pytest.mark.parametrize("budget", ["owl", "alphapruning"])
def test_runs_share_what_does_not_depend_on_the_target(own_cache, tmp_path, monkeypatch, budget):
    model = tiny.folder(tmp_path / "tiny")
    asked = {"budget": budget, "allocation": "uniform", "windows": 2, "length": 16}
    calls = []
    import trim.pruning.plan as planning

    for name in ("_outlier_shares", "_exponents"):
        measure = getattr(planning, name)
        monkeypatch.setattr(
            planning, name, lambda *given, measure=measure: calls.append(measure) or measure(*given)
        )
    first = trim.prune(model, tmp_path / "first", target=0.5, **asked)
    assert len(calls) == 1
    again = trim.prune(model, tmp_path / "again", target=0.5, **asked)
    trim.prune(model, tmp_path / "sparser", target=0.6, **asked)
    assert len(calls) == 1
    assert again.budgets == first.budgets
    assert len(set(first.budgets["layers"].values())) > 1
    trim.prune(tiny.folder(tmp_path / "other", seed=1), tmp_path / "of-other", target=0.5, **asked)
    assert len(calls) == 2
    assert usage_bytes()["budgets"] > 0


def test_budgets_are_saved_to_the_weight():
    shapes = {"0.mlp.up_proj": (7, 13), "1.mlp.up_proj": (3, 11)}
    budgets = Budgets.exact("optimal", {"0.mlp.up_proj": 37, "1.mlp.up_proj": 0}, shapes)
    saved = json.loads(json.dumps(budgets.to_json()))
    assert _saved_budgets(SimpleNamespace(budgets=saved, path=Path("run")), shapes) == budgets
    damaged = SimpleNamespace(budgets=saved | {"totals": {"0.mlp.up_proj": 37}}, path=Path("run"))
    with pytest.raises(trim.RunError, match="damaged"):
        _saved_budgets(damaged, shapes)
