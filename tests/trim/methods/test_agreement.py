"""Agreement of two masks against sets worked out by hand."""

import numpy as np
import pytest

import trim
from trim.methods.agreement import mask_agreement


def test_masks_agree_as_sets_do():
    first = np.array([[True, True, False, False], [False, False, False, False]])
    second = np.array([[True, False, True, False], [False, False, False, False]])
    found = mask_agreement(first, second)
    assert found.whole == pytest.approx(1 / 3)
    np.testing.assert_allclose(found.by_row, [1 / 3, 1], err_msg="two empty rows are equal")
    np.testing.assert_allclose(found.by_column, [1, 0, 0, 1])
    assert found.expected == pytest.approx(1 / 3), "2 of 4 each: one met, three in all"
    rng = np.random.default_rng(0)
    random = mask_agreement(*(rng.random((2, 300, 400)) < 0.3))
    assert random.whole == pytest.approx(random.expected, abs=0.01)
    with pytest.raises(trim.ShapeError, match="one shape"):
        mask_agreement(first, second.T)
    with pytest.raises(trim.ShapeError, match="bool"):
        mask_agreement(first.astype(int), second)
