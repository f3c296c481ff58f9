"""The sparsity of each layer: what the methods ask for, and the one projection that makes it exact.

OWL: Yin et al., "Outlier Weighed Layerwise Sparsity", arXiv 2310.05175, section 3.
AlphaPruning: Lu et al., "AlphaPruning: Using Heavy-Tailed Self Regularization Theory for Improved Layer-wise Pruning
of Large Language Models", arXiv 2410.10912, section 3.

A budget method is a function that gives each layer a sparsity. What it gives need not be reachable, nor add up.
"""

import fnmatch
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trim.errors import LayerNotFoundError, SettingsError, SparsityError
from trim.methods.masks import largest_count
from trim.names import near_names

Shapes = Mapping[str, tuple[int, int]]

OWL_WIDTH, OWL_MULTIPLE = 0.08, 5.0  # λ and M in OWL's README
ALPHA_WIDTH = 0.3  # ε
ALPHA_FITS = ("alpha_peak", "alpha_mid")


@dataclass(frozen=True)
class Budgets:
    """How many weights each layer loses.

    Attributes:
        method: who asked for them: "uniform", "owl", "alphapruning", or a file's name.
        totals: whole numbers of weights; together round(T · all weights).
        shapes: (D, N) of each layer.
        requested: the sparsities that the method asked for, before the projection.
        clipped: the layers that asked for less than 0 or more than their rows can lose under the cap.
    """

    method: str
    totals: dict[str, int]
    shapes: dict[str, tuple[int, int]] = field(repr=False)
    requested: dict[str, float] = field(repr=False)
    clipped: tuple[str, ...] = ()

    @property
    def layers(self) -> dict[str, float]:
        """Each layer's sparsity."""
        return {name: total / math.prod(self.shapes[name]) for name, total in self.totals.items()}

    @property
    def sparsity(self) -> float:
        """The model's sparsity over these layers."""
        return sum(self.totals.values()) / sum(math.prod(shape) for shape in self.shapes.values())

    def to_json(self) -> dict:
        """What `budgets.json` of a run holds; `read_budgets` reads it."""
        return {
            "method": self.method,
            "sparsity": self.sparsity,
            "layers": self.layers,
            "requested": self.requested,
            "clipped": list(self.clipped),
        }


def project_budgets(
    requested: Mapping[str, float], shapes: Shapes, target: float, max_row_sparsity: float, *, method: str
) -> Budgets:
    """The budgets nearest to what was asked for that can be had and add up to the target.

    Every layer moves by one common shift, which hands on what clipping takes or gives by parameter count; a layer
    stays between 0 and what its rows can lose under the cap. Rounded to whole weights by largest remainder.

    Args:
        requested: a sparsity for each layer, any finite number.
        shapes: (D, N) of the same layers.
        target: T, the model's sparsity over these layers.
        max_row_sparsity: the cap on a row's sparsity.
        method: who asked.

    Raises:
        SparsityError: the target is out of reach under the cap.
        SettingsError: a request is not finite.
    """
    names = list(shapes)
    asked = np.array([requested[name] for name in names], dtype=np.float64)
    if not np.isfinite(asked).all():
        raise SettingsError(f"{names[int(np.argmin(np.isfinite(asked)))]}: a budget must be a finite number")
    weights = np.array([math.prod(shapes[name]) for name in names], dtype=np.int64)
    limits = np.array([rows * largest_count(columns, max_row_sparsity) for rows, columns in shapes.values()])
    total = round(target * int(weights.sum()))
    if not 0 <= total <= limits.sum():
        raise SparsityError(
            f"a model sparsity of {target:g} cannot be reached: with at most {max_row_sparsity:g} of each row pruned "
            f"the model reaches {limits.sum() / weights.sum():.4g}. Lower the target or raise the row cap."
        )
    exact = np.clip((asked + _common_shift(asked, weights, limits, total)) * weights, 0, limits)
    totals = np.floor(exact + 1e-9).astype(np.int64)
    # A hair of rounding may leave the sum a few weights off on either side.
    while (missing := total - int(totals.sum())) != 0:
        room = totals < limits if missing > 0 else totals > 0
        gain = np.where(room, (exact - totals) * np.sign(missing), -np.inf)
        chosen = np.argsort(-gain, kind="stable")[: min(abs(missing), int(room.sum()))]
        totals[chosen] += np.sign(missing)
    outside = (asked < 0) | (asked * weights > limits)
    return Budgets(
        method,
        dict(zip(names, totals.tolist(), strict=True)),
        dict(shapes),
        dict(zip(names, asked.tolist(), strict=True)),
        tuple(name for name, out in zip(names, outside.tolist(), strict=True) if out),
    )


def _common_shift(asked: np.ndarray, weights: np.ndarray, limits: np.ndarray, total: int) -> float:
    """The s with Σ clip(w·(b + s), 0, limit) = total: a rising line with a bend where a layer meets a bound."""
    bends = np.sort(np.concatenate([-asked, limits / weights - asked]))
    sums = [float(np.clip((asked + bend) * weights, 0, limits).sum()) for bend in bends]
    return float(np.interp(total, np.maximum.accumulate(sums), bends))


def uniform_budgets(shapes: Shapes, target: float) -> dict[str, float]:
    """The same sparsity for every layer."""
    return dict.fromkeys(shapes, target)


def outlier_share(scores: list[Tensor], multiple: float) -> float:
    """OWL's layerwise outlier distribution of a block: the share of scores above `multiple` times their mean."""
    entries = sum(score.numel() for score in scores)
    mean = sum(float(score.sum(dtype=torch.float64)) for score in scores) / entries
    return sum(int((score > multiple * mean).sum()) for score in scores) / entries


