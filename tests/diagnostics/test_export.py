"""Files of a view's numbers: nothing is lost on the way, nothing is pickled."""

import csv
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from diagnostics.export import arrays_npz, table_csv

COLUMN = arrays(np.float64, 7, elements=st.floats(width=64))


def read(file: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(file.decode("utf-8"), newline="")))


@given(COLUMN, COLUMN)
def test_csv_keeps_every_digit(first, second):
    names, *lines = read(table_csv({"first": first, "second": second}))
    assert names == ["first", "second"]
    table = np.array([[float(cell) for cell in line] for line in lines])
    np.testing.assert_array_equal(table, np.column_stack([first, second]))


def test_csv_of_integers_booleans_and_text():
    columns = {
        "row": np.arange(2),
        "tried": np.array([True, False]),
        "na,me": np.array(['say "hi"', "a,b\nc"]),
    }
    assert read(table_csv(columns)) == [
        ["row", "tried", "na,me"],
        ["0", "True", 'say "hi"'],
        ["1", "False", "a,b\nc"],
    ]


def test_csv_of_float32_is_read_back_as_float32():
    values = np.random.default_rng(0).standard_normal(50).astype(np.float32)
    _, *lines = read(table_csv({"x": values}))
    np.testing.assert_array_equal(np.array([line[0] for line in lines], dtype=np.float32), values)


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"a": np.arange(2), "b": np.arange(3)},
        {"a": np.zeros((2, 2))},
        {"a": np.float64(1)},
    ],
)
def test_csv_takes_lines_of_one_length_only(columns):
    with pytest.raises(ValueError, match="lines of one length"):
        table_csv(columns)


@given(arrays(np.float32, st.tuples(st.integers(0, 4), st.integers(0, 4)), elements=st.floats(width=32)))
def test_npz_keeps_shape_type_and_value(array):
    with np.load(io.BytesIO(arrays_npz({"x": array, "rows": np.arange(3)})), allow_pickle=False) as read_back:
        assert sorted(read_back) == ["rows", "x"]
        assert read_back["x"].dtype == array.dtype
        np.testing.assert_array_equal(read_back["x"], array)


def test_npz_holds_no_objects():
    with pytest.raises(ValueError, match="notes holds Python objects"):
        arrays_npz({"notes": np.array([{}], dtype=object)})
    with pytest.raises(ValueError, match="pairs holds Python objects"):
        arrays_npz({"pairs": np.zeros(2, dtype=[("a", object)])})
