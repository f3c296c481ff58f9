"""Sentences of the Model page."""

import dataclasses

import numpy as np

from app.ui.common.maps import map_finding
from diagnostics.model_map import ModelMap, layer_facts


def shown(*layers: tuple[float | None, float]) -> ModelMap:
    """Return a run of layers with these learning rates and gains."""
    facts = tuple(
        layer_facts(
            f"{block}.mlp.up_proj",
            gini=np.array([0.5, 0.6]),
            layer_sparsity=0.7,
            qualities=(0.9, 0.9 + gain),
            cosines=(np.array([0.8, 0.9]), np.array([0.8, 0.9])),
            dead_rows=np.zeros(2, bool),
            learning_rate=rate,
            searched=True,
        )
        for block, (rate, gain) in enumerate(layers)
    )
    return ModelMap("run", tuple(each.name for each in facts), facts, "cosim_flat")


def test_rates_that_lose_at_exact_counts_are_counted():
    finding = map_finding(shown((0.01, 0.1), (0.02, -0.1), (-0.01, -0.1), (None, 0.0)), "outcome")
    assert finding.startswith(
        "Of 4 layers, 2 chose a positive rate, 1 a negative one, and in 1 nothing beat uniform."
    )
    assert finding.endswith("at exact counts 2 of the chosen rates lose.")
    fine = shown((0.01, 0.1), (None, 0.0))
    assert map_finding(fine, "outcome").endswith("nothing beat uniform.")
    assert "lose" not in map_finding(dataclasses.replace(fine, layers=fine.layers[:1]), "outcome")
    few = dataclasses.replace(fine.layers[1], outcome=None, tokens=3.0)
    finding = map_finding(dataclasses.replace(fine, layers=(fine.layers[0], few)), "outcome")
    assert finding.startswith("Of 1 layer, 1 chose a positive rate")
    assert finding.endswith("1 more is of experts that too few tokens reach: every row loses the same there.")


def test_a_single_layer_is_not_many():
    finding = map_finding(shown((0.01, 0.1), (0.02, -0.1)), "quality_gain")
    assert finding.startswith("1 layer gains, 1 loses. ")
    finding = map_finding(shown((0.01, 0.1), (0.02, -0.1)), "outcome")
    assert finding.startswith("All 2 layers chose a positive rate. ")
    assert finding.endswith("at exact counts 1 of the chosen rates loses.")
