"""The sweeps of `benchmarks.quality`, by part, with the options that vary in each."""

BUDGETS = ("uniform", "owl", "alphapruning")
ONE, THREE = (0,), (0, 1, 2)  # seeds


def _sweep(
    allocation: tuple[str, ...], budget: tuple[str, ...], seeds: tuple[int, ...], **more: tuple
) -> dict:
    """The fields of a grid and their values; 4 input vectors per window unless said otherwise."""
    grid = {"allocation": allocation, "budget": budget, "vectors_per_sequence": (4,), **more, "seed": seeds}
    return {name: values for name, values in grid.items() if values}


PARTS: dict[str, list[dict[str, tuple]]] = {
    "scores": [
        _sweep(
            ("uniform", "trim"),
            BUDGETS,
            ONE,
            score=("wanda",),
            recalculate_inputs=(False, True),
            vectors_per_sequence=(1, 8),
        ),
        _sweep(("uniform",), BUDGETS, ONE, score=("magnitude",), vectors_per_sequence=()),
    ],
    "methods": [_sweep(("uniform", "trim"), BUDGETS, THREE)],
    "optimal": [
        _sweep(("optimal",), ("uniform", "optimal"), THREE),
        _sweep(("uniform", "trim"), ("optimal",), THREE),
        _sweep(("optimal",), ("optimal",), ONE, row_weights=("ones",)),
    ],
    "refit": [
        _sweep(("optimal",), ("optimal",), THREE, refit=(True,)),
        _sweep(("uniform", "trim", "optimal"), ("uniform",), THREE, refit=(True,)),
    ],
    "solved": [_sweep(("solved",), ("optimal",), THREE)],
    "tuned": [_sweep(("solved",), ("optimal",), THREE, tune=(True,))],
    "peers": [_sweep(("alps", "sparsegpt"), ("uniform",), THREE)],
    "ablation": [_sweep(("solved",), ("uniform",), ONE)],
    "parameters": [
        _sweep(("trim",), ("owl",), ONE, owl_width=(0.05, 0.08, 0.12, 0.2), owl_multiple=(5.0, 7.0)),
        _sweep(("trim",), ("alphapruning",), ONE, alpha_width=(0.1, 0.2, 0.3)),
    ],
    "published": [
        _sweep(("trim",), ("owl",), THREE, owl_width=(0.05,), owl_multiple=(7.0,)),
        _sweep(("trim",), ("alphapruning",), THREE, alpha_width=(0.1,)),
    ],
    "fits": [_sweep(("uniform", "trim"), ("alphapruning",), ONE, alpha_fit=("alpha_mid",))],
}
