"""Numbers by attention head, against sums written out; their figure."""

import numpy as np
import pandas
import pytest

from diagnostics.figures.distributions import GINI
from diagnostics.figures.heads import heads_figure
from diagnostics.figures.theme import series_styles
from diagnostics.heads import by_head


def test_rows_belong_to_heads_in_turn():
    found = by_head("A", np.array([1.0, 2, 3, 4, np.nan, np.nan]), ["head 0", "head 1", "<b>"])
    np.testing.assert_equal(found.quartiles[:, 1], [1.5, 3.5, np.nan])
    np.testing.assert_equal(found.means, [1.5, 3.5, np.nan])
    assert found.between == pytest.approx(4 / 5)
    assert found.chance == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="6 rows do not divide into 4 heads"):
        by_head("A", np.zeros(6), list("abcd"))
    assert by_head("A", np.ones(6), list("abc")).between is None
    (marks,) = heads_figure([found], series_styles(["trim"]), GINI).data
    np.testing.assert_allclose(marks.y, [1.5, 3.5, np.nan])
    np.testing.assert_allclose(marks.error_y.array[:2], 0.25)
    assert marks.text[2] == "&lt;b&gt;"


def test_the_share_between_heads_is_that_of_an_analysis_of_variance():
    rng = np.random.default_rng(0)
    values = rng.random(60)
    values[[3, 17, 41]] = np.nan
    names = [f"head {head}" for head in range(5)]
    table = pandas.DataFrame({"head": np.repeat(names, 12), "value": values}).dropna()
    means = table.groupby("head")["value"].transform("mean")
    share = means.var(ddof=0) / table["value"].var(ddof=0)
    assert by_head("A", values, names).between == pytest.approx(share, rel=1e-12)
    dealt = [by_head("A", rng.permutation(values), names) for _ in range(300)]
    assert np.mean([each.between for each in dealt]) == pytest.approx(dealt[0].chance, rel=0.1)
