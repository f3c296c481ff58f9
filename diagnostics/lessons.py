"""The contents of the lessons on TRIM: a matrix small enough to read, one update, a search, budgets."""

from dataclasses import dataclass

import numpy as np

from diagnostics.learning_rate import LearningRateTrace
from diagnostics.numeric import check_shape, real_array


@dataclass(frozen=True, eq=False)
class PrunedMatrix:
    """The scores of a small layer, and which of its weights one allocation keeps.

    Attributes:
        method, label: the allocation's.
        score: (D, N), not negative.
        keep: (D, N) bool.
        cosine: (D,), of each row's dense and pruned output.
        layer_cosine: the same for the whole layer's output.

    Raises:
        ValueError: the shapes do not fit.
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
    """A weight (D, N), the norms (N,) of the input features, and the scores, their product, as pruned."""

    weight: np.ndarray
    norm: np.ndarray
    pruned: PrunedMatrix

    def __post_init__(self) -> None:
        check_shape("weight", self.weight, self.pruned.score.shape)
        check_shape("norm", self.norm, self.pruned.score.shape[1:])


@dataclass(frozen=True, eq=False)
class UpdateLesson:
    """One update of TRIM, term by term; all (D,).

    Attributes:
        target: T, the layer's sparsity.
        columns: N.
        quality: (D,), the rows' cosines at the target.
        share: (D,), (quality − min) / (max − min + 1e-6).
        change: (D,), 2 · rate · share less its mean.
        row_sparsity: (D,), x after the update.
        counts: (D,), the exact counts that x is projected to.
        uniform_quality, layer_quality: cosine of the layer's output at uniform counts and at `counts`.
    """

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
class CurveLesson:
    """A few rows at every number of pruned weights.

    Attributes:
        names: the R rows' names.
        score: (R, N), ascending.
        cosine: (R, N + 1), that of the row's output with this many of its lowest scores removed.

    Raises:
        ValueError: the shapes do not fit.
    """

    names: tuple[str, ...]
    score: np.ndarray
    cosine: np.ndarray

    def __post_init__(self) -> None:
        rows, columns = real_array("score", self.score, 2).shape
        check_shape("cosine", self.cosine, (rows, columns + 1))


@dataclass(frozen=True, eq=False)
class PathLesson:
    """A search, frame by frame; frames between two updates interpolate them.

    Attributes:
        target: T.
        update: (F,), the number of updates; whole numbers are the search's own states.
        row_sparsity: (F, D), x; line 0 is uniform.
        cosine: (F, D), the rows' cosines there.
        quality: (F,), the layer's.
        kept: the best update, which the search keeps.
    """

    target: float
    update: np.ndarray
    row_sparsity: np.ndarray
    cosine: np.ndarray
    quality: np.ndarray
    kept: int


@dataclass(frozen=True, eq=False)
class SignLesson:
    """Which sign of the learning rate wins if loud rows rest on few weights, or on many.

    Attributes:
        loud, quiet: (N,) scores of one row of each kind, descending.
        pruned: the number of pruned weights of every row in the comparison, T · N rounded down.
        loud_cosine, quiet_cosine: the cosine of a row of each kind at that number.
        loud_loss, quiet_loss: the squared output that one more pruned weight costs such a row.
        trace: the search, every rate evaluated.
    """

    loud: np.ndarray
    quiet: np.ndarray
    pruned: int
    loud_cosine: float
    quiet_cosine: float
    loud_loss: float
    quiet_loss: float
    trace: LearningRateTrace


@dataclass(frozen=True, eq=False)
class BudgetLesson:
    """OWL's budgets of a few blocks of one layer each.

    Attributes:
        target: T of the model.
        outliers: (B,) share of scores above five times their mean.
        sparsity: (B,), each layer's; its mean is T.
    """

    target: float
    outliers: np.ndarray
    sparsity: np.ndarray


@dataclass(frozen=True, eq=False)
class RowsLesson:
    """The rows of one layer of a stored run.

    Attributes:
        layer: the layer's name.
        rows, columns: the layer's shape.
        sparsity: the layer's sparsity.
        rate: the learning rate that TRIM chose; None: the layer stayed uniform.
        gini, row_sparsity: (P,), of some rows, evenly spread over all by Gini.
        spearman: Spearman correlation of the two over all rows; None: one of them is the same in every row.
        gain: layer quality minus that of uniform.
        rank: rank of the gain among the layers of the same kind; 1 is the largest.
        layers: number of layers of the same kind.
    """

    layer: str
    rows: int
    columns: int
    sparsity: float
    rate: float | None
    gini: np.ndarray
    row_sparsity: np.ndarray
    spearman: float | None
    gain: float
    rank: int
    layers: int


@dataclass(frozen=True)
class PerplexityLesson:
    """Perplexities at one model sparsity: of each method its label, its name in the theme, and the value."""

    sparsity: float
    methods: tuple[tuple[str, str, float], ...]
