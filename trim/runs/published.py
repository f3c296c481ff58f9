"""The options of the run that TRIM was published with, where ours differ by default.

Source: the code of Beck, Rudman and Eickhoff (github.com/flobk/TRIM), as it runs without options of its own.
"""

from collections.abc import Mapping

AS_PUBLISHED: Mapping[str, object] = {
    "allocation": "trim",
    "budget": "uniform",
    "score": "wanda",
    "corpus": "c4",
    "windows": 256,
    "length": 2048,
    "bos": False,
    "vectors_per_sequence": 1,
    "input_vectors": "last",
    "recalculate_inputs": False,
    "recalculation": "vectors",
    "seed": 0,
    "learning_rates": (0.01, 0.02, 0.04, 0.08, 0.12, 0.16),
    "negative_learning_rates": (-0.01, -0.02, -0.04),
    "iterations": 10,
    "layer_quality": "cosim_flat",
    "row_quality": "cosim",
    "max_row_sparsity": 0.95,
    "owl_width": 0.05,
    "owl_multiple": 7.0,
    "alpha_width": 0.3,
    "alpha_fit": "alpha_peak",
    "dtype": "float16",
}


def as_published(**changes: object) -> dict[str, object]:
    """Return the options of the TRIM authors' run by name, for `trim.prune`, with some of them changed.

    docs/as-published.md lists the remaining differences.

    Example:
        trim.prune(model, "runs/published", target=0.7, **trim.as_published(budget="owl"))
    """
    return {**AS_PUBLISHED, **changes}
