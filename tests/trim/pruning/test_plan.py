"""What budgets are made of is measured once, for all targets, and again when anything that it depends on changes."""

import pytest

import trim
from tests.trim import tiny
from trim.cache import usage_bytes


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
