"""The Compare page in a real browser, on the runs that come with the app."""

from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.harness import NARROW, WIDE, redraw, screenshot, settled
from tests.browser.layer_page import box_over_bars, card, opened, rows_field, traces
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


@pytest.mark.parametrize(
    ("viewport", "colour_scheme", "address"),
    [(WIDE, "light", "/compare"), (NARROW, "dark", f"/compare?{EIGHT}")],
)
def test_nothing_of_the_first_look_is_cut(page, viewport, colour_scheme, address):
    opened(page, address, "How do layers differ?")
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
        rows_boxed_in_a_histogram_are_marked_in_the_scatter(page)


def test_a_layer_at_three_targets_and_under_the_optimum_becomes_a_figure(page):
    """The task that new readers were given: six clicks to the comparison, and two more to the figure."""
    actions = 0

    def press(what: Locator) -> None:
        nonlocal actions
        what.click()
        actions += 1
        settled(page)

    page.goto("/")
    expect(page.get_by_role("heading", name="29.self_attn.v_proj")).to_be_visible()
    press(page.get_by_role("button", name="Add to compare"))
    press(page.get_by_role("link", name="Compare it"))
    expect(page.get_by_role("heading", name="How do layers differ?")).to_be_visible()
    expect(page.locator(".st-key-heading").get_by_text("29.self_attn.v_proj")).to_be_visible()
    press(page.get_by_role("button", name="Add", exact=True))
    for method, target in (("trim", 60), ("trim", 80), ("optimal", 70)):
        button = page.locator(f".st-key-compare_add_{method}_{target} button")
        press(button)
        expect(button).to_be_disabled()
    page.mouse.move(5, 5)
    assert kept_out(page) == []
    assert [each["name"] for each in traces(page, "compare_rows") if each["type"] == "scatter"] == [
        "A · TRIM 70%",
        "B · TRIM 60%",
        "C · TRIM 80%",
        "D · Optimal 70%",
    ]
    assert actions == 6
    press(card(page, "compare_rows").get_by_role("button", name="Save"))
    assert kept_out(page) == []
    screenshot(page, "studio")
    with page.expect_download() as promise:
        press(page.get_by_role("dialog").get_by_role("button", name="PDF"))
    assert actions == 6 + 2
    pdf = Path(promise.value.path()).read_bytes()
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
