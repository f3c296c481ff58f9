"""The numbers of the lessons: small layers, on which the library computes everything on demand."""

import functools

import numpy as np
import torch
from torch import Tensor

import trim
from app.services.layer.study import learning_rate_trace
from app.services.layer.tensor_layer import search_curves
from diagnostics.concentration import LorenzCurve, lorenz_curves
from diagnostics.lessons import (
    BudgetLesson,
    CurveLesson,
    PathLesson,
    PrunedMatrix,
    ScoreLesson,
    SignLesson,
    UpdateLesson,
)
from trim.methods.budgets import project_budgets
from trim.methods.choices import OWL_MULTIPLE
from trim.methods.owl import outlier_share, owl_budgets
from trim.methods.search import exact_qualities

CAP = trim.SearchSettings.max_row_sparsity

# A layer of four rows and eight input features. One weight makes most of row 0's output, and all weights share in row
# 1's; row 3 has large weights on features of small norm.
WEIGHT = torch.tensor(
    [
        [0.2, -0.1, 0.3, 2.0, 0.1, 0.2, -0.3, 0.1],
        [0.9, -0.5, 0.8, 0.3, -1.1, 0.6, 1.2, -0.7],
        [0.5, 0.6, -0.2, 0.5, 1.4, 0.1, -0.4, 0.8],
        [1.2, -0.7, -1.3, 0.9, 0.2, 1.0, 0.3, -0.1],
    ]
)
NORM = torch.tensor([1.0, 2.0, 1.0, 3.0, 1.0, 2.0, 1.0, 1.0])
ROWS, COLUMNS = WEIGHT.shape
LOUD_FEATURE, EVEN_ROW, LARGEST = 3, 1, 4  # changed by the first and the third control

# Layers of many rows, made of two kinds of weights: a bell curve, and a few outliers of equal size.
WIDE_COLUMNS, OUTLIERS = 96, 4
PATH_SHARES = tuple(np.linspace(0.05, 0.95, 12).tolist())
SIGN_ROWS, LOUDNESS = 24, 1.5
# One layer per block, of the same shape: bell curves raised to these powers, so that their tails differ.
BLOCK_POWERS, BLOCK_SHAPE = (2.6, 1.2, 1.0, 1.3, 1.6, 2.2), (64, 64)
TARGET = 0.7
PATH_TARGET = 0.65
FRAMES_PER_UPDATE = 10
# Rows of the retention curves: how much of their squared output the outliers hold.
CURVE_ROWS = {"even": 0.05, "between": 0.6, "few large": 0.97}


def curves_of(weight: Tensor, norm: Tensor) -> tuple[trim.RetentionCurves, Tensor]:
    """Compute curves and Wanda scores of a layer whose vectors excite one input feature each, with its norm.

    Features never act together, so a row's squared output is the sum of its squared scores: the arithmetic can be
    checked by hand.
    """
    score = trim.wanda_score(weight, norm)
    return trim.retention_curves(weight, torch.diag(norm), score), score


@functools.cache
def _small() -> tuple[trim.RetentionCurves, Tensor]:
    return curves_of(WEIGHT, NORM)


def pruned_matrix(
    curves: trim.RetentionCurves, score: Tensor, counts: Tensor, method: str, label: str
) -> PrunedMatrix:
    """Return the layer pruned by the counts (D,)."""
    retained = curves.at(counts)
    return PrunedMatrix(
        method,
        label,
        score.numpy(),
        curves.keep_mask(counts).numpy(),
        retained.cosine.numpy(),
        float(trim.layer_quality(retained, "cosim_flat")),
    )


