"""What budgets are made of is measured once, for all targets, and again when anything that it depends on changes."""

import json
import math
from pathlib import Path

import pytest

import trim
from tests.trim import tiny
from trim.cache import cached_numbers, usage_bytes


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


def test_a_damaged_or_unwritable_cache_costs_time_only(own_cache, tmp_path, monkeypatch):
    key = {"a": 1}
    assert cached_numbers(key, lambda: [1.5, math.nan]) == [1.5, pytest.approx(math.nan, nan_ok=True)]
    assert cached_numbers(key, lambda: [2.0])[0] == 1.5
    (entry,) = (own_cache / "budgets").iterdir()
    for damage in ("", "[1, ", json.dumps(["x"]), json.dumps(None)):
        entry.write_text(damage)
        assert cached_numbers(key, lambda: [3.0]) == [3.0]
        assert json.loads(entry.read_text()) == [3.0]
    blocked = tmp_path / "file"
    Path(blocked).write_text("")
    monkeypatch.setenv("TRIM_CACHE", str(blocked))
    assert cached_numbers(key, lambda: [4.0]) == [4.0]
