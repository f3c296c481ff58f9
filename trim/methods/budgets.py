"""The sparsity of each layer: what the methods request, and the one projection that makes it exact.

OWL: Yin et al., "Outlier Weighed Layerwise Sparsity", arXiv 2310.05175, section 3.
AlphaPruning: Lu et al., "AlphaPruning: Using Heavy-Tailed Self Regularization Theory for Improved Layer-wise Pruning
of Large Language Models", arXiv 2410.10912, section 3.

A budget method is a function that gives each layer a sparsity. These sparsities need not be reachable, nor add up.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from trim.errors import SettingsError, SparsityError
from trim.methods.counts import largest_count
from trim.names import block_index, match_layers

Shapes = Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Budgets:
    """How many weights each layer loses.

    Attributes:
        method: "uniform", "owl", "alphapruning", "optimal", "pattern", or a file's name.
        totals: whole numbers of weights; together round(T · all weights).
        shapes: (D, N) of each layer.
        requested: the sparsities that the method requested, before the projection.
        clipped: the layers whose requested sparsity is below 0 or above what the row cap allows.
    """

    method: str
    totals: dict[str, int]
    shapes: dict[str, tuple[int, int]] = field(repr=False)
    requested: dict[str, float] = field(repr=False)
    clipped: tuple[str, ...] = ()

    @classmethod
    def exact(cls, method: str, totals: dict[str, int], shapes: Shapes) -> "Budgets":
        """Make the budgets of a method that gives whole numbers of weights, which need no projection."""
        budgets = cls(method, totals, dict(shapes), {})
        return replace(budgets, requested=budgets.layers)

    @property
    def layers(self) -> dict[str, float]:
        """Each layer's sparsity."""
        return {name: total / math.prod(self.shapes[name]) for name, total in self.totals.items()}

    @property
    def sparsity(self) -> float:
        """The model's sparsity over these layers."""
        return sum(self.totals.values()) / self.weights

    @property
    def requested_sparsity(self) -> float:
        """The model's sparsity that the requested sparsities add up to."""
        return (
            sum(self.requested[name] * math.prod(shape) for name, shape in self.shapes.items()) / self.weights
        )

    @property
    def weights(self) -> int:
        """Return the number of weights of these layers."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    def to_json(self) -> dict:
        """Return the content of a run's `budgets.json`; `read_budgets` reads it."""
        return {
            "method": self.method,
            "sparsity": self.sparsity,
            "totals": self.totals,
            "layers": self.layers,
            "requested": self.requested,
            "clipped": list(self.clipped),
        }


def project_budgets(
    requested: Mapping[str, float], shapes: Shapes, target: float, max_row_sparsity: float, *, method: str
) -> Budgets:
    """Find the possible budgets nearest to the requested ones that add up to the target.

    All layers are shifted by the same sparsity and clipped between 0 and what their rows can lose under the cap. The
    results are rounded to whole weights by largest remainder.

    Args:
        requested: a sparsity for each layer, any finite number.
        shapes: (D, N) of the same layers.
        target: T, the model's sparsity over these layers.
        max_row_sparsity: the cap on a row's sparsity.
        method: the name of the method that requested them.

    Raises:
        SparsityError: the target is out of reach under the cap.
        SettingsError: a request is not finite.
    """
    names = list(shapes)
    wanted = np.array([requested[name] for name in names], dtype=np.float64)
    if not np.isfinite(wanted).all():
        raise SettingsError(f"{names[int(np.argmin(np.isfinite(wanted)))]}: a budget must be a finite number")
    weights = np.array([math.prod(shapes[name]) for name in names], dtype=np.int64)
    limits = np.array([rows * largest_count(columns, max_row_sparsity) for rows, columns in shapes.values()])
    total = round(target * int(weights.sum()))
    if not 0 <= total <= limits.sum():
        raise SparsityError(
            f"a model sparsity of {target:g} cannot be reached: with at most {max_row_sparsity:g} of each row pruned "
            f"the model reaches {limits.sum() / weights.sum():.4g}. Lower the target or raise the row cap."
        )
    exact = np.clip((wanted + _common_shift(wanted, weights, limits, total)) * weights, 0, limits)
    totals = np.floor(exact + 1e-9).astype(np.int64)
    # Rounding errors may leave the sum a few weights too high or too low.
    while (missing := total - int(totals.sum())) != 0:
        room = totals < limits if missing > 0 else totals > 0
        gain = np.where(room, (exact - totals) * np.sign(missing), -np.inf)
        chosen = np.argsort(-gain, kind="stable")[: min(abs(missing), int(room.sum()))]
        totals[chosen] += np.sign(missing)
    outside = (wanted < 0) | (wanted * weights > limits)
    return Budgets(
        method,
        dict(zip(names, totals.tolist(), strict=True)),
        dict(shapes),
        dict(zip(names, wanted.tolist(), strict=True)),
        tuple(name for name, out in zip(names, outside.tolist(), strict=True) if out),
    )


