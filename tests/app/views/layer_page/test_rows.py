"""Selected rows on the Layer page: typed, picked, in the table, and refused."""

import numpy as np

import trim
from app.ui.common.selection import GAP_PICKS, PICKED_ROWS, PICKS, parse_rows
from tests.app.demo_layer import COLUMNS, FOUR_CHARTS, ROWS
from tests.app.page import LayerPage


def selected_table(page: LayerPage) -> list[int]:
    return page.test.dataframe[0].value["Row"].tolist() if page.test.dataframe else []


def test_typed_rows_appear_everywhere(page):
    page.set("text_input", "rows", "3, 17, 20-22")
    rows = [3, 17, 20, 21, 22]
    assert page.linked[0]["selected"] == rows
    page.set("segmented_control", "part", "Rows")
    assert selected_table(page) == rows
    assert {"row_scores", "row_cosine", "row_path"} == page.charts.keys()
    page.set("selectbox", "inspected_row", 17)
    assert any("row 17" in text for text in page.texts)
    page.set("text_input", "rows", "")
    assert selected_table(page) == []
    assert any("No rows selected" in info.value for info in page.test.info)
    page.set("segmented_control", "part", "Overview")
    assert list(page.charts) == FOUR_CHARTS
    assert page.linked[0]["selected"] == []


def test_the_table_holds_the_librarys_numbers(page, curves):
    page.set("text_input", "rows", "5-9")
    page.set("segmented_control", "part", "Rows")
    result = trim.search(curves, trim.SearchSettings(0.7))
    table = page.test.dataframe[0].value
    np.testing.assert_array_equal(table["pruned, TRIM"], result.counts[5:10].numpy() / COLUMNS)
    np.testing.assert_array_equal(table["pruned, uniform"], result.uniform_counts[5:10].numpy() / COLUMNS)
    np.testing.assert_allclose(table["x of the search"], result.row_sparsity[5:10])
    np.testing.assert_allclose(table["cosine, TRIM"], curves.at(result.counts).cosine[5:10])


def test_quick_picks(page):
    for pick in (*PICKS, *GAP_PICKS):
        page.set("selectbox", "pick", pick)
        typed = page.test.text_input(key="rows").value
        assert len(parse_rows(typed, ROWS)) == PICKED_ROWS, pick
        assert page.linked[0]["selected"] == parse_rows(typed, ROWS), pick


def test_nonsense_rows_get_one_message(page):
    for typed, expected in (
        ("all of them", "“all” is not a row number"),
        ("1536", "the rows 0 to 1535"),
        ("0-500", "at most 200 rows"),
        ("<b>3</b>", r"“\<b\>3\</b\>” is not a row number"),
        ("*3*]", r"“\*3\*\]” is not a row number"),
    ):
        page.set("text_input", "rows", typed)
        (message,) = [text for text in page.texts if text.startswith(":red[")]
        assert expected in message.replace(r"\-", "-")
        assert list(page.charts) == FOUR_CHARTS
