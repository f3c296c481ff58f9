"""Rows as text: what is typed, what is written into the address, and what is not a row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ui.common.selection import MAX_ROWS, RowsError, format_rows, parse_rows

ROWS = st.sets(st.integers(0, 999), max_size=MAX_ROWS).map(sorted)


@given(ROWS)
def test_rows_survive_being_written_and_neighbours_are_one_range(rows):
    starts = [row for row in rows if row - 1 not in rows]
    written = format_rows(rows)
    assert parse_rows(written, 1000) == rows
    assert written.count(",") == max(0, len(starts) - 1)
    assert len(written) <= 2000, "longer than the text field takes"


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("", []),
        (" ,; \n", []),
        ("3", [3]),
        ("17, 3,3", [3, 17]),
        ("20-25", [20, 21, 22, 23, 24, 25]),
        ("20–22", [20, 21, 22]),
        ("4 2;9", [2, 4, 9]),
        ("7-7", [7]),
        ("0, 49", [0, 49]),
    ],
)
def test_typed_rows(text, rows):
    assert parse_rows(text, 50) == rows


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("3, foo", "“foo” is not a row number"),
        ("-3", "“-3” is not a row number"),
        ("3.5", "“3.5” is not a row number"),
        ("1-2-3", "“1-2-3” is not a row number"),
        ("9" * 30, f"“{'9' * 20}” is not a row number"),
        ("50", "rows 0 to 49; “50” is not"),
        ("48-50", "“48-50” is not"),
        ("5-3", "“5-3” is not"),
        ("999999999", "“999999999” is not"),
    ],
)
def test_what_is_not_a_row_is_named(text, named):
    with pytest.raises(RowsError, match=named):
        parse_rows(text, 50)


def test_at_most_so_many_rows():
    assert len(parse_rows(f"0-{MAX_ROWS - 1}", 1000)) == MAX_ROWS
    with pytest.raises(RowsError, match=f"at most {MAX_ROWS}"):
        parse_rows(f"0-{MAX_ROWS}", 1000)
