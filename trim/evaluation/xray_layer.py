"""Examine one layer of a pruned checkpoint, and compare it with the same layer of its parent."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from trim.devices import dtype_name
from trim.methods.agreement import iou
from trim.methods.gini import gini
from trim.methods.masks import keep_mask
from trim.methods.pattern import Pattern
from trim.methods.scores import magnitude_score, ranks_of, score_order

GROUPS = (4, 8, 16)  # group sizes m of the n:m patterns to look for
PATTERN_SHARE = 0.95  # share of groups that must have the pattern's number of zeros; chance gives 38% at 2:4
_PART_NUMBERS = 2**22  # weights that are read and examined at once, in some 0.3 s

Rows = Callable[[int, int], Tensor]  # reads the rows of a matrix from start to stop


@dataclass(frozen=True)
class PatternFit:
    """The n:m pattern that a layer's zeros follow.

    Attributes:
        pattern: n zeros in every m neighbours of a row.
        groups: number of groups of the layer.
        broken: number of groups with fewer than n zeros.
        first: row and column of the first broken group; None: there is none.
    """

    pattern: Pattern
    groups: int
    broken: int
    first: tuple[int, int] | None


@dataclass(frozen=True)
class ParentComparison:
    """A layer compared with the same layer of the model that it was made from.

    Attributes:
        zeros_before: zeros of the parent.
        revived: weights that are zero in the parent but not here.
        changed: the share of the kept weights that differ.
        moved: ‖W − P‖ / ‖P‖ over the kept weights.
        magnitude: the agreement (kept weights, intersection over union) with the mask that prunes the smallest
            weights of each row, at the same counts.
    """

    zeros_before: int
    revived: int
    changed: float
    moved: float
    magnitude: float


@dataclass(frozen=True, eq=False)
class LayerXray:
    """The zeros of one layer.

    Attributes:
        name: such as "15.mlp.gate_proj"; an expert of a joined tensor has its number at the end, in brackets.
        tensor: its name in the files.
        shape: D and N.
        dtype: the type in the file.
        row_zeros: (D,) int64.
        column_zeros: (N,) int64.
        gini: (D,) float64 of the magnitudes of the kept weights; NaN for a row without any.
        not_finite: the number of weights that are NaN or infinite.
        fit: the pattern that its zeros follow; None: none.
        parent: the comparison with the parent; None: there is none, or it has no such layer.
    """

    name: str
    tensor: str
    shape: tuple[int, int]
    dtype: str
    row_zeros: np.ndarray = field(repr=False)
    column_zeros: np.ndarray = field(repr=False)
    gini: np.ndarray = field(repr=False)
    not_finite: int
    fit: PatternFit | None
    parent: ParentComparison | None

    @property
    def weights(self) -> int:
        """D · N."""
        return self.shape[0] * self.shape[1]

    @property
    def zeros(self) -> int:
        """Return the number of weights that are zero."""
        return int(self.row_zeros.sum())

    @property
    def sparsity(self) -> float:
        """Return the share of zeros."""
        return self.zeros / self.weights

    @property
    def dead_rows(self) -> int:
        """Return the number of rows without a kept weight."""
        return int((self.row_zeros == self.shape[1]).sum())

    @property
    def dead_columns(self) -> int:
        """Return the number of columns without a kept weight."""
        return int((self.column_zeros == self.shape[0]).sum())

    @property
    def median_gini(self) -> float:
        """Return the median over the rows that keep a weight; NaN where none does."""
        known = self.gini[~np.isnan(self.gini)]
        return float(np.median(known)) if len(known) else float("nan")


def examine_tensor(
    tensor: str, name: str, shape: tuple[int, ...], weights: Rows, parents: Rows | None
) -> Iterator[LayerXray]:
    """Examine a matrix, or each matrix of a tensor (E, D, N), some rows at a time."""
    if len(shape) == 2:
        yield _examine(tensor, name, shape[-2:], weights, parents)
        return
    for expert in range(shape[0]):
        first = expert * shape[1]
        own, theirs = _from_row(first, weights), parents and _from_row(first, parents)
        yield _examine(tensor, f"{name}[{expert}]", shape[1:], own, theirs)


def _from_row(first: int, rows: Rows) -> Rows:
    """Return a reader whose row 0 is row `first` of another one."""
    return lambda top, bottom: rows(first + top, first + bottom)


def _examine(
    tensor: str, name: str, shape: tuple[int, ...], weights: Rows, parents: Rows | None
) -> LayerXray:
    """Count the zeros of one matrix (D, N), some rows at a time."""
    rows, columns = shape
    row_zeros, column_zeros = np.empty(rows, np.int64), np.zeros(columns, np.int64)
    concentration = np.empty(rows)
    grouped = {size: np.zeros(size + 1, np.int64) for size in GROUPS if columns % size == 0}
    not_finite, compared, dtype = 0, _Compared(), torch.float32
    for top, bottom in _parts(shape):
        stored = weights(top, bottom)
        part, dtype = stored.float(), stored.dtype
        finite = part.isfinite().numpy()
        missing = finite.size - int(np.count_nonzero(finite))
        if missing:  # kept weights of unknown size
            part = part.masked_fill(torch.from_numpy(~finite), 1.0)
            not_finite += missing
        zero = (part == 0).numpy()
        zeros = np.count_nonzero(zero, axis=1)
        row_zeros[top:bottom] = zeros
        column_zeros += np.count_nonzero(zero, axis=0)
        concentration[top:bottom] = _kept_gini(part, zeros)
        for size, counted in grouped.items():
            inside = _zeros_of_groups(zero, size)
            counted += [np.count_nonzero(inside == number) for number in range(size + 1)]
        if parents is not None:
            compared.add(part, zero, zeros, parents(top, bottom).float().nan_to_num(1.0, 1.0, -1.0))
    return LayerXray(
        name,
        tensor,
        (rows, columns),
        dtype_name(dtype),
        row_zeros,
        column_zeros,
        concentration,
        not_finite,
        _fit(shape, weights, grouped),
        None if parents is None else compared.result(),
    )


def _parts(shape: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    """Yield the start and stop rows of the parts that are examined at once."""
    step = max(1, _PART_NUMBERS // shape[1])
    for top in range(0, shape[0], step):
        yield top, min(top + step, shape[0])


def _zeros_of_groups(zero: np.ndarray, size: int) -> np.ndarray:
    """Count the zeros of each group of neighbours, (D, N / size) uint8."""
    flags = zero.view(np.uint8)
    counts: np.ndarray = sum((flags[:, offset::size] for offset in range(1, size)), start=flags[:, ::size])
    return counts


def _kept_gini(weight: Tensor, zeros: np.ndarray) -> np.ndarray:
    """Compute the Gini coefficient of each row's K kept weights from that of the row: K · G_K = N · G_N − zeros."""
    columns = weight.shape[1]
    kept = columns - zeros
    coefficients = np.full(len(zeros), np.nan)
    some = kept > 0
    coefficients[some] = (columns * gini(weight.abs()).numpy()[some] - zeros[some]) / kept[some]
    return coefficients.clip(min=0.0)


