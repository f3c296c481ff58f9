"""The Layer page in the browser: open it, read its charts, select in them, download from them."""

from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from tests.browser.harness import settled

TARGET = "Layer sparsity target"
FOUR_CHARTS = ("gini", "cosine", "row_sparsity", "rate")
PARTS = {"Gini": "gini", "Cosine": "cosine", "Sparsity": "row_sparsity", "Search": "rate"}
FIRST_VISIT_SECONDS = 240  # on a machine whose cache is empty the demo model is made first

# What a Plotly chart shows, with arrays as the browser decoded them.
_TRACES = """(chart) => chart._fullData.map((trace) => Object.fromEntries(
    ['name', 'type', 'x', 'y', 'customdata'].map((key) => {
        const value = trace[key];
        return [key, typeof value === 'object' && value ? Array.from(value) : value ?? null];
    })))"""

# Where a point of a Plotly chart is, in pixels of the window; without y at half height.
_POINT = """(chart, [x, y]) => {
    const {xaxis, yaxis} = chart._fullLayout, frame = chart.getBoundingClientRect();
    const down = y === null ? yaxis._length / 2 : yaxis.d2p(y);
    return [frame.left + xaxis._offset + xaxis.d2p(x), frame.top + yaxis._offset + down];
}"""


LAYER = "15.mlp.gate_proj"
ITS_ADDRESS = "block=15&layer=mlp.gate_proj"


def opened(page: Page, address: str = f"/?{ITS_ADDRESS}", heading: str = LAYER) -> Page:
    """Open a page and wait for its heading and its charts."""
    page.goto(address)
    return arrived(page, heading)


def arrived(page: Page, heading: str) -> Page:
    """Wait until the page has that heading and all of its charts; its job may have to end first."""
    expect(page.get_by_role("heading", name=heading)).to_be_visible(timeout=1000 * FIRST_VISIT_SECONDS)
    settled(page)
    return page


def rows_field(page: Page) -> Locator:
    """Return the box in which rows are typed."""
    return page.get_by_role("textbox", name="Selected rows")


def card(page: Page, name: str) -> Locator:
    """Return the framed view of that name."""
    return page.locator(f".st-key-card-{name}")


def traces(page: Page, name: str) -> list[dict]:
    """Return what the chart of that card shows: name, type, x, y and customdata of every trace."""
    return card(page, name).locator(".js-plotly-plot").evaluate(_TRACES)


def trace(page: Page, name: str, label: str) -> dict:
    """Return one trace of a card's chart."""
    return next(each for each in traces(page, name) if each["name"] == label)


def chart(page: Page, name: str) -> Locator:
    """Return one of the four linked charts."""
    return page.locator(f".trim-chart[data-chart={name}]")


def panels(page: Page) -> dict[str, dict]:
    """Return what the four linked charts show."""
    shown = page.locator(".trim-linked").evaluate("(root) => root.linked.content.panels")
    return {panel["name"]: panel for panel in shown}


def steps(page: Page, name: str, style: str) -> dict:
    """Return the histogram of that style in a linked chart."""
    marks = panels(page)[name]["marks"]
    return next(
        each for each in marks if each["kind"] == "steps" and each["style"] == style and not each["pinned"]
    )


def selected(page: Page) -> list[int]:
    """Return the rows that are selected."""
    return page.locator(".trim-linked").evaluate("(root) => root.linked.content.selected")


def place(page: Page, name: str, x: float, y: float) -> tuple[float, float]:
    """Return where a point of a linked chart is, in pixels of the window."""
    return page.locator(".trim-linked").evaluate(
        """(root, [name, x, y]) => {
            const chart = root.linked.charts.get(name);
            const frame = chart.plot.getBoundingClientRect();
            return [frame.left + chart.x(x), frame.top + chart.y(y)];
        }""",
        [name, x, y],
    )


def middle(bars: dict, bin: int) -> float:
    """Return the middle of a bar."""
    return (bars["x"][bin] + bars["x"][bin + 1]) / 2


def box(page: Page, name: str, x: tuple[float, float], y: tuple[float, float]) -> None:
    """Draw a box with the mouse, from corner to corner in the units of the axes."""
    page.mouse.move(*place(page, name, x[0], y[0]))
    page.mouse.down()
    page.mouse.move(*place(page, name, sum(x) / 2, sum(y) / 2), steps=3)
    page.mouse.move(*place(page, name, x[1], y[1]), steps=3)
    page.mouse.up()


def lit(page: Page) -> dict[str, tuple[int, str]]:
    """Return how many marks are lit in each of the linked charts, and what each reads out."""
    return page.locator(".trim-linked").evaluate(
        """(root) => Object.fromEntries([...root.linked.charts].map(([name, chart]) =>
            [name, [chart.glow.childElementCount, chart.finding.textContent]]))"""
    )


def part(page: Page, name: str) -> None:
    """Open a part of the page."""
    page.locator(".st-key-part").get_by_role("radio", name=name, exact=True).click()
    settled(page)


def point(page: Page, name: str, x: float, y: float | None = None) -> tuple[float, float]:
    """Return where a point of a card's chart is, in pixels of the window; without y at half height."""
    plot = card(page, name).locator(".js-plotly-plot")
    plot.scroll_into_view_if_needed()
    return plot.evaluate(_POINT, [x, y])


def box_over_bars(page: Page, name: str, first: int, last: int) -> None:
    """Draw a box with the mouse over the bars `first` to `last` of a card's histogram."""
    bars = traces(page, name)[0]["x"]
    half = 0.45 * (bars[1] - bars[0])
    left, top = point(page, name, bars[first] - half)
    right, _ = point(page, name, bars[last] + half)
    page.mouse.move(left, top)
    page.mouse.down()
    page.mouse.move((left + right) / 2, top + 2, steps=4)
    page.mouse.move(right, top + 5, steps=4)
    page.mouse.up()


def click_row(page: Page, name: str, label: str, row: int) -> None:
    """Click the mark of a row in a card's scatter."""
    chart = card(page, name).locator(".js-plotly-plot")
    chart.hover()  # which waits until it stands still
    marks = trace(page, name, label)
    place = marks["customdata"].index(row)
    x, y = point(page, name, marks["x"][place], marks["y"][place])
    page.mouse.move(x - 2, y)
    page.mouse.move(x, y, steps=3)
    expect(chart.locator(".hoverlayer").get_by_text(f"row {row}").first).to_be_attached()
    page.mouse.click(x, y)


def menu(page: Page, name: str, label: str) -> Locator:
    """Open a menu of a card."""
    card(page, name).get_by_role("button", name=label).click()
    body = page.get_by_test_id("stPopoverBody")
    expect(body).to_be_visible()
    return body


def views(page: Page, name: str) -> Locator:
    """Return the views of a card."""
    return card(page, name).get_by_test_id("stButtonGroup").get_by_role("radio")


def download(page: Page, name: str, label: str, folder: Path) -> Path:
    """Download a file of a card from the studio."""
    card(page, name).get_by_role("button", name="Save").click()
    studio = page.get_by_role("dialog")
    with page.expect_download() as promise:
        studio.get_by_role("button", name=label).click()
    path = folder / promise.value.suggested_filename
    promise.value.save_as(path)
    studio.get_by_role("button", name="Close").click()
    expect(studio).to_have_count(0)
    settled(page)  # the page runs once more, and meanwhile Streamlit would close a studio that opens
    return path
