"""Sweep layers: compute their retention curves from weights, inputs and scores, on the CPU or a GPU."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from trim.devices import has_kernels
from trim.errors import NonFiniteError, ShapeError
from trim.matmul import HALF
from trim.methods.retention import RetentionCurves
from trim.methods.scores import as_array, check_score


def retention_curves(
    weight: Tensor, inputs: Tensor, score: Tensor, *, name: str = "the layer"
) -> RetentionCurves:
    """Compute a layer's retention curves in one sweep over the sorted columns of its rows.

    Products are float32, sums over columns and over rows float64. The error is accumulated from the least
    important column up and never formed as a difference of large sums, which would be wrong near k = 0.

    Args:
        weight: (D, N).
        inputs: (N, L) calibration activations entering the layer.
        score: (D, N) importance of each weight, finite and not negative.
        name: the layer's name in error messages.

    Raises:
        ShapeError: the three do not fit each other.
        NonFiniteError: NaN or infinity in any of them, or in their product.
    """
    fit = weight.ndim == inputs.ndim == 2 and len(inputs) == weight.shape[1] and score.shape == weight.shape
    shapes = f"weight {tuple(weight.shape)}", f"inputs {tuple(inputs.shape)}", f"score {tuple(score.shape)}"
    if not fit:
        raise ShapeError(f"{name}: {shapes[0]} must be (D, N), {shapes[1]} (N, L) and {shapes[2]} (D, N)")
    if 0 in weight.shape or 0 in inputs.shape:
        raise ShapeError(f"{name}: {shapes[0]} and {shapes[1]} must not be empty")
    return curves_of_layers(weight[None], inputs[None], score[None], [name])


def curves_of_layers(
    weight: Tensor,
    inputs: Tensor,
    score: Tensor,
    names: Sequence[str],
    vectors: tuple[int, ...] | None = None,
) -> RetentionCurves:
    """Sweep G layers of one shape as `retention_curves` does, on a GPU all at once.

    Args:
        weight: (G, D, N).
        inputs: (G, N, L).
        score: (G, D, N).
        names: the layers' names in error messages.
        vectors: how many input vectors each layer has before zeros fill up L; None: L.
    """
    weight, inputs, score = weight.detach(), inputs.detach(), score.detach()
    by_kernels = has_kernels(weight.device) and score.dtype != torch.float64
    curves, valid = (_curves_by_kernels if by_kernels else _compiled_curves)(weight, inputs, score)
    if not valid:  # find the precise error only now
        for layer in zip(weight, inputs, score, names, strict=True):
            _check_finite(*layer)
        _check_overflow(curves, names)
    return curves if vectors is None else dataclasses.replace(curves, own_vectors=vectors)


def _compiled_curves(weight: Tensor, inputs: Tensor, score: Tensor) -> tuple[RetentionCurves, bool]:
    """Sweep on the CPU; return the curves on the device of the tensors, and whether scores and curves are valid."""
    from trim.compiled.order import order_rows
    from trim.compiled.sweep import sweep

    device, layers, weight, inputs = weight.device, len(weight), weight.float(), inputs.float()
    order, valid = order_rows(as_array(score.flatten(0, 1)))
    arrays = zip(as_array(weight), as_array(inputs), np.split(order, layers), strict=True)
    tables, outputs, finite = zip(*(sweep(*each) for each in arrays), strict=True)
    table, dense = (parts[0] if layers == 1 else np.concatenate(parts) for parts in (tables, outputs))
    dot, energy, error, _ = torch.from_numpy(table).unbind(-1)
    if device.type != "cpu":
        dot, energy, error = (curve.to(device).contiguous() for curve in (dot, energy, error))
    sorted_columns, output = (torch.from_numpy(array).to(device) for array in (order, dense))
    captured = weight.flatten(0, 1), inputs.squeeze(0)
    curves = RetentionCurves(dot, energy, error, sorted_columns, *captured, output, table, layers)
    return curves, valid and all(finite)


def _curves_by_kernels(weight: Tensor, inputs: Tensor, score: Tensor) -> tuple[RetentionCurves, bool]:
    """Sweep on a GPU; return the curves, and whether scores and curves are valid."""
    from trim.kernels.sweep import retention

    layers = len(weight)
    weight, inputs = (each if each.dtype in HALF else each.float() for each in (weight, inputs))
    weight, score = weight.flatten(0, 1).contiguous(), score.flatten(0, 1).float().contiguous()
    with torch.cuda.device(weight.device):
        dot, energy, error, order, output, invalid = retention(weight, inputs, score)
    captured = weight, inputs.squeeze(0)
    curves = RetentionCurves(dot, energy, error, order, *captured, output, layers=layers)
    # Every search begins with these, so launch them before waiting for the sweep.
    _ = curves.output_norm, curves.layer_summary
    return curves, not bool(invalid.any())


def _check_finite(weight: Tensor, inputs: Tensor, score: Tensor, name: str) -> None:
    for what, values in (("weight", weight), ("calibration activation", inputs)):
        if not math.isfinite(values.sum(dtype=torch.float64)):
            raise NonFiniteError(
                f"{name} has a {what} that is NaN or infinite; check the checkpoint, or load the model in a wider "
                "type (float32 instead of float16)"
            )
    try:
        check_score(score)
    except NonFiniteError as error:
        raise NonFiniteError(f"{name}: {error}") from None


def _check_overflow(curves: RetentionCurves, names: Sequence[str]) -> None:
    """Raise where a number overflowed: in Y, a square or a product, it shows in the sum over a curve."""
    for name, layer in zip(names, curves.split_layers(), strict=True):
        for curve in (layer.dot, layer.energy, layer.error):
            if not math.isfinite(curve.sum(dtype=torch.float64)):
                raise NonFiniteError(
                    f"{name} overflows float32 on the calibration text: its weights or inputs are too large; check the "
                    "checkpoint, or leave the layer out"
                )
