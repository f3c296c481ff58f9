"""Naive float64 NumPy versions of what the library does fast, written from the formulas, not from its code.

D rows, N columns, L calibration vectors; weight (D, N), inputs (N, L), dense and pruned outputs (D, L).
"""

from dataclasses import dataclass

import numpy as np

Array = np.ndarray
N_ = 1e-8  # n, added to the norms
Z = 1e-10  # z, added to the noise power


def order_of(score: Array) -> Array:
    """Each row's columns by ascending score, ties in column order (D, N)."""
    return np.array([sorted(range(len(row)), key=lambda j, row=row: (row[j], j)) for row in score.tolist()])


def prune(weight: Array, score: Array, counts: Array) -> Array:
    """The weight with row i's counts[i] lowest-score weights set to zero (D, N)."""
    pruned = weight.astype(np.float64).copy()
    for row, columns, count in zip(pruned, order_of(score), counts, strict=True):
        row[columns[:count]] = 0
    return pruned


def curves_of(weight: Array, inputs: Array, score: Array) -> tuple[Array, Array, Array]:
    """Dot, energy and error by masking and multiplying anew at every k, (D, N + 1) each."""
    rows, columns = weight.shape
    inputs = inputs.astype(np.float64)
    dense = weight.astype(np.float64) @ inputs
    dot, energy, error = (np.empty((rows, columns + 1)) for _ in range(3))
    ranks = np.argsort(order_of(score), axis=1)
    for k in range(columns + 1):
        pruned = np.where(ranks < k, 0.0, weight.astype(np.float64)) @ inputs
        dot[:, k] = (dense * pruned).sum(1)
        energy[:, k] = (pruned**2).sum(1)
        error[:, k] = ((dense - pruned) ** 2).sum(1)
    return dot, energy, error


def _cosine(dense: Array, pruned: Array, axis: int | None = None) -> Array:
    norms = (np.linalg.norm(dense, axis=axis) + N_) * (np.linalg.norm(pruned, axis=axis) + N_)
    return np.clip((dense * pruned).sum(axis=axis) / norms, -1, 1)


def _psnr(dense: Array, pruned: Array, axis: int | None = None) -> Array:
    noise = ((dense - pruned) ** 2).mean(axis=axis)
    with np.errstate(divide="ignore"):
        return 10 * np.log10((dense**2).max(axis=axis) / (noise + Z))


def row_quality(dense: Array, pruned: Array, name: str) -> Array:
    """The quality of each row (D,); −inf under psnr in a row without output."""
    if name == "cosim":
        return np.array([_cosine(y[None], p[None])[()] for y, p in zip(dense, pruned, strict=True)])
    if name == "mse":
        return -((dense - pruned) ** 2).mean(1)
    assert name == "psnr"
    return _psnr(dense, pruned, axis=1)


def layer_quality(dense: Array, pruned: Array, name: str) -> float:
    """The quality of the layer; means of psnr leave out rows or vectors without output."""
    noise = ((dense - pruned) ** 2).mean()
    if name == "cosim_flat":
        return float(_cosine(dense.ravel(), pruned.ravel()))
    if name == "cosim_dim":
        return float(np.mean([_cosine(y, p) for y, p in zip(dense, pruned, strict=True)]))
    if name == "cosim_sample":
        return float(_cosine(dense, pruned, axis=0).mean())
    if name in ("mse", "mse_dim"):
        return float(-noise)
    if name == "mae":
        return float(-np.abs(dense - pruned).mean())
    if name == "snr":
        return float("inf") if noise < Z else float(10 * np.log10((dense**2).mean() / (noise + Z)))
    if name == "psnr_flat":
        return float(_psnr(dense, pruned))
    axis = {"psnr_dim": 1, "psnr_sample": 0}[name]
    alive = np.abs(dense).max(axis=axis) > 0
    return float(_psnr(dense, pruned, axis=axis)[alive].mean()) if alive.any() else 0.0


@dataclass
class Outcome:
    """What a naive search found."""

    learning_rate: float | None
    tried: list[tuple[float, float]]
    uniform_quality: float
    layer_quality: float
    row_sparsity: Array


class Search:
    """TRIM's search (arXiv 2505.16743), one candidate at a time, each a masked product."""

    def __init__(
        self, weight: Array, inputs: Array, score: Array, target: float, *, iterations: int = 10,
        layer_quality: str = "cosim_flat", row_quality: str = "cosim", cap: float = 0.95,
    ) -> None:  # fmt: skip
        self.weight, self.inputs = weight.astype(np.float64), inputs.astype(np.float64)
        self.ranks = np.argsort(order_of(score), axis=1)
        self.dense = self.weight @ self.inputs
        self.alive = np.abs(self.dense).max(1) > 0
        self.target, self.cap, self.iterations = target, cap, iterations
        self.names = layer_quality, row_quality

    def pruned(self, x: Array) -> Array:
        columns = self.weight.shape[1]
        counts = np.clip(np.floor(columns * x), 0, columns)
        return np.where(self.ranks < counts[:, None], 0.0, self.weight) @ self.inputs

    def quality(self, x: Array) -> float:
        return layer_quality(self.dense, self.pruned(x), self.names[0])

    def one_rate(self, rate: float) -> tuple[float, Array]:
        """The best quality, uniform included, and the x that has it."""
        x = np.full(len(self.weight), self.target)
        best, best_x = self.quality(x), x
        part = self.alive if self.names[1] == "psnr" else np.ones(len(x), dtype=bool)
        if not part.any():
            return best, best_x
        for _ in range(self.iterations):
            c = row_quality(self.dense, self.pruned(x), self.names[1])[part]
            d = (c - c.min()) / (c.max() - c.min() + 1e-6) * 2 * rate
            d = d - d.mean()
            moved = np.maximum(np.minimum(x[part] + d, self.cap), 0)
            x = x.copy()
            x[part] = moved - moved.mean() + self.target
            if self.quality(x) > best:
                best, best_x = self.quality(x), x
        return best, best_x

    def run(self, positive: tuple[float, ...], negative: tuple[float, ...]) -> Outcome:
        uniform = np.full(len(self.weight), self.target)
        found = Outcome(None, [], self.quality(uniform), self.quality(uniform), uniform)
        for rates in (positive, negative):
            if found.learning_rate is not None:
                break
            previous = None
            for rate in rates:
                quality, x = self.one_rate(rate)
                found.tried.append((rate, quality))
                if quality > found.layer_quality:
                    found.learning_rate, found.layer_quality, found.row_sparsity = rate, quality, x
                if previous is not None and not quality > previous:
                    break
                previous = quality
        return found
