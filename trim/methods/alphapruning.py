"""AlphaPruning's layer budgets: blocks whose spectra have heavier tails keep more.

Lu et al., "AlphaPruning", arXiv 2410.10912, section 3.2.
"""

import math

import numpy as np
import torch
from torch import Tensor

from trim.errors import SettingsError
from trim.methods.budgets import Shapes, layer_ratios, scale_linearly
from trim.methods.choices import ALPHA_FITS


def alpha_budgets(exponents: list[float], shapes: Shapes, target: float, width: float) -> dict[str, float]:
    """Compute AlphaPruning's budgets: blocks with a heavier tail (a smaller exponent) keep more.

    All layers of a block get the same sparsity.

    Args:
        exponents: each block's mean tail exponent; NaN for a block without one, which gets the middle.
        shapes: (D, N) of the layers, named by block index first.
        target: T.
        width: ε; before scaling to the target, sparsities lie between 1 − ε and 1 + ε.
    """
    ratios = scale_linearly(exponents, 1 - width, 1 + width)
    return layer_ratios(ratios, shapes, lambda mean: target / mean, np.multiply)


def squared_singular_values(weight: Tensor) -> Tensor:
    """Compute the min(D, N) squared singular values of a matrix, ascending, float64: its Gram matrix's eigenvalues."""
    weight = weight.double()
    gram = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
    squares: Tensor = torch.linalg.eigvalsh(gram)
    return squares.clamp_(min=0)


def tail_exponent(spectrum: Tensor, fit: str) -> float:
    """Fit the exponent of the power law in the tail of a spectrum, by the Hill estimator (section 3.2).

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
