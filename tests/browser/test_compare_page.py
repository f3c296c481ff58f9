"""The Compare page in a real browser, on the runs that come with the app."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.harness import redraw, screenshot, settled
from tests.browser.layer_page import box_over_bars, card, download, rows_field, traces
from tests.browser.page_checks import cut_labels, kept_out, overflow

pytestmark = pytest.mark.browser

CARDS = ("compare_rows", "compare_pair", "compare_curves")
EIGHT = "&".join(
    f"{letter}=demo-{run}/{layer}"
    for letter, (run, layer) in zip(
        "abcdefgh",
        [
            (run, f"{block}.self_attn.q_proj")
            for block in (3, 15)
            for run in ("trim-70", "optimal-70", "trim-80", "optimal-80")
        ],
        strict=True,
    )
)


def opened(page: Page, address: str = "/compare") -> Page:
    page.goto(address)
    expect(page.get_by_role("heading", name="How do layers differ?")).to_be_visible(timeout=60_000)
    settled(page)
    return page


@pytest.mark.parametrize(
    ("viewport", "colour_scheme", "address"),
    [((1440, 900), "light", "/compare"), ((420, 900), "dark", f"/compare?{EIGHT}")],
)
def test_the_first_look_is_drawn_whole(page, viewport, colour_scheme, address, tmp_path):
    opened(page, address)
    if colour_scheme == "light":
        bottom = card(page, "compare_rows").locator(".main-svg").first.bounding_box()
        assert bottom["y"] + bottom["height"] < 720, "the first picture is seen without scrolling"
    page.get_by_text("Whole models: what sparsity costs").click()
    page.wait_for_timeout(500)  # it fades in
    settled(page)
    for name in CARDS if colour_scheme == "light" else ("compare_many", "compare_curves"):
        expect(card(page, name).locator(".main-svg").first).to_be_visible()
    assert [each for each in overflow(page) if not each.startswith(("TABLE", "T"))] == []
    assert cut_labels(page) == []
    assert kept_out(page) == []
    screenshot(page, f"compare-{viewport[0]}-{colour_scheme}")
    if colour_scheme == "light":
        a_figure_for_a_paper(page, tmp_path)
        rows_boxed_in_a_histogram_are_marked_in_the_scatter(page)


def a_figure_for_a_paper(page: Page, tmp_path: Path) -> None:
    card(page, "compare_rows").get_by_role("button", name="Save").click()
    settled(page)
    assert kept_out(page) == []
    screenshot(page, "studio")
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    pdf = download(page, "compare_rows", "PDF", tmp_path).read_bytes()
    assert pdf.startswith(b"%PDF")
    assert b"/MediaBox [0 0 234 " in pdf, "3.25 inches"


def rows_boxed_in_a_histogram_are_marked_in_the_scatter(page: Page) -> None:
    bars = traces(page, "compare_rows")[0]
    first = next(place for place, share in enumerate(bars["y"]) if share)
    with redraw(page):
        box_over_bars(page, "compare_rows", first, first + 2)  # a narrower drag is a click
    settled(page)
    rows = rows_field(page).input_value()
    assert rows
    marked = next(each for each in traces(page, "compare_pair") if each["name"] == "selected rows")
    assert len(marked["customdata"]) >= 1536 * sum(bars["y"][first : first + 3]) - 0.5
    expect(page.get_by_text("Selected rows", exact=True).last).to_be_visible()
