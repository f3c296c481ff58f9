"""The Layer page in the browser: open it, read its charts, select in them, download from them."""

from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from tests.browser.harness import settled

TARGET = "Layer sparsity target"
FOUR_CARDS = ("gini", "cosine", "row_sparsity", "rate")
FIRST_VISIT_SECONDS = 240  # on a machine whose cache is empty the demo model is made first

# What is drawn, with arrays as the browser decoded them; marks such as the target's line have a place each.
_TRACES = """(chart) => chart._fullData.map((trace) => Object.fromEntries(
    ['name', 'type', 'x', 'y', 'customdata'].map((key) => {
        const value = trace[key];
        return [key, typeof value === 'object' && value ? Array.from(value) : value ?? null];
    })))"""
_MARKS = (
    "(chart) => (chart._fullLayout.shapes ?? []).map((shape) => [shape.x0, shape.y0, shape.x1, shape.y1])"
)

# Where a box around some bars begins and ends, in pixels of the window: from side to side, at half height.
_BOX = """(chart, [first, last]) => {
    const {xaxis, yaxis} = chart._fullLayout;
    const bars = chart._fullData[0];
    const frame = chart.getBoundingClientRect();
    const x = (value) => frame.left + xaxis._offset + xaxis.d2p(value);
    const half = (bars.x[1] - bars.x[0]) / 2;
    const middle = frame.top + yaxis._offset + yaxis._length / 2;
    return [x(bars.x[first] - 0.9 * half), middle, x(bars.x[last] + 0.9 * half), middle + 5];
}"""

# Where the mark of a row stands, in pixels of the window.
_MARK = """(chart, [name, row]) => {
    const {xaxis, yaxis} = chart._fullLayout;
    const marks = chart._fullData.find((trace) => trace.name === name);
    const place = Array.from(marks.customdata).indexOf(row);
    const frame = chart.getBoundingClientRect();
    return [frame.left + xaxis._offset + xaxis.d2p(marks.x[place]),
            frame.top + yaxis._offset + yaxis.d2p(marks.y[place])];
}"""


LAYER = "15.mlp.gate_proj"
ITS_ADDRESS = "block=15&layer=mlp.gate_proj"


def opened(page: Page, address: str = f"/?{ITS_ADDRESS}", heading: str = LAYER) -> Page:
    """Open the page and wait for its charts."""
    page.goto(address)
    return arrived(page, heading)


def arrived(page: Page, heading: str) -> Page:
    """Wait until the page shows that layer, with all of its charts; its job may have to end first."""
    expect(page.get_by_role("heading", name=heading)).to_be_visible(timeout=1000 * FIRST_VISIT_SECONDS)
    settled(page)
    return page


def rows_field(page: Page) -> Locator:
    """Where rows are typed."""
    return page.get_by_role("textbox", name="Selected rows")


def card(page: Page, name: str) -> Locator:
    """The framed view of that name."""
    return page.locator(f".st-key-card-{name}")


def traces(page: Page, name: str) -> list[dict]:
    """What the chart of that card shows: name, type, x, y and customdata of every trace."""
    return card(page, name).locator(".js-plotly-plot").evaluate(_TRACES)


def trace(page: Page, name: str, label: str) -> dict:
    """One trace of a card's chart."""
    return next(each for each in traces(page, name) if each["name"] == label)


def figures(page: Page) -> dict[str, list]:
    """What the four charts show."""
    charts = {name: card(page, name).locator(".js-plotly-plot") for name in FOUR_CARDS}
    return {name: [chart.evaluate(_TRACES), chart.evaluate(_MARKS)] for name, chart in charts.items()}


def box_over_bars(page: Page, name: str, first: int, last: int) -> None:
    """Draw a box with the mouse over the bars `first` to `last` of a card's histogram."""
    chart = card(page, name).locator(".js-plotly-plot")
    chart.scroll_into_view_if_needed()
    left, top, right, bottom = chart.evaluate(_BOX, [first, last])
    page.mouse.move(left, top)
    page.mouse.down()
    page.mouse.move((left + right) / 2, (top + bottom) / 2, steps=4)
    page.mouse.move(right, bottom, steps=4)
    page.mouse.up()


def click_row(page: Page, name: str, label: str, row: int) -> None:
    """Click the mark of a row in a card's scatter."""
    chart = card(page, name).locator(".js-plotly-plot")
    chart.hover()  # which waits until it stands still
    x, y = chart.evaluate(_MARK, [label, row])
    page.mouse.move(x - 2, y)
    page.mouse.move(x, y, steps=3)
    expect(chart.locator(".hoverlayer").get_by_text(f"row {row}").first).to_be_attached()
    page.mouse.click(x, y)


def menu(page: Page, name: str, label: str) -> Locator:
    """Open a menu of a card; of the four charts above the fold the one that has everything."""
    card(page, name).get_by_role("button", name="More" if name in FOUR_CARDS else label).click()
    body = page.get_by_test_id("stPopoverBody")
    expect(body).to_be_visible()
    return body


def views(page: Page, name: str) -> Locator:
    """Open the menu in which the views of one of the four cards are chosen; Escape closes it."""
    return menu(page, name, "More").get_by_test_id("stButtonGroup").get_by_role("radio")


def download(page: Page, name: str, label: str, folder: Path) -> Path:
    """Download a file of a card from the studio."""
    if name in FOUR_CARDS:
        menu(page, name, "More").get_by_role("button", name="Save").click()
    else:
        card(page, name).get_by_role("button", name="Save").click()
    studio = page.get_by_role("dialog")
    with page.expect_download() as promise:
        studio.get_by_role("button", name=label).click()
    path = folder / promise.value.suggested_filename
    promise.value.save_as(path)
    studio.get_by_role("button", name="Close").click()
    expect(studio).to_have_count(0)
    return path
