"""The Layer page in a real browser: charts are drawn, controls move them, nothing is cut. A visit takes seconds, so a
test is a visit and not a single question."""

import csv
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

import trim
from tests.browser.harness import (
    AppServer,
    drag_slider,
    redraw,
    screenshot,
    settled,
    step_slider,
)
from tests.browser.layer_page import (
    FOUR_CARDS,
    ITS_ADDRESS,
    TARGET,
    arrived,
    card,
    click_row,
    download,
    figures,
    menu,
    opened,
    rows_field,
    trace,
    traces,
)
from tests.browser.page_checks import cut_labels, overflow

pytestmark = pytest.mark.browser

ROWS, COLUMNS = 1536, 576
WIDE, NARROW = (1440, 900), (420, 900)


def changed(before: dict[str, list], after: dict[str, list]) -> set[str]:
    return {name for name in FOUR_CARDS if before[name] != after[name]}


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


def drawn_whole_in_its_colours(page: Page, colour_scheme: str) -> None:
    assert sum(trace(page, "gini", "wanda")["y"]) == ROWS
    for name in FOUR_CARDS:
        assert card(page, name).locator(".main-svg").first.bounding_box()["width"] > 250
    assert overflow(page) == []
    assert cut_labels(page) == []
    background = page.get_by_test_id("stApp").evaluate("(node) => getComputedStyle(node).backgroundColor")
    bright = sum(map(int, re.findall(r"\d+", background)[:3])) > 3 * 127
    assert bright == (colour_scheme == "light")


def test_first_visit(page, colour_scheme, app: AppServer, tmp_path: Path):
    opened(page)
    drawn_whole_in_its_colours(page, colour_scheme)
    screenshot(page, "layer-1440-light")
    files_hold_what_is_drawn(page, tmp_path)
    the_target_moves_the_figures(page)
    a_layer_is_kept(page, app)


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
    bars = trace(page, "gini", "wanda")
    width = bars["x"][1] - bars["x"][0]
    edges = np.append(np.array(bars["x"]) - width / 2, bars["x"][-1] + width / 2)
    assert np.histogram(table["gini"], bins=edges)[0].tolist() == bars["y"]

    picture = download(page, "gini", "SVG", tmp_path)
    assert picture.suffix == ".svg"
    assert picture.read_text(encoding="utf-8").startswith("<svg")


def the_target_moves_the_figures(page: Page) -> None:
    before = figures(page)
    quality = page.get_by_test_id("stMetricValue").nth(1)
    shown = quality.inner_text()
    with redraw(page) as change:
        assert drag_slider(page, TARGET, 60) == 60
    assert change.charts >= 3
    assert changed(before, figures(page)) == {"cosine", "row_sparsity", "rate"}
    expect(page.get_by_text("60.00%", exact=True)).to_be_visible()
    assert quality.inner_text() != shown

    # Every press of an arrow key asks for a run; the last one counts.
    step_slider(page, TARGET, 10)
    expect(page.get_by_text("70.00%", exact=True)).to_be_visible()
    settled(page)
    assert figures(page) == before

    # Out of reach: a message, and the earlier result stays.
    step_slider(page, TARGET, 26)
    expect(page.get_by_text("lower the target or raise the cap")).to_be_visible()
    settled(page)
    assert sum(trace(page, "gini", "wanda")["y"]) == ROWS
    screenshot(page, "layer-refused-target")
    step_slider(page, TARGET, -26)
    settled(page)


def a_layer_is_kept(page: Page, app: AppServer) -> None:
    page.get_by_role("button", name="Keep as a run").click()
    page.get_by_label("Name", exact=True).fill("<b>my</b> run")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Keep", exact=True).click()
    expect(page.get_by_text("Kept in")).to_be_visible()
    kept = page.get_by_role("link", name="Open what was kept")
    expect(kept).to_be_visible()
    screenshot(page, "layer-kept")
    (folder,) = (app.log.parent / "runs").iterdir()
    assert trim.open_run(folder).name == "<b>my</b> run"
    kept.press("Enter")
    expect(page.get_by_text("The layer as the run")).to_be_visible()


