"""The names that a user may choose from, and the papers' own values.

Imports no torch: the command line and the run folder need the names only; a function is loaded when it is first used.
"""

import importlib
from collections import ChainMap, UserDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

if TYPE_CHECKING:
    from torch import Tensor

    from trim.methods.allocations import Allocation, ScoredLayer
    from trim.methods.retention import Retained
    from trim.methods.search_settings import SearchSettings
    from trim.methods.solve import Solution

    AllocateLayers = Callable[[ScoredLayer, Sequence[int], Sequence[SearchSettings]], list[Allocation]]

F = TypeVar("F", bound=Callable[..., object])


class Registry(UserDict[str, F], Generic[F]):
    """Functions by name, each imported from its module when it is first used.

    Example:
        >>> SCORES["wanda"].__name__
        'wanda_score'
    """

    def __init__(self, module: str, **functions: str) -> None:
        """Take a module or package, and each function's path in it by its name here: alps="alps.alps"."""
        super().__init__()
        self._module = module
        self.data: dict[str, Any] = {**functions}

    def __getitem__(self, name: str) -> F:
        if isinstance(function := self.data[name], str):
            module, _, attribute = f"{self._module}.{function}".rpartition(".")
            function = self.data[name] = getattr(importlib.import_module(module), attribute)
        return cast(F, function)


# Each takes the weight (D, N) and the input norms (N,), and returns the scores (D, N).
SCORES: "Registry[Callable[[Tensor, Tensor], Tensor]]" = Registry(
    "trim.methods.scores", wanda="wanda_score", magnitude="magnitude_score"
)
# Each takes the scored layer, its total and the search's settings.
ALLOCATIONS: "Registry[Callable[[ScoredLayer, int, SearchSettings], Allocation]]" = Registry(
    "trim.methods.allocations",
    uniform="allocate_uniform",
    trim="allocate_trim",
    optimal="allocate_optimal",
    variant="allocate_variant",
    layer="allocate_layer",
)
# The allocations of several layers of one shape at once: they take lists of totals and settings.
ALLOCATIONS_OF_LAYERS: "Registry[AllocateLayers]" = Registry(
    "trim.methods.allocations",
    uniform="uniform_of_layers",
    trim="trim_of_layers",
    optimal="optimal_of_layers",
)
# Solvers choose a layer's mask and its kept weights at once. Each takes the weight (D, N), the text's products, the
# number of pruned weights, and by name the rows' sensitivities (D,), an n:m pattern and a progress listener, or None.
SOLVERS: "Registry[Callable[..., Solution]]" = Registry(
    "trim.methods", solved="solve.solve", alps="alps.alps", sparsegpt="sparsegpt.sparsegpt"
)
# The methods by which a layer may be pruned.
METHODS: "ChainMap[str, Callable[..., object]]" = ChainMap(SOLVERS, ALLOCATIONS)  # type: ignore[arg-type]
ROW_QUALITIES: "Registry[Callable[[Retained], Tensor]]" = Registry(
    "trim.methods.quality", cosim="row_cosim", mse="row_mse", psnr="row_psnr"
)
LAYER_QUALITIES: "Registry[Callable[[Retained], Tensor]]" = Registry(
    "trim.methods.quality",
    cosim_flat="cosim_flat",
    cosim_dim="cosim_dim",
    cosim_sample="cosim_sample",
    mse="mse",
    mse_dim="mse",
    mae="mae",
    snr="snr",
    psnr_flat="psnr_flat",
    psnr_dim="psnr_dim",
    psnr_sample="psnr_sample",
)
LAYER_QUALITY_MEANINGS = {
    "cosim_flat": "cosine of the whole output",
    "cosim_dim": "mean cosine over rows",
    "cosim_sample": "mean cosine over calibration vectors",
    "mse": "mean squared error",
    "mse_dim": "mean squared error, row by row",
    "mae": "mean absolute error",
    "snr": "signal-to-noise ratio",
    "psnr_flat": "peak signal-to-noise ratio",
    "psnr_dim": "mean peak signal-to-noise ratio over rows",
    "psnr_sample": "mean peak signal-to-noise ratio over vectors",
}
ROW_QUALITY_MEANINGS = {
    "cosim": "cosine",
    "mse": "mean squared error",
    "psnr": "peak signal-to-noise ratio",
}
# Qualities that multiply masked weights for every candidate instead of looking up the curves.
DIRECT_QUALITIES = frozenset({"cosim_sample", "mae", "psnr_sample"})

BUDGETS = ("uniform", "owl", "alphapruning", "optimal")
OWL_WIDTH, OWL_MULTIPLE = 0.08, 5.0  # λ and M in OWL's README
ALPHA_WIDTH = 0.3  # ε
ALPHA_FITS = ("alpha_peak", "alpha_mid")
ROW_WEIGHTS = ("fisher", "ones")
INPUT_VECTORS = ("random", "last")  # which tokens of a window
RECALCULATIONS = ("all", "vectors")  # within a block: input norms and input vectors, or input vectors only
OPTIMAL_CAP = (
    0.99  # the optimal methods measure each row's error, so a row may lose nearly all of its weights
)
