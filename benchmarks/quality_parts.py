"""The sweeps of `benchmarks.quality`, by part: what varies in each."""

BUDGETS = ("uniform", "owl", "alphapruning")
# Each part's sweeps: fields of the grid and their values.
PARTS: dict[str, list[dict[str, tuple]]] = {
    "scores": [
        {
            "score": ("wanda",),
            "allocation": ("uniform", "trim"),
            "budget": BUDGETS,
            "recalculate_inputs": (False, True),
            "vectors_per_sequence": (1, 8),
            "seed": (0,),
        },
        {"score": ("magnitude",), "allocation": ("uniform",), "budget": BUDGETS, "seed": (0,)},
    ],
    "methods": [
        {
            "allocation": ("uniform", "trim"),
            "budget": BUDGETS,
            "vectors_per_sequence": (4,),
            "seed": (0, 1, 2),
        }
    ],
    "optimal": [
        {
            "allocation": ("optimal",),
            "budget": ("uniform", "optimal"),
            "vectors_per_sequence": (4,),
            "seed": (0, 1, 2),
        },
        {
            "allocation": ("uniform", "trim"),
            "budget": ("optimal",),
            "vectors_per_sequence": (4,),
            "seed": (0, 1, 2),
        },
        {
            "allocation": ("optimal",),
            "budget": ("optimal",),
            "row_weights": ("ones",),
            "vectors_per_sequence": (4,),
            "seed": (0,),
        },
    ],
    "refit": [
        {
            "allocation": ("optimal",),
            "budget": ("optimal",),
            "refit": (True,),
            "vectors_per_sequence": (4,),
            "seed": (0, 1, 2),
        },
        {
            "allocation": ("uniform", "trim", "optimal"),
            "budget": ("uniform",),
            "refit": (True,),
            "vectors_per_sequence": (4,),
            "seed": (0, 1, 2),
        },
    ],
    "solved": [
        {
            "allocation": ("solved",),
            "budget": ("optimal",),
            "vectors_per_sequence": (4,),
            "seed": (0, 1, 2),
        },
    ],
    "tuned": [
        {
            "allocation": ("solved",),
            "budget": ("optimal",),
            "tune": (True,),
            "vectors_per_sequence": (4,),
            "seed": (0, 1, 2),
        },
    ],
    "peers": [
        {
            "allocation": ("alps", "sparsegpt"),
            "budget": ("uniform",),
            "vectors_per_sequence": (4,),
            "seed": (0, 1, 2),
        },
    ],
    "ablation": [
        {
            "allocation": ("solved",),
            "budget": ("uniform",),
            "vectors_per_sequence": (4,),
            "seed": (0,),
        },
    ],
    "parameters": [
        {
            "allocation": ("trim",),
            "budget": ("owl",),
            "owl_width": (0.05, 0.08, 0.12, 0.2),
            "owl_multiple": (5.0, 7.0),
            "vectors_per_sequence": (4,),
            "seed": (0,),
        },
        {
            "allocation": ("trim",),
            "budget": ("alphapruning",),
            "alpha_width": (0.1, 0.2, 0.3),
            "vectors_per_sequence": (4,),
            "seed": (0,),
        },
    ],
    "published": [
        {
            "allocation": ("trim",),
            "budget": ("owl",),
            "owl_width": (0.05,),
            "owl_multiple": (7.0,),
            "vectors_per_sequence": (4,),
            "seed": (0, 1, 2),
        },
        {
            "allocation": ("trim",),
            "budget": ("alphapruning",),
            "alpha_width": (0.1,),
            "vectors_per_sequence": (4,),
            "seed": (0, 1, 2),
        },
    ],
    "fits": [
        {
            "allocation": ("uniform", "trim"),
            "budget": ("alphapruning",),
            "alpha_fit": ("alpha_mid",),
            "vectors_per_sequence": (4,),
            "seed": (0,),
        },
    ],
}