def scores(loudness: float) -> ScoreLesson:
    """Return the small layer's scores with half of each row pruned; `loudness` is the norm of one feature."""
    norm = NORM.clone()
    norm[LOUD_FEATURE] = loudness
    curves, score = curves_of(WEIGHT, norm)
    half = trim.uniform_counts(ROWS, ROWS * COLUMNS // 2)
    return ScoreLesson(WEIGHT.numpy(), norm.numpy(), pruned_matrix(curves, score, half, "uniform", "Uniform"))


def damage(pruned: int) -> PrunedMatrix:
    """Return the small layer with that many weights pruned in every row."""
    curves, score = _small()
    return pruned_matrix(curves, score, torch.full((ROWS,), pruned), "uniform", "Uniform")


def concentration(factor: float) -> tuple[LorenzCurve, ...]:
    """Compute Lorenz curves of the small layer's rows, with one weight of the even row made `factor` times as large."""
    weight = WEIGHT.clone()
    weight[EVEN_ROW, LARGEST] *= factor
    score = trim.wanda_score(weight, NORM).numpy()
    return lorenz_curves(score, range(ROWS))


def one_update(rate: float) -> UpdateLesson:
    """Return the first update of the search at one learning rate, with its terms."""
    target = 0.5
    curves, _ = _small()
    positive, negative = ((rate,), ()) if rate > 0 else ((), (rate,))
    settings = trim.SearchSettings(
        target, learning_rates=positive, negative_learning_rates=negative, iterations=1
    )
    x = trim.full_trace(curves, settings).updates[rate][1]
    total = trim.total_count(target, ROWS, COLUMNS, CAP)
    uniform = trim.uniform_counts(ROWS, total)
    quality = curves.at(uniform).cosine
    share = (quality - quality.min()) / (quality.max() - quality.min() + 1e-6)
    change = 2 * rate * (share - share.mean())
    counts = trim.project_counts(x, total, COLUMNS, CAP)
    before, after = trim.layer_quality(curves.at(torch.stack([uniform, counts])), "cosim_flat").tolist()
    return UpdateLesson(
        target,
        COLUMNS,
        quality.numpy(),
        share.numpy(),
        change.numpy(),
        x.numpy(),
        counts.numpy(),
        before,
        after,
    )


def _bell_curve(number: int) -> Tensor:
    """Return the quantiles of the half-normal distribution at `number` evenly spaced probabilities, ascending."""
    return torch.erfinv((torch.arange(number) + 0.5) / number)


def wide_layer(shares: tuple[float, ...], loudness: tuple[float, ...]) -> Tensor:
    """Make rows of a bell curve's weights and a few outliers, (D, N).

    Args:
        shares: which share of each row's squared output its outliers hold.
        loudness: each row's output norm.
    """
    generator = torch.Generator().manual_seed(0)
    bell = _bell_curve(WIDE_COLUMNS - OUTLIERS)
    bell /= bell.norm()
    rows = []
    for share, loud in zip(shares, loudness, strict=True):
        outliers = torch.full((OUTLIERS,), (share / OUTLIERS) ** 0.5)
        row = torch.cat([bell * (1 - share) ** 0.5, outliers]) * loud
        signs = torch.randn(WIDE_COLUMNS, generator=generator).sign()
        rows.append((row * signs)[torch.randperm(WIDE_COLUMNS, generator=generator)])
    return torch.stack(rows)


@functools.cache
def retention() -> CurveLesson:
    """Compute three rows of equal loudness, from evenly spread to concentrated, at every number of pruned weights."""
    weight = wide_layer(tuple(CURVE_ROWS.values()), (1.0,) * len(CURVE_ROWS))
    curves, score = curves_of(weight, torch.ones(WIDE_COLUMNS))
    ordered = np.sort(score.numpy(), axis=1)
    return CurveLesson(tuple(CURVE_ROWS), ordered, curves.cosine.numpy())


@functools.cache
def path() -> PathLesson:
    """Run TRIM's search on rows of equal loudness, from evenly spread to concentrated."""
    curves, _ = curves_of(wide_layer(PATH_SHARES, (1.0,) * len(PATH_SHARES)), torch.ones(WIDE_COLUMNS))
    result = trim.search(curves, trim.SearchSettings(PATH_TARGET))
    trace, rate = result.trace, result.learning_rate
    assert rate is not None, "some rate beats uniform on these rows"
    states = trace.updates[rate]
    last = len(states) - 1
    update = torch.linspace(0, last, last * FRAMES_PER_UPDATE + 1, dtype=torch.float64)
    before = update.floor().clamp(max=last - 1).long()
    x = torch.lerp(states[before], states[before + 1], (update - before).unsqueeze(1))
    counts = trim.project_counts(x, int(result.counts.sum()), WIDE_COLUMNS, CAP)
    retained = curves.at(counts)
    return PathLesson(
        PATH_TARGET,
        update.numpy(),
        x.numpy(),
        retained.cosine.numpy(),
        trim.layer_quality(retained, "cosim_flat").numpy(),
        trace.best_iteration(rate),
    )


def sign(outliers: float) -> SignLesson:
    """Make a layer whose louder half of rows holds a share `outliers` of its squared output in four weights."""
    half = SIGN_ROWS // 2
    weight = wide_layer(
        (outliers,) * half + (OUTLIERS / WIDE_COLUMNS,) * half, (LOUDNESS,) * half + (1.0,) * half
    )
    curves, score = curves_of(weight, torch.ones(WIDE_COLUMNS))
    result = search_curves(curves, trim.SearchSettings(TARGET), complete=True)
    ordered = np.sort(score.numpy(), axis=1)[:, ::-1]
    # At equal counts: uniform gives what is left over to the first rows, which here are the loud ones.
    pruned = int(TARGET * WIDE_COLUMNS)
    at = torch.full((SIGN_ROWS,), pruned)
    cosine = curves.at(at).cosine.numpy()
    loss = (curves.at(at + 1).error - curves.at(at).error).numpy()
    return SignLesson(
        loud=ordered[0],
        quiet=ordered[half],
        pruned=pruned,
        loud_cosine=float(cosine[0]),
        quiet_cosine=float(cosine[half]),
        loud_loss=float(loss[0]),
        quiet_loss=float(loss[half]),
        trace=learning_rate_trace(result, exact_qualities(curves, result)),
    )


@functools.cache
def _blocks() -> tuple[dict[str, tuple[int, int]], list[float]]:
    """Return the shapes of six layers, and the outlier share of each."""
    shapes = {f"{block}.layer": BLOCK_SHAPE for block in range(len(BLOCK_POWERS))}
    bell = _bell_curve(BLOCK_SHAPE[0] * BLOCK_SHAPE[1]).reshape(BLOCK_SHAPE)
    norm = torch.ones(BLOCK_SHAPE[1])
    scores = [trim.wanda_score(bell**power, norm) for power in BLOCK_POWERS]
    return shapes, [outlier_share([score], OWL_MULTIPLE) for score in scores]


def budgets(width: float) -> BudgetLesson:
    """Compute OWL's budgets for six blocks that differ in outliers."""
    shapes, outliers = _blocks()
    requested = owl_budgets(outliers, shapes, TARGET, width)
    projected = project_budgets(requested, shapes, TARGET, CAP, method="owl")
    return BudgetLesson(TARGET, np.array(outliers), np.array(list(projected.layers.values())))


def three_allocations(target: float) -> tuple[PrunedMatrix, ...]:
    """Return the small layer under uniform sparsity, TRIM and the optimal allocation, at the same layer sparsity."""
    curves, score = _small()
    result = trim.search(curves, trim.SearchSettings(target))
    total = int(result.counts.sum())
    optimal = trim.optimal_counts(trim.lower_hull(curves.error, COLUMNS), total)
    return tuple(
        pruned_matrix(curves, score, counts, method, label)
        for method, label, counts in (
            ("uniform", "Uniform", result.uniform_counts),
            ("trim", "TRIM", result.counts),
            ("optimal", "Optimal", optimal),
        )
    )
