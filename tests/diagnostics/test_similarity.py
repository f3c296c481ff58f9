import numpy as np
import pytest

from diagnostics.similarity import (
    DRAWN_POINTS,
    AllocatedCosine,
    cosine_statistics,
    sparsity_grid,
)
from trim.runs.record import CURVE_POINTS


@pytest.mark.parametrize("columns", [1, 2, 10, 32, 33, 96, 97, 576, 14_000])
@pytest.mark.parametrize("points", [2, CURVE_POINTS, DRAWN_POINTS])
def test_grid_runs_from_nothing_to_everything(columns, points):
    grid = sparsity_grid(columns, points)
    assert (grid[0], grid[-1]) == (0, columns)
    assert (np.diff(grid) > 0).all()
    assert len(grid) <= points


def test_grid_follows_the_cliff_better_than_an_even_one():
    columns = 2000
    counts = np.arange(columns + 1)
    curve = np.sqrt(1 - (counts / columns) ** 8)

    def error(grid):
        return np.abs(np.interp(counts, grid, curve[grid]) - curve).max()

    even = np.round(np.linspace(0, columns, CURVE_POINTS)).astype(int)
    assert error(sparsity_grid(columns, CURVE_POINTS)) < error(even) / 3


def test_grid_refuses_nonsense():
    with pytest.raises(ValueError, match="grid"):
        sparsity_grid(0)
    with pytest.raises(ValueError, match="grid"):
        sparsity_grid(5, 1)


def table():
    sparsity = np.array([0, 0.5, 1.0])
    cosine = np.array([[1, 0.9, 0], [1, 0.7, 0], [0, 0, 0], [1, 0.8, 0.0]])
    return cosine, sparsity


def test_bands_leave_dead_rows_out_and_count_them():
    cosine, sparsity = table()
    statistics = cosine_statistics(cosine, sparsity, 0.5)
    assert statistics.dead_rows == 1
    np.testing.assert_allclose(
        statistics.bands, np.percentile(cosine[[0, 1, 3]], [5, 25, 50, 75, 95], axis=0)
    )
    assert np.isnan(cosine_statistics(cosine[2:3], sparsity, 0.5).bands).all()


def test_chosen_rows_have_their_curves():
    cosine, sparsity = table()
    trim = AllocatedCosine("trim", "TRIM", np.array([0.1, 0.2, 0.3, 0.4]), np.array([0.99, 0.9, 0, 0.85]))
    found = cosine_statistics(cosine, sparsity, 0.5, [trim], [3])
    assert list(found.curves) == [3]
    np.testing.assert_array_equal(found.curves[3], cosine[3])
    assert found.allocations == (trim,)


def test_statistics_refuse_what_does_not_fit():
    cosine, sparsity = table()
    with pytest.raises(ValueError, match="ascend from 0 to 1"):
        cosine_statistics(cosine, np.array([0.1, 0.5, 1]), 0.5)
    with pytest.raises(ValueError, match="target"):
        cosine_statistics(cosine, sparsity, 70)
    with pytest.raises(ValueError, match="0 to 3"):
        cosine_statistics(cosine, sparsity, 0.5, rows=[4])
    short = AllocatedCosine("trim", "TRIM", np.array([0.1]), np.array([0.9]))
    with pytest.raises(ValueError, match="row_sparsity of TRIM"):
        cosine_statistics(cosine, sparsity, 0.5, [short])
    with pytest.raises(ValueError, match="cosine"):
        AllocatedCosine("trim", "TRIM", np.array([0.1]), np.array([0.9, 0.8]))
