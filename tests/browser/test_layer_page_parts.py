"""Every part of the Layer page in a real browser, wide and narrow: nothing is cut, and files hold what is drawn."""

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.browser.harness import NARROW, WIDE, both_widths, resize, screenshot, settled, slider
from tests.browser.layer_page import ITS_ADDRESS, PARTS, TARGET, card, download, menu, opened, part, views
from tests.browser.page_checks import cut_labels, nothing_is_cut_and_the_colours_are_right

pytestmark = pytest.mark.browser
ROWS, COLUMNS = 1536, 576


def overlapping_cards(page: Page) -> list[tuple[int, int]]:
    boxes = [box.bounding_box() for box in page.locator("[class*=st-key-card-]").all()]
    return [
        (one, other)
        for (one, a), (other, b) in itertools.combinations(enumerate(boxes), 2)
        if a["x"] + a["width"] > b["x"] + 1
        and b["x"] + b["width"] > a["x"] + 1
        and a["y"] + a["height"] > b["y"] + 1
        and b["y"] + b["height"] > a["y"] + 1
    ]


def files_hold_what_is_drawn(page: Page, tmp_path: Path) -> None:
    with download(page, "row_sparsity", "CSV", tmp_path).open(encoding="utf-8") as file:
        columns = list(zip(*csv.reader(file), strict=True))
    table = {name: np.array(values, dtype=float) for name, *values in columns}
    with np.load(download(page, "row_sparsity", "NPZ", tmp_path), allow_pickle=False) as arrays:
        for name, values in table.items():
            np.testing.assert_allclose(arrays[name], values, equal_nan=True)
    assert table["row"].tolist() == list(range(ROWS))
    assert table["trim_count"].sum() == table["uniform_count"].sum() == round(0.7 * ROWS * COLUMNS)
    np.testing.assert_allclose(table["trim_row_sparsity"], table["trim_count"] / COLUMNS)
    picture = download(page, "row_sparsity", "SVG", tmp_path)
    assert picture.suffix == ".svg"
    assert picture.read_text(encoding="utf-8").startswith("<svg")


def the_target_stays_at_the_top(page: Page) -> None:
    page.get_by_test_id("stMain").evaluate("(main) => main.scrollTo(0, 500)")
    shown = slider(page, TARGET).evaluate("""(input) => {
        const {left, top} = input.parentElement.getBoundingClientRect();
        return top < 150 && Boolean(document.elementFromPoint(left + 1, top + 1)?.closest('.st-key-target-bar'));
    }""")
    assert shown, "the slider is on the screen, and nothing is above it"
    page.get_by_test_id("stMain").evaluate("(main) => main.scrollTo(0, 0)")


def beside_the_side_bar_nothing_is_cramped(page: Page) -> None:
    resize(page, (800, 900))
    rows = page.locator(".st-key-shown [role=radio]").evaluate_all(
        "(choices) => [...new Set(choices.map((choice) => Math.round(choice.getBoundingClientRect().top)))]"
    )
    assert len(rows) == 1, "the choices stand in one row"
    assert page.locator(".trim-chart h3").evaluate_all(
        "(titles) => titles.every((title) => title.scrollWidth <= title.clientWidth)"
    )
    the_target_stays_at_the_top(page)


@pytest.mark.parametrize("colour_scheme", ["dark"])
@pytest.mark.parametrize("viewport", [NARROW])
def test_every_part_wide_and_narrow(page, colour_scheme, viewport, tmp_path):
    opened(page, f"/?{ITS_ADDRESS}&rows=3,17,20-24&shown=Both")
    for size in both_widths(page):
        nothing_is_cut_and_the_colours_are_right(page, colour_scheme)
        screenshot(page, f"layer-{size[0]}-{colour_scheme}")
        height = page.evaluate("() => document.querySelector('[data-testid=stMain]').scrollHeight")
        assert height <= size[1] * (3 if size == WIDE else 4)
        the_target_stays_at_the_top(page)
    beside_the_side_bar_nothing_is_cramped(page)
    resize(page, WIDE)
    for name, shown in (
        ("Rows", ("row_scores", "row_path", "row_prices")),
        ("Masks", ("mask_uniform", "mask_optimal")),
    ):
        part(page, name)
        for each in shown:
            expect(card(page, each).locator(".main-svg").first).to_be_visible()
        for size in both_widths(page):
            nothing_is_cut_and_the_colours_are_right(page, colour_scheme)
            assert overlapping_cards(page) == []
            screenshot(page, f"layer-{size[0]}-{colour_scheme}-{name}")
    for name, drawn in PARTS.items():
        part(page, name)
        count = views(page, drawn).count()
        for index in range(count):
            views(page, drawn).nth(index).click()
            expect(views(page, drawn).nth(index)).to_be_checked()
            settled(page)
            expect(card(page, drawn).locator(".main-svg").first).to_be_visible()
            for size in both_widths(page):
                assert cut_labels(page) == []
                screenshot(card(page, drawn), f"view-{size[0]}-{drawn}-{index}")
                if index == count - 1:
                    the_formula_fits(page, drawn)
        if name == "Sparsity":
            files_hold_what_is_drawn(page, tmp_path)


def the_formula_fits(page: Page, name: str) -> None:
    menu(page, name, "Formula")
    expect(page.get_by_test_id("stPopoverBody").locator(".katex-display").first).to_be_visible()
    assert page.locator(".katex-error").count() == 0
    assert page.locator(".katex-display").evaluate_all(
        "(formulas) => formulas.every((formula) => formula.scrollWidth <= formula.clientWidth)"
    )
    page.keyboard.press("Escape")
    expect(page.get_by_test_id("stPopoverBody")).to_have_count(0)