def _common_shift(wanted: np.ndarray, weights: np.ndarray, limits: np.ndarray, total: int) -> float:
    """Find the s with Σ clip(w·(b + s), 0, limit) = total: a rising line with a bend where a layer meets a bound."""
    bends = np.sort(np.concatenate([-wanted, limits / weights - wanted]))
    sums = [float(np.clip((wanted + bend) * weights, 0, limits).sum()) for bend in bends]
    return float(np.interp(total, np.maximum.accumulate(sums), bends))


def scale_linearly(values: list[float], low: float, high: float) -> np.ndarray:
    """Map values linearly from `low` (the smallest) to `high` (the largest); equal values all to the middle."""
    numbers = np.asarray(values, dtype=np.float64)
    finite = numbers[np.isfinite(numbers)]
    middle = np.full(len(numbers), (low + high) / 2)
    if not finite.size or finite.max() == finite.min():
        return middle
    scaled = low + (numbers - finite.min()) / (finite.max() - finite.min()) * (high - low)
    return np.where(np.isfinite(numbers), scaled, middle)


def layer_ratios(
    ratios: np.ndarray, shapes: Shapes, correction: Callable[[float], float], apply: np.ufunc
) -> dict[str, float]:
    """Give each layer its block's ratio, corrected so that the mean over all weights is the target.

    Args:
        ratios: one for each block, in order.
        shapes: (D, N) of the layers, named by block index first.
        correction: returns the correction from the mean over all weights.
        apply: applies it to the ratios, such as `np.add`.
    """
    blocks = sorted({block_index(name) for name in shapes})
    ratio_of = dict(zip(blocks, ratios.tolist(), strict=True))
    weights = np.array([math.prod(shape) for shape in shapes.values()], dtype=np.float64)
    ratio = np.array([ratio_of[block_index(name)] for name in shapes])
    mean = float((ratio * weights).sum() / weights.sum())
    return dict(zip(shapes, apply(ratio, correction(mean)).tolist(), strict=True))


def read_budget_file(path: Path) -> dict[str, float]:
    """Read the entries of a budget file, or of a run's `budgets.json`, before its model is known.

    Raises:
        SettingsError: the file cannot be read, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"the budget file {path} cannot be read ({error.strerror}); check the path"
        ) from error
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"the budget file {path} is not JSON ({error})") from error
    if isinstance(content, dict) and isinstance(content.get("layers"), dict):
        content = content["layers"]
    if not isinstance(content, dict) or not all(
        isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
        for value in content.values()
    ):
        raise SettingsError(
            f'{path} must hold an object like {{"0.*": 0.5, "1.mlp.up_proj": 0.7}}, values from 0 to 1'
        )
    return content


def read_budgets(path: Path, shapes: Shapes) -> dict[str, float]:
    """Read sparsities from a JSON file: {layer name or shell pattern: sparsity}, later entries before earlier ones.

    A run's `budgets.json` can be read too.

    Raises:
        SettingsError: the file cannot be read, holds something else, or gives a layer no budget.
        LayerNotFoundError: a name matches no layer.
    """
    content = read_budget_file(path)
    budgets: dict[str, float] = {}
    for pattern, names in match_layers(content, shapes, f"{path}: no layer matches").items():
        budgets |= dict.fromkeys(names, float(content[pattern]))
    if missing := [name for name in shapes if name not in budgets]:
        raise SettingsError(
            f'{path} gives no budget to {missing[0]} and {len(missing) - 1} other layers; begin it with "*": …'
        )
    return budgets