@pytest.mark.parametrize("colour_scheme", ["dark"])
@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
def test_everything_open_at_once(page, colour_scheme, viewport):
    opened(page, f"/?{ITS_ADDRESS}&masks=true&rows=3,17,20-24&shown=Both")
    for name in ("mask_uniform", "mask_trim", "mask_optimal", "row_scores", "row_path", "row_prices"):
        expect(card(page, name).locator(".main-svg").first).to_be_visible()
    drawn_whole_in_its_colours(page, colour_scheme)
    assert overlapping_cards(page) == []
    screenshot(page, f"layer-{viewport[0]}-{colour_scheme}-rows")
    for name in (*FOUR_CARDS, "row_scores"):
        menu(page, name, "Formula")
        expect(page.get_by_test_id("stPopoverBody").locator(".katex-display").first).to_be_visible()
        assert page.locator(".katex-error").count() == 0
        assert page.locator(".katex-display").evaluate_all(
            "(formulas) => formulas.every((formula) => formula.scrollWidth <= formula.clientWidth)"
        )
        screenshot(page.get_by_test_id("stPopoverBody"), f"formula-{viewport[0]}-{name}")
        page.keyboard.press("Escape")
        expect(page.get_by_test_id("stPopoverBody")).to_have_count(0)


def test_the_address_holds_the_view(page):
    opened(page)
    step_slider(page, "Block", -2)
    arrived(page, "13.mlp.gate_proj")
    with redraw(page):
        drag_slider(page, TARGET, 55)
    rows_field(page).fill("7, 9-11")
    with redraw(page):
        page.keyboard.press("Enter")
    before = figures(page)
    assert "target=55" in page.url
    assert "block=13" in page.url
    opened(page, page.url, "13.mlp.gate_proj")
    assert figures(page) == before
    assert rows_field(page).input_value() == "7, 9-11"


def test_the_optimum_alongside_trim(page, tmp_path: Path):
    opened(page, f"/?{ITS_ADDRESS}&gap=true")
    quality = [page.get_by_test_id("stMetricValue").nth(place).inner_text() for place in range(3)]
    assert float(quality[2]) > float(quality[1]) > float(quality[0])
    assert {each["name"] for each in traces(page, "row_sparsity")} == {"Uniform", "TRIM"}
    before = traces(page, "gap_curve")
    with redraw(page):
        page.get_by_role("radio", name="Both", exact=True).click()
    settled(page)
    assert "shown=Both" in page.url
    assert sum(trace(page, "row_sparsity", "Optimal")["y"]) == ROWS
    assert traces(page, "gap_curve") == before
    # A click on the row that is pruned too much by most selects it, and all charts mark it.
    over = trace(page, "gap_rows", "TRIM prunes too much")
    row = int(over["customdata"][np.argmax(over["y"])])
    with redraw(page):
        click_row(page, "gap_rows", "TRIM prunes too much", row)
    settled(page)
    assert rows_field(page).input_value() == str(row)
    assert trace(page, "row_sparsity", "selected rows under Optimal")["customdata"] == [row]
    with redraw(page):
        drag_slider(page, TARGET, 60)
    assert traces(page, "gap_curve") == before, "it shows every target"
    assert overflow(page) == []
    assert cut_labels(page) == []
    screenshot(page, "layer-gap")
    with download(page, "gap_rows", "CSV", tmp_path).open(encoding="utf-8") as file:
        table = {name: np.array(values, dtype=float) for name, *values in zip(*csv.reader(file), strict=True)}
    np.testing.assert_allclose(
        table["excess"], table["trim_row_sparsity"] - table["optimal_row_sparsity"], atol=1e-9
    )
