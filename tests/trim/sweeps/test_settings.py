"""Which cells a grid yields: those that cannot differ are made once, and what makes no sense is refused."""

import json

import pytest

import trim
from tests.trim.sweeps.grids import settings


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
