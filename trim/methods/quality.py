"""Quality of a pruned layer and of each of its rows: larger is always better.

TRIM: Beck, Rudman, Eickhoff, arXiv 2505.16743, section 3, and the constants of the authors' code. A measure takes a
`Retained` at counts (..., D), and judges all leading dimensions (candidates) at once.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from trim.errors import SettingsError
from trim.measures import EPSILON, NOISE_FLOOR
from trim.methods.choices import LAYER_QUALITIES, ROW_QUALITIES
from trim.methods.retention import Retained, row_cosine


def row_quality(retained: Retained, name: str) -> Tensor:
    """Judge each row, (..., D) float64, by one of `ROW_QUALITIES`.

    Under `psnr` a row without output has no quality: it is −inf there, and the search leaves such rows out.

    Raises:
        SettingsError: no such measure.
    """
    return _named(ROW_QUALITIES, name, "row quality")(retained)


def layer_quality(retained: Retained, name: str) -> Tensor:
    """Judge a layer, (...) float64, or G layers swept together, (..., G), by one of `LAYER_QUALITIES`.

    Raises:
        SettingsError: no such measure.
    """
    return _named(LAYER_QUALITIES, name, "layer quality")(retained)


def _named(
    measures: Mapping[str, Callable[[Retained], Tensor]], name: str, kind: str
) -> Callable[[Retained], Tensor]:
    if name not in measures:
        raise SettingsError(f"there is no {kind} named {name!r}; choose one of {', '.join(measures)}")
    return measures[name]


def _decibel(peak: Tensor, noise: Tensor) -> Tensor:
    return 10 * torch.log10(peak / (noise + NOISE_FLOOR))


def _noise_power(retained: Retained) -> Tensor:
    """Compute the mean squared error over all D · L outputs, (...)."""
    curves = retained.curves
    return curves.by_layer(retained.error).sum(dim=-1) / (curves.layer_rows * curves.layer_vectors)


def row_psnr(retained: Retained) -> Tensor:
    """Compute each row's peak signal-to-noise ratio, 10 log₁₀(peak / mean squared error), (..., D) decibels."""
    return _decibel(retained.curves.output_peak, retained.error / retained.curves.row_vectors)


def cosim_flat(retained: Retained) -> Tensor:
    """Compute the cosine of the layer's output with its dense output, as one vector each, (...)."""
    curves = retained.curves
    dot, energy = (curves.by_layer(each).sum(dim=-1) for each in (retained.dot, retained.energy))
    return row_cosine(dot, curves.total_output_norm, energy)


def snr(retained: Retained) -> Tensor:
    """Compute the layer's signal-to-noise ratio, (...) decibels; infinite where the noise is below its floor."""
    noise = _noise_power(retained)
    curves = retained.curves
    signal = curves.by_layer(curves.output_energy).sum(dim=-1) / (curves.layer_rows * curves.layer_vectors)
    return torch.where(noise < NOISE_FLOOR, torch.inf, _decibel(signal, noise))


def psnr_dim(retained: Retained) -> Tensor:
    """Average `row_psnr` over the rows with output, (...) decibels; 0 without such rows."""
    alive = ~retained.curves.dead_rows
    ratios, alive = map(retained.curves.by_layer, (torch.where(alive, row_psnr(retained), 0.0), alive))
    return ratios.sum(dim=-1) / alive.sum(dim=-1).clamp(min=1)


def _direct(measure: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Retained], Tensor]:
    """Make a quality of a measure of Y and Ŷ, (D, L) float64 each, applied to one candidate after the other."""

    def quality(retained: Retained) -> Tensor:
        dense = retained.curves.output.double()
        values = [measure(dense, pruned.double()) for pruned in retained.outputs()]
        return torch.stack(values).reshape(retained.counts.shape[:-1])

    return quality


def _cosim_sample(dense: Tensor, pruned: Tensor) -> Tensor:
    norms: Tensor = (dense.norm(dim=0) + EPSILON) * (pruned.norm(dim=0) + EPSILON)
    return ((dense * pruned).sum(dim=0) / norms).clamp(-1.0, 1.0).mean()


def _mae(dense: Tensor, pruned: Tensor) -> Tensor:
    return -(dense - pruned).abs().mean()


def _psnr_sample(dense: Tensor, pruned: Tensor) -> Tensor:
    peak = dense.square().amax(dim=0)
    alive = peak > 0  # a vector on which the layer is silent has no peak to compare with
    decibel = _decibel(peak, (dense - pruned).square().mean(dim=0))
    return torch.where(alive, decibel, 0.0).sum() / alive.sum().clamp(min=1)


def mse(retained: Retained) -> Tensor:
    """Compute minus the mean squared error over all D · L outputs, (...)."""
    return -_noise_power(retained)


def row_cosim(retained: Retained) -> Tensor:
    """Return each row's cosine with its dense output, (..., D)."""
    return retained.cosine


def row_mse(retained: Retained) -> Tensor:
    """Compute minus each row's mean squared error, (..., D)."""
    return -retained.error / retained.curves.row_vectors


def cosim_dim(retained: Retained) -> Tensor:
    """Average the rows' cosines, (...)."""
    return retained.curves.by_layer(retained.cosine).mean(dim=-1)


def psnr_flat(retained: Retained) -> Tensor:
    """Compute the layer's peak signal-to-noise ratio, (...) decibels."""
    peak = retained.curves.by_layer(retained.curves.output_peak)
    return _decibel(peak.amax(dim=-1), _noise_power(retained))


cosim_sample, mae, psnr_sample = _direct(_cosim_sample), _direct(_mae), _direct(_psnr_sample)
