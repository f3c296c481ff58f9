"""The code in docs/extending.md does what the page says."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from streamlit.testing.v1 import AppTest

import trim
from app.services.runs.layer import LayerView
from tests.app.small import layer_sample
from tests.app.small_runs import make_run
from tests.trim import rough, tiny
from trim.methods.choices import ALLOCATIONS, SCORES

PAGE = Path(__file__).resolve().parents[1] / "docs/extending.md"


@pytest.fixture(scope="module")
def added() -> dict:
    """What the page's code defines; the tables are as they were afterwards."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    scores, allocations, names = dict(SCORES), dict(ALLOCATIONS), {}
    exec("\n".join(blocks), names)
    yield names
    for table, before in ((SCORES, scores), (ALLOCATIONS, allocations)):
        table.clear()
        table.update(before)


@pytest.mark.slow
@pytest.mark.parametrize("more", [{"score": "root"}, {"allocation": "relative"}])
def test_a_model_is_pruned_by_it(added, tmp_path, more):
    (tmp_path / "text.txt").write_text("word " * 2000)
    model = tiny.folder(tmp_path / "model")
    run = rough.wanda(model, tmp_path / "run", corpus=str(tmp_path / "text.txt"), **more)
    assert run.complete
    assert run.metrics["sparsity"]["realised"] == pytest.approx(0.5, abs=1e-3)


def test_the_allocation_loses_least_of_what_it_says(added):
    sample = layer_sample()
    layer = sample.scored("root")
    curves = layer.curves
    settings = trim.SearchSettings(0.5)

    def loss(name: str) -> float:
        counts = ALLOCATIONS[name](layer, 120, settings).counts
        assert int(counts.sum()) == 120
        return float((curves.at(counts).error / curves.output_norm.double().square()).sum())

    assert loss("relative") < loss("uniform")
    assert torch.isfinite(layer.score).all()


def test_the_view(added, tmp_path):
    assert added["share_by_rows"](np.array([1, 3, 0])).tolist() == [0.75, 1, 1]
    run = trim.open_run(make_run(tmp_path / "mine"))
    layer = LayerView.of(run, run.layer(run.layers[0]))

    def page(card, layer) -> None:
        card(layer, "file")

    test = AppTest.from_function(page, args=(added["share_card"], layer)).run()
    assert not test.exception
    assert len(test.get("plotly_chart")) == 1
    assert any("Half of the pruned weights" in each.value for each in test.caption)
