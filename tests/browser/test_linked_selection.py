"""Rows selected in one chart are marked in the others, stand in the table, and stay when the charts change."""

import csv
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from app.ui.common.selection import parse_rows
from tests.browser.harness import drag_slider, redraw, screenshot, settled
from tests.browser.layer_page import (
    FOUR_CARDS,
    ITS_ADDRESS,
    TARGET,
    box_over_bars,
    card,
    download,
    opened,
    rows_field,
    trace,
    traces,
    views,
)
from tests.browser.page_checks import cut_labels

pytestmark = pytest.mark.browser

ROWS = 1536


def selected_rows(page: Page) -> list[int]:
    return parse_rows(rows_field(page).input_value(), ROWS)


def marked(page: Page, name: str, label: str) -> list[int]:
    """The rows marked in a card's histogram."""
    return next((each["customdata"] for each in traces(page, name) if each["name"] == label), [])


def half_bar(bars: dict) -> float:
    return (bars["x"][1] - bars["x"][0]) / 2


def test_a_box_over_the_gini_histogram(page, tmp_path: Path):
    opened(page)
    bars = trace(page, "gini", "wanda")
    # Around the bars on the right, where few rows are.
    last = max(index for index, count in enumerate(bars["y"]) if count)
    first = next(index for index in range(last, 0, -1) if sum(bars["y"][index:]) >= 5)
    with redraw(page):
        box_over_bars(page, "gini", first, last)
    rows = selected_rows(page)
    assert len(rows) == sum(bars["y"][first:])
    with download(page, "gini", "CSV", tmp_path).open() as file:
        limit = bars["x"][first] - half_bar(bars)
        assert rows == [int(line["row"]) for line in csv.DictReader(file) if float(line["gini"]) >= limit]
    for method in ("Uniform", "TRIM"):
        assert marked(page, "row_sparsity", f"selected rows under {method}") == rows
    assert any(f"row {rows[0]}" in str(each["name"]) for each in traces(page, "cosine"))
    assert len(traces(page, "gini")) == 1, "the chart with the box is left alone"
    expect(page.get_by_test_id("stDataFrame")).to_be_visible()
    expect(card(page, "row_scores").locator(".main-svg").first).to_be_visible()
    screenshot(page, "layer-selected")

    # A double click in the chart ends its selection.
    with redraw(page):
        card(page, "gini").locator(".nsewdrag").first.dblclick()
    settled(page)
    assert selected_rows(page) == []
    expect(page.get_by_text("No rows selected")).to_be_visible()
    with redraw(page):
        box_over_bars(page, "gini", first, last)
    assert selected_rows(page) == rows

    # The Gini does not depend on the target: its box stays, and so do the rows.
    with redraw(page):
        drag_slider(page, TARGET, 60)
    assert selected_rows(page) == rows
    assert len(traces(page, "gini")) == 1
    assert marked(page, "row_sparsity", "selected rows under TRIM") == rows

    # Another view and back: the box is gone, so the rows are marked.
    choices = views(page, "gini")
    for index in (1, 0):
        with redraw(page):
            choices.nth(index).click()
    page.keyboard.press("Escape")
    assert marked(page, "gini", "selected rows") == rows

    # A box while rows are marked: the marks below the bars do not count as bars.
    with redraw(page):
        box_over_bars(page, "gini", last, last)
    assert len(selected_rows(page)) == bars["y"][last]
    assert marked(page, "gini", "selected rows") == selected_rows(page)


def test_a_box_over_row_sparsities_while_rows_are_marked(page, tmp_path: Path):
    opened(page, f"/?{ITS_ADDRESS}&rows=3,17")
    uniform, learned = trace(page, "row_sparsity", "Uniform"), trace(page, "row_sparsity", "TRIM")
    # Where uniform puts all rows, TRIM's rows alone are meant.
    spike = uniform["y"].index(max(uniform["y"]))
    with redraw(page):
        box_over_bars(page, "row_sparsity", spike, spike)
    assert len(selected_rows(page)) == learned["y"][spike] <= 200
    last = next(index for index in range(len(learned["y"])) if sum(learned["y"][: index + 1]) >= 5)
    with redraw(page):
        box_over_bars(page, "row_sparsity", 0, last)
    rows = selected_rows(page)
    assert len(rows) == sum(learned["y"][: last + 1])
    with download(page, "row_sparsity", "CSV", tmp_path).open() as file:
        limit = learned["x"][last] + half_bar(learned)
        lines = csv.DictReader(file)
        assert rows == [int(line["row"]) for line in lines if float(line["trim_row_sparsity"]) <= limit]
    assert marked(page, "gini", "selected rows") == rows

    # At another target the chart is another one: its box is gone, so the rows are marked in it.
    with redraw(page):
        drag_slider(page, TARGET, 60)
    assert selected_rows(page) == rows
    assert marked(page, "row_sparsity", "selected rows under TRIM") == rows

    # Every view of every card is drawn, with its marks.
    for name in FOUR_CARDS:
        choices = views(page, name)
        for index in range(choices.count()):
            choices.nth(index).click()
            expect(choices.nth(index)).to_be_checked()
            settled(page)
            expect(card(page, name).locator(".main-svg").first).to_be_visible()
            assert cut_labels(page) == []
            screenshot(card(page, name), f"view-{name}-{index}")
        page.keyboard.press("Escape")
