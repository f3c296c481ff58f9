"""What comes out of a sweep: its files, curves of several seeds, NaN, labels."""

import csv
import dataclasses
import json
import math

import pytest

import trim
from tests.trim.sweeps.grids import SHARED, TEXTS, settings
from trim.sweeps.results import geometric_mean, results


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


def test_an_idle_score_is_not_in_a_label(model, tmp_path):
    chosen = trim.SweepSettings(model, {"target": (0.5,), "allocation": ("solved",)}, SHARED, TEXTS)
    sweep = trim.create_sweep(tmp_path / "s", chosen)
    (curve,) = results(sweep, sweep.outcomes())["curves"]
    assert curve["label"] == "solved, budgets uniform, row weights fisher"


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