def _fit(shape: tuple[int, ...], weights: Rows, grouped: dict[int, np.ndarray]) -> PatternFit | None:
    """Find the pattern with the smallest groups that nearly all groups follow."""
    for size, counted in grouped.items():
        zeros, groups = int(counted.argmax()), int(counted.sum())
        if not 0 < zeros < size or counted[zeros] < PATTERN_SHARE * groups:
            continue
        broken = int(counted[:zeros].sum())
        first = _first_broken(shape, weights, Pattern(zeros, size)) if broken else None
        return PatternFit(Pattern(zeros, size), groups, broken, first)
    return None


def _first_broken(shape: tuple[int, ...], weights: Rows, pattern: Pattern) -> tuple[int, int] | None:
    """Return the row and the column of the first group with too few zeros."""
    for top, bottom in _parts(shape):
        short = _zeros_of_groups((weights(top, bottom) == 0).numpy(), pattern.group) < pattern.zeros
        if short.any():
            row, group = np.unravel_index(int(short.argmax()), short.shape)
            return top + int(row), int(group) * pattern.group
    return None


@dataclass
class _Compared:
    """The comparison of a layer with its parent, summed over the rows that were added."""

    zeros_before: int = 0
    revived: int = 0
    kept: int = 0
    changed: int = 0
    difference: float = 0.0
    energy: float = 0.0
    both: int = 0
    either: int = 0

    def add(self, weight: Tensor, zero: np.ndarray, zeros: np.ndarray, parent: Tensor) -> None:
        """Add some rows."""
        before, kept = (parent == 0).numpy(), ~zero
        changed = kept & (weight != parent).numpy()
        self.zeros_before += int(np.count_nonzero(before))
        self.revived += int(np.count_nonzero(before & kept))
        self.kept += int(np.count_nonzero(kept))
        if changed.any():
            moved = (weight - parent).numpy()[changed]
            self.changed += moved.size
            self.difference += float(np.square(moved, dtype=np.float64).sum())
        self.energy += float(np.square(parent.numpy()[kept], dtype=np.float64).sum())
        smallest = keep_mask(ranks_of(score_order(magnitude_score(parent))), torch.from_numpy(zeros)).numpy()
        self.both += int(np.count_nonzero(smallest & kept))
        self.either += int(np.count_nonzero(smallest | kept))

    def result(self) -> ParentComparison:
        """Return the comparison; a layer that keeps nothing agrees with every mask."""
        return ParentComparison(
            self.zeros_before,
            self.revived,
            self.changed / self.kept if self.kept else 0.0,
            (self.difference / self.energy) ** 0.5 if self.energy else 0.0,
            float(iou(self.both, self.either)),
        )
