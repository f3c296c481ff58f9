"""The contents of the lessons on TRIM: a matrix small enough to read, one update, a search, budgets."""

from dataclasses import dataclass

import numpy as np

from diagnostics.learning_rate import LearningRateTrace
from diagnostics.numeric import check_shape, real_array


@dataclass(frozen=True, eq=False)
class PrunedMatrix:
    """The scores of a small layer, and which of its weights one allocation keeps.

    method, label: of the allocation.
    score: (D, N), not negative. keep: (D, N) bool. cosine: (D,), of each row's dense and pruned output.
    layer_cosine: the same for the whole layer's output.
    Raises ValueError for shapes that do not fit.
    """

    method: str
    label: str
    score: np.ndarray
    keep: np.ndarray
    cosine: np.ndarray
    layer_cosine: float

    def __post_init__(self) -> None:
        score = real_array("score", self.score, 2)
        check_shape("keep", self.keep, score.shape)
        check_shape("cosine", self.cosine, score.shape[:1])

    @property
    def counts(self) -> np.ndarray:
        """(D,), how many weights each row loses."""
        counts: np.ndarray = (~self.keep).sum(axis=1)
        return counts


@dataclass(frozen=True, eq=False)
class ScoreLesson:
    """The origin of scores: weight (D, N), norm (N,) of the input features, and what is kept of their product."""

    weight: np.ndarray
    norm: np.ndarray
    pruned: PrunedMatrix

    def __post_init__(self) -> None:
        check_shape("weight", self.weight, self.pruned.score.shape)
        check_shape("norm", self.norm, self.pruned.score.shape[1:])


@dataclass(frozen=True, eq=False)
class UpdateLesson:
    """One update of TRIM, term by term; all (D,).

    rate: the learning rate. target: T, the layer's sparsity. columns: N.
    quality: the rows' cosines at the target. share: (quality − min) / (max − min + 1e-6).
    change: 2 · rate · share less its mean. row_sparsity: x after the update. counts: exact, of x.
    uniform_quality, layer_quality: cosine of the layer's output at uniform counts and at `counts`.
    """

    rate: float
    target: float
    columns: int
    quality: np.ndarray
    share: np.ndarray
    change: np.ndarray
    row_sparsity: np.ndarray
    counts: np.ndarray
    uniform_quality: float
    layer_quality: float


@dataclass(frozen=True, eq=False)
class PathLesson:
    """A search, iteration by iteration.

    rate: the chosen learning rate. target: T. gini: (D,) of the rows' scores, ascending.
    row_sparsity: (K + 1, D), x; line 0 is uniform. cosine: (K + 1, D) of the rows at these. quality: (K + 1,) of the
    layer. kept: the best iteration.
    """

    rate: float
    target: float
    gini: np.ndarray
    row_sparsity: np.ndarray
    cosine: np.ndarray
    quality: np.ndarray
    kept: int


@dataclass(frozen=True, eq=False)
class SignLesson:
    """Which sign wins where loud rows rest on few weights, or on many.

    loud, quiet: (N,) scores of one row of each kind, descending. loud_gini, quiet_gini: their Gini.
    loud_cosine, quiet_cosine: what uniform pruning leaves of them.
    loud_loss, quiet_loss: squared output that one more pruned weight costs a row of each kind.
    target: T. trace: the search, every rate evaluated.
    """

    loud: np.ndarray
    quiet: np.ndarray
    loud_gini: float
    quiet_gini: float
    loud_cosine: float
    quiet_cosine: float
    loud_loss: float
    quiet_loss: float
    target: float
    trace: LearningRateTrace


@dataclass(frozen=True, eq=False)
class BudgetLesson:
    """OWL's budgets of a few blocks of one layer each.

    width: OWL's λ. target: T of the model. outliers: (B,) share of scores above five times their mean.
    sparsity: (B,), each layer's; its mean is T.
    """

    width: float
    target: float
    outliers: np.ndarray
    sparsity: np.ndarray
