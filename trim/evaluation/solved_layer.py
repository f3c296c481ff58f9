"""Solve for the mask and the kept weights of one layer, and measure the errors of its rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from trim.calibration.capture import LayerSample
from trim.errors import SettingsError
from trim.matmul import full_product
from trim.methods.choices import SOLVERS
from trim.methods.counts import total_count
from trim.methods.least_squares import TextProducts
from trim.progress import ProgressListener


@dataclass(frozen=True, eq=False)
class SolvedLayer:
    """A layer whose mask and kept weights were solved.

    All errors are squared, summed over all tokens of the text, and relative to the row's dense output; NaN for a row
    without output.

    Attributes:
        name: such as "15.mlp.gate_proj".
        method: one of `SOLVERS`.
        keep: (D, N) bool, True where a weight is kept.
        weight: (D, N) float32, 0 where a weight is pruned.
        error: (D,), each row's error with its solved weights.
        error_masked: (D,), each row's error under the same mask with unchanged weights.
        errors: (D,) by name, each row's error under other masks with unchanged weights.
        moved: (D,), ‖ŵ − w‖ / ‖w‖ over the row's kept weights; NaN where they were all 0.
        energy: (D,), the square of each row's dense output, which weights its error in the layer's.
        steps: number of the solver's steps.
        diverged: whether the search failed, so that this is the refit of the largest weights.
    """

    name: str
    method: str
    keep: Tensor = field(repr=False)
    weight: Tensor = field(repr=False)
    error: np.ndarray = field(repr=False)
    error_masked: np.ndarray = field(repr=False)
    errors: Mapping[str, np.ndarray] = field(repr=False)
    moved: np.ndarray = field(repr=False)
    energy: np.ndarray = field(repr=False)
    steps: int
    diverged: bool

    @property
    def counts(self) -> np.ndarray:
        """Return the number of weights that each row loses, (D,)."""
        counts: np.ndarray = (~self.keep).sum(dim=1).cpu().numpy()
        return counts

    def of_layer(self, errors: np.ndarray) -> float:
        """Return the error of the layer's whole output from the errors (D,) of its rows; NaN without output."""
        total = float(self.energy.sum())
        return float(np.nansum(errors * self.energy)) / total if total else float("nan")


def solve_layer(
    sample: LayerSample,
    sparsity: float,
    method: str = "solved",
    *,
    sensitivity: Tensor | None = None,
    masks: Mapping[str, Tensor] | None = None,
    progress: ProgressListener | None = None,
) -> SolvedLayer:
    """Choose the mask and the kept weights of one layer together, aiming at its dense outputs on the same inputs.

        sample = trim.capture(model, windows, ["15.mlp.gate_proj"], products=True)["15.mlp.gate_proj"]
        solved = trim.solve_layer(sample, 0.7)
        solved.of_layer(solved.error), solved.of_layer(solved.error_masked)

    Args:
        sample: a layer, captured with the products of the text.
        sparsity: the share of the layer's weights that are pruned.
        method: one of `SOLVERS`.
        sensitivity: (D,), the rows' weights; None: equal weights.
        masks: (D, N) bool by name, True where a weight is kept: further masks whose errors to measure.
        progress: called every few steps; an exception from it ends the work.

    Raises:
        SettingsError: the solver does not exist, or the sample lacks the products.
        SparsityError: the sparsity is not a share.
    """
    if method not in SOLVERS:
        raise SettingsError(f"solver {method!r} is not one of {', '.join(SOLVERS)}")
    text = sample.text
    if text is None:
        raise SettingsError(
            f"{sample.name}: solving needs the products of the text; capture it with products=True"
        )
    dense = sample.weight.float()
    rows, columns = dense.shape
    total = total_count(sparsity, rows, columns, max_row_sparsity=1.0)
    solution = SOLVERS[method](dense, text, total, sensitivity=sensitivity, progress=progress)
    energy = _output_energy(dense, text)

    def relative(error: Tensor) -> np.ndarray:
        shares: np.ndarray = torch.where(energy > 0, error / energy, torch.nan).cpu().numpy()
        return shares

    def mask_error(keep: Tensor) -> np.ndarray:
        return relative(_output_energy(dense * ~keep.to(dense.device), text))

    masked = dense * solution.keep
    moved, norm = (
        torch.linalg.vector_norm(each, dim=1, dtype=torch.float64)
        for each in (solution.weight - masked, masked)
    )
    return SolvedLayer(
        sample.name,
        method,
        solution.keep,
        solution.weight,
        relative(_output_energy(dense - solution.weight, text)),
        mask_error(solution.keep),
        {name: mask_error(keep) for name, keep in (masks or {}).items()},
        torch.where(norm > 0, moved / norm, torch.nan).cpu().numpy(),
        energy.cpu().numpy(),
        solution.steps,
        solution.diverged,
    )


def _output_energy(weight: Tensor, text: TextProducts) -> Tensor:
    """Return each row's squared output, summed over the tokens of the text, (D,) float64."""
    return (full_product(weight, text.gram) * weight).sum(dim=1, dtype=torch.float64).clamp_min(0)
