"""Curves of sweeps are named by what tells them apart."""

from app.services.results.sweep_curves import brief_labels
from trim.sweeps.settings import GRID_OPTIONS


def method(**fields):
    plain = dict.fromkeys(GRID_OPTIONS) | {"score": "wanda", "allocation": "trim", "budget": "uniform"}
    return plain | {"recalculate_inputs": False} | fields


def test_one_thing_differs():
    assert brief_labels([method(), method(allocation="uniform"), method(allocation="variant")]) == [
        "TRIM",
        "Wanda",
        "Wanda's variant",
    ]


def test_budgets_where_they_differ():
    methods = [
        method(),
        method(budget="owl", owl_width=0.08),
        method(budget="owl", owl_width=0.12, recalculate_inputs=True),
        method(allocation="optimal", budget="optimal"),
        method(allocation="uniform", budget="optimal"),
    ]
    assert brief_labels(methods) == [
        "TRIM, uniform budgets",
        "TRIM, OWL budgets, λ 0.08",
        "TRIM, OWL budgets, λ 0.12, recalculated inputs",
        "Optimal",
        "Wanda",
    ]
    assert brief_labels([*methods, method(allocation="uniform")])[-2:] == [
        "Wanda, optimal budgets",
        "Wanda, uniform budgets",
    ]


def test_scores_and_vectors():
    methods = [
        method(allocation="uniform", score="magnitude"),
        method(allocation="uniform", vectors_per_sequence=None),
        method(vectors_per_sequence=1),
        method(vectors_per_sequence=8),
    ]
    assert brief_labels(methods) == [
        "Magnitude",
        "Wanda",
        "TRIM, wanda score, vectors 1",
        "TRIM, wanda score, vectors 8",
    ]
