"""The Compare page in a real browser, on the runs that come with the app."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.harness import redraw, screenshot, settled
from tests.browser.layer_page import box_over_bars, card, rows_field, traces
from tests.browser.page_checks import cut_labels, kept_out, overflow

pytestmark = pytest.mark.browser

CARDS = ("compare_rows", "compare_pair", "compare_gini", "compare_curves")


def opened(page: Page, address: str = "/compare") -> Page:
    page.goto(address)
    expect(page.get_by_role("heading", name="How do allocations differ?")).to_be_visible(timeout=60_000)
    settled(page)
    return page


@pytest.mark.parametrize(("viewport", "colour_scheme"), [((1440, 900), "light"), ((420, 900), "dark")])
def test_the_first_look_is_drawn_whole(page, viewport, colour_scheme):
    opened(page)
    for name in CARDS:
        expect(card(page, name).locator(".main-svg").first).to_be_visible()
    assert [each for each in overflow(page) if not each.startswith(("TABLE", "T"))] == []
    assert cut_labels(page) == []
    assert kept_out(page) == []
    screenshot(page, f"compare-{viewport[0]}-{colour_scheme}")
    if colour_scheme == "light":
        rows_boxed_in_a_histogram_are_marked_in_the_scatter(page)


def rows_boxed_in_a_histogram_are_marked_in_the_scatter(page: Page) -> None:
    card(page, "compare_rows").get_by_role("radio", name="Histogram").click()
    settled(page)
    bars = traces(page, "compare_rows")[0]
    first = next(place for place, count in enumerate(bars["y"]) if count)
    with redraw(page):
        box_over_bars(page, "compare_rows", first, first + 2)  # a narrower drag is a click
    settled(page)
    rows = rows_field(page).input_value()
    assert rows
    marked = next(each for each in traces(page, "compare_pair") if each["name"] == "selected rows")
    assert len(marked["customdata"]) >= sum(bars["y"][first : first + 3])
    expect(page.get_by_text("Selected rows", exact=True).last).to_be_visible()


def test_another_layer_goes_into_the_address(page):
    opened(page, "/compare?a=demo-trim-70/15.mlp.gate_proj&b=demo-trim-70/3.self_attn.k_proj")
    expect(page.get_by_text("compared by distribution only")).to_be_visible()
    assert len(traces(page, "compare_rows")) == 2
    screenshot(page, "compare-widths")
