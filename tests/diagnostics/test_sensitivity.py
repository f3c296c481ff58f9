"""Sensitivity against Gini, against least squares on ranks in float64; the figure."""

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from diagnostics.figures.sensitivity import sensitivity_density_figure
from diagnostics.sensitivity import LayerRows, sensitivity_statistics


def layer(name, seed, rows=50):
    rng = np.random.default_rng(seed)
    gini, sensitivity = rng.random(rows), rng.lognormal(size=rows)
    return LayerRows(name, gini, sensitivity, 0.3 * gini - 0.2 * np.log(sensitivity) + rng.random(rows))


def explained(target, *others):
    """R² of the ranks in least squares with a constant."""
    y, x = rankdata(target), np.column_stack([np.ones(len(target)), *map(rankdata, others)])
    rest = y - x @ np.linalg.lstsq(x, y)[0]
    return 1 - (rest**2).sum() / ((y - y.mean()) ** 2).sum()


def test_shares_are_those_of_least_squares_on_ranks():
    layers = [layer("0.q", 0), layer("0.k", 1)]
    found = sensitivity_statistics(layers)
    for place, each in enumerate(layers):
        assert found.correlation[place] == pytest.approx(spearmanr(each.gini, each.sensitivity).statistic)
        assert found.by_gini[place] == pytest.approx(explained(each.row_sparsity, each.gini))
        both = explained(each.row_sparsity, each.gini, each.sensitivity)
        assert found.by_both[place] == pytest.approx(both)
        assert both > found.by_gini[place]
    pooled = [np.concatenate([getattr(each, key) for each in layers]) for key in ("gini", "sensitivity")]
    assert found.over_all.coefficient == pytest.approx(spearmanr(*pooled).statistic)
    assert found.density.sum() == 100
    (cells,) = sensitivity_density_figure(found).data
    assert np.nansum(10.0 ** np.asarray(cells.z, dtype=np.float64)) == pytest.approx(100, rel=1e-5)


def test_rows_without_a_number_are_left_out():
    first = layer("0.q", 0, 6)
    first.gini[0], first.sensitivity[1] = np.nan, 0
    flat = LayerRows("0.k", np.full(4, 0.5), np.arange(1.0, 5), np.full(4, 0.7))
    found = sensitivity_statistics([first, flat])
    assert found.density.sum() == 4 + 4
    assert found.correlation[0] == pytest.approx(spearmanr(first.gini[2:], first.sensitivity[2:]).statistic)
    assert np.isnan([found.correlation[1], found.by_gini[1], found.by_both[1]]).all()
    same = LayerRows("0.v", first.gini[2:], first.gini[2:], first.row_sparsity[2:])
    twice = sensitivity_statistics([same])
    assert twice.by_both[0] == pytest.approx(twice.by_gini[0]), "the same number twice explains no more"
    with pytest.raises(ValueError, match="at least one layer"):
        sensitivity_statistics([])
    with pytest.raises(ValueError, match="must have shape"):
        sensitivity_statistics([LayerRows("0.q", np.ones(3), np.ones(2), np.ones(3))])
