"""TRIM's search against a naive one, one candidate and one masked product at a time."""

import numpy as np
import pytest
import torch

import trim
from tests.trim import oracle

POSITIVE = (0.01, 0.02, 0.04, 0.08, 0.12, 0.16)
NEGATIVE = (-0.01, -0.02, -0.04)


class Layer:
    """A random layer whose rows differ in how concentrated their scores are."""

    def __init__(
        self,
        seed: int,
        *,
        rows: int = 11,
        columns: int = 37,
        vectors: int = 6,
        spread: float = 1.0,
        dead: int = 0,
    ) -> None:
        generator = np.random.default_rng(seed)
        weight = generator.standard_normal((rows, columns))
        weight *= np.exp(spread * generator.random((rows, 1)) * generator.standard_normal((rows, columns)))
        weight[generator.permutation(rows)[:dead]] = 0
        self.weight = weight.astype(np.float32)
        self.inputs = generator.standard_normal((columns, vectors)).astype(np.float32)
        self.score = np.abs(self.weight) * np.linalg.norm(self.inputs, axis=1).astype(np.float32)

    def curves(self) -> trim.RetentionCurves:
        return trim.retention_curves(
            torch.from_numpy(self.weight), torch.from_numpy(self.inputs), torch.from_numpy(self.score)
        )

    def naive(self, target: float, **settings) -> oracle.Search:
        return oracle.Search(self.weight, self.inputs, self.score, target, **settings)


def agree(layer: Layer, target: float, *, positive=POSITIVE, negative=NEGATIVE, cap=0.95, **names):
    """Search both ways, compare, return the library's result."""
    expected = layer.naive(target, cap=cap, **names).run(positive, negative)
    settings = trim.SearchSettings(
        target, learning_rates=positive, negative_learning_rates=negative, max_row_sparsity=cap, **names
    )
    result = trim.search(layer.curves(), settings)
    assert result.learning_rate == expected.learning_rate
    assert [rate for rate, _ in result.tried] == [rate for rate, _ in expected.tried]
    close = {"rel": 1e-5, "abs": 1e-6}
    assert [q for _, q in result.tried] == pytest.approx([q for _, q in expected.tried], **close)
    assert result.uniform_quality == pytest.approx(expected.uniform_quality, **close)
    assert result.layer_quality == pytest.approx(expected.layer_quality, **close)
    np.testing.assert_allclose(result.row_sparsity.numpy(), expected.row_sparsity, rtol=0, atol=1e-4)
    total = round(target * layer.weight.size)
    limit = int(np.floor(cap * layer.weight.shape[1] + 1e-9))
    for counts in (result.counts, result.uniform_counts):
        assert int(counts.sum()) == total
        assert 0 <= int(counts.min()) <= int(counts.max()) <= limit
    return result


# Seeds for which no two rates tie to within the float32 of the products.
@pytest.mark.parametrize("row_quality", sorted(trim.ROW_QUALITIES))
@pytest.mark.parametrize("layer_quality", sorted(trim.LAYER_QUALITIES))
@pytest.mark.parametrize(("seed", "target", "dead"), [(0, 0.6, 0), (1, 0.83, 0), (2, 0.7, 3)])
def test_every_pair_of_qualities(layer_quality, row_quality, seed, target, dead):
    layer = Layer(seed, dead=dead)
    agree(layer, target, layer_quality=layer_quality, row_quality=row_quality)


@pytest.mark.parametrize("seed", range(12))
def test_layers_of_many_shapes(seed):
    generator = np.random.default_rng(100 + seed)
    layer = Layer(
        seed,
        rows=int(generator.integers(1, 40)),
        columns=int(generator.integers(3, 90)),
        vectors=int(generator.integers(1, 12)),
        spread=float(generator.random() * 2),
    )
    agree(layer, float(generator.uniform(0.3, 0.94)), iterations=int(generator.integers(1, 14)))


def test_one_iteration():
    result = agree(Layer(3), 0.65, iterations=1)
    assert result.trace.quality.shape == (9, 2)


@pytest.mark.parametrize(
    ("positive", "negative", "first"),
    [((0.3, 0.05, 0.1, 0.02), (-0.2,), 0.3), ((0.05,), (), 0.05), ((), NEGATIVE, NEGATIVE[0])],
)
def test_rates_of_ones_own_in_their_own_order(positive, negative, first):
    result = agree(Layer(4), 0.65, positive=positive, negative=negative)
    rates = [rate for rate, _ in result.tried]
    assert rates[0] == first
    assert set(rates) <= set(positive + negative)


def layer_with_dead_rows() -> Layer:
    """Dead rows have the least cosine: a positive rate spares them at the cost of the rows that matter."""
    return Layer(5, spread=0.0, rows=24, dead=8)


def test_a_negative_rate_wins():
    result = agree(layer_with_dead_rows(), 0.7)
    assert result.learning_rate in NEGATIVE
    assert all(quality <= result.uniform_quality for rate, quality in result.tried if rate > 0)
    assert sum(rate > 0 for rate, _ in result.tried) == 2


def test_the_same_with_negative_rates_forbidden_stays_uniform():
    result = agree(layer_with_dead_rows(), 0.7, negative=())
    assert result.learning_rate is None
    assert result.layer_quality == result.uniform_quality
    assert result.realised_quality == result.uniform_realised_quality
    assert bool((result.row_sparsity == 0.7).all())
    assert torch.equal(result.counts, result.uniform_counts)


@pytest.mark.parametrize("cap", [0.95, 0.8])
def test_the_cap_binds(cap):
    layer = Layer(6, spread=2.5, columns=80)
    result = agree(layer, cap - 0.06, cap=cap, positive=(0.3, 0.4))
    assert max(float(x[1:].max()) for x in list(result.trace.updates.values())[:2]) >= cap
    assert int(result.counts.max()) == int(cap * 80)