def owl_budgets(outliers: list[float], shapes: Shapes, target: float, width: float) -> dict[str, float]:
    """OWL: blocks with more outliers keep more; all layers of a block alike.

    Args:
        outliers: each block's `outlier_share`.
        shapes: (D, N) of the layers, named by block index first.
        target: T.
        width: λ; keep ratios lie within 2λ.
    """
    return _by_block(1 - _scaled(outliers, 0.0, 2 * width), shapes, lambda mean: target - mean, np.add)


def alpha_budgets(exponents: list[float], shapes: Shapes, target: float, width: float) -> dict[str, float]:
    """AlphaPruning: blocks with a heavier tail (a smaller exponent) keep more; all layers of a block alike.

    Args:
        exponents: each block's mean tail exponent; NaN for a block without one, which gets the middle.
        shapes: (D, N) of the layers, named by block index first.
        target: T.
        width: ε; before scaling to the target, sparsities lie between 1 − ε and 1 + ε.
    """
    ratios = _scaled(exponents, 1 - width, 1 + width)
    return _by_block(ratios, shapes, lambda mean: target / mean, np.multiply)


def _scaled(values: list[float], low: float, high: float) -> np.ndarray:
    """Values mapped linearly so that the least becomes `low` and the largest `high`; all to the middle if equal."""
    numbers = np.asarray(values, dtype=np.float64)
    known = numbers[np.isfinite(numbers)]
    middle = np.full(len(numbers), (low + high) / 2)
    if not known.size or known.max() == known.min():
        return middle
    scaled = low + (numbers - known.min()) / (known.max() - known.min()) * (high - low)
    return np.where(np.isfinite(numbers), scaled, middle)


def _by_block(ratios: np.ndarray, shapes: Shapes, correction: object, apply: np.ufunc) -> dict[str, float]:
    """Each layer's block ratio, corrected so that their parameter-weighted mean is the target."""
    blocks = sorted({int(name.partition(".")[0]) for name in shapes})
    ratio_of = dict(zip(blocks, ratios.tolist(), strict=True))
    weights = np.array([math.prod(shape) for shape in shapes.values()], dtype=np.float64)
    ratio = np.array([ratio_of[int(name.partition(".")[0])] for name in shapes])
    mean = float((ratio * weights).sum() / weights.sum())
    return dict(zip(shapes, apply(ratio, correction(mean)).tolist(), strict=True))


def squared_singular_values(weight: Tensor) -> Tensor:
    """The min(D, N) squared singular values of a matrix, ascending, float64: the eigenvalues of its Gram matrix."""
    weight = weight.double()
    gram = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
    return torch.linalg.eigvalsh(gram).clamp_(min=0)


def tail_exponent(spectrum: Tensor, fit: str) -> float:
    """The exponent of the power law in the tail of a spectrum, by the Hill estimator (section 3.2).

    α = 1 + n / Σ ln(λ_i / λ_min) over the n values from λ_min up.

    Args:
        spectrum: squared singular values, ascending.
        fit: how λ_min is found. "alpha_mid": the median. "alpha_peak": among the values from 0.95 to 1.5 times the
            peak of a histogram of log₁₀ λ with 100 bins, the one whose power law is nearest to the tail (least
            Kolmogorov-Smirnov distance).

    Returns:
        α; NaN where no tail can be fitted (a matrix of zeros, or singular values that are all equal).
    """
    if fit not in ALPHA_FITS:
        raise SettingsError(f"alpha_fit must be one of {', '.join(ALPHA_FITS)}, not {fit!r}")
    values = spectrum.double().cpu().numpy()
    values = values[values > values.max(initial=0) * 1e-14]
    if len(values) < 2 or values[0] == values[-1]:
        return math.nan
    if fit == "alpha_mid":
        return _hill(values[len(values) // 2 :])
    counts, edges = np.histogram(np.log10(values), bins=100)
    peak = 10 ** edges[np.argmax(counts)]
    first, last = np.searchsorted(values, [0.95 * peak, 1.5 * peak])
    fits = []
    for start in range(first, max(min(last, len(values) - 1), first + 1)):
        tail = values[start:]
        alpha = _hill(tail)
        empirical = np.arange(len(tail)) / len(tail)
        fits.append((np.abs(1 - (tail / tail[0]) ** (1 - alpha) - empirical).max(), alpha))
    return min(fits)[1]


def _hill(tail: np.ndarray) -> float:
    logarithms = np.log(tail / tail[0]).sum()
    return 1 + len(tail) / logarithms if logarithms > 0 else math.nan


def read_budgets(path: Path, shapes: Shapes) -> dict[str, float]:
    """Sparsities from a JSON file: {layer name or shell pattern: sparsity}, later entries before earlier ones.

    A run's `budgets.json` can be read too.

    Raises:
        SettingsError: no such file, or no such content, or a layer without a budget.
        LayerNotFoundError: a name matches no layer.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path} cannot be read as JSON: {error}") from error
    if isinstance(content, dict) and isinstance(content.get("layers"), dict):
        content = content["layers"]
    if not isinstance(content, dict) or not all(
        isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1
        for value in content.values()
    ):
        raise SettingsError(
            f'{path} must hold an object like {{"0.*": 0.5, "1.mlp.up_proj": 0.7}}, values from 0 to 1'
        )
    budgets: dict[str, float] = {}
    for pattern, value in content.items():
        matches = fnmatch.filter(shapes, pattern)
        if not matches:
            raise LayerNotFoundError(
                f"{path}: no layer matches {pattern!r}; near names: {near_names(pattern, shapes)}"
            )
        budgets |= dict.fromkeys(matches, float(value))
    if missing := [name for name in shapes if name not in budgets]:
        raise SettingsError(
            f'{path} gives no budget to {missing[0]} and {len(missing) - 1} other layers; begin it with "*": …'
        )
    return budgets
