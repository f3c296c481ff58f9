"""The Layer page in a real browser: charts are drawn, controls move them, a layer is kept. A visit takes seconds, so a
test is a visit and not a single question."""

import csv

import numpy as np
import pytest
from playwright.sync_api import Page, expect

import trim
from tests.browser.harness import (
    WIDE,
    AppServer,
    drag_slider,
    redraw,
    resize,
    screenshot,
    settled,
    step_slider,
)
from tests.browser.layer_page import (
    FOUR_CHARTS,
    ITS_ADDRESS,
    TARGET,
    arrived,
    box,
    card,
    chart,
    click_row,
    download,
    lit,
    middle,
    opened,
    panels,
    place,
    point,
    rows_field,
    selected,
    steps,
    trace,
    traces,
)
from tests.browser.page_checks import (
    cut_labels,
    kept_out,
    nothing_is_cut_and_the_colours_are_right,
    overflow,
    words,
)

pytestmark = pytest.mark.browser


def changed(before: dict[str, dict], after: dict[str, dict]) -> set[str]:
    return {name for name in FOUR_CHARTS if before[name] != after[name]}


def test_first_visit(page, colour_scheme, app, tmp_path):
    opened(page)
    for size in ((1280, 720), WIDE):
        resize(page, size)
        for name in FOUR_CHARTS:
            frame = chart(page, name).bounding_box()
            assert frame["y"] + frame["height"] <= size[1], f"{name} is below the fold at {size}"
            assert frame["width"] > 250
        nothing_is_cut_and_the_colours_are_right(page, colour_scheme)
        screenshot(page, f"layer-{size[0]}-light")
    assert kept_out(page) == []
    assert words(page) < 451 / 2, "half of what there once were"
    what_is_pointed_at_lights_up_everywhere(page)
    a_click_or_a_box_selects(page)
    a_chart_grows(page)
    the_target_moves_the_charts(page)
    a_layer_is_kept(page, app)


def what_is_pointed_at_lights_up_everywhere(page: Page) -> None:
    bars = steps(page, "gini", "score")
    bin = max(range(len(bars["y"])), key=lambda index: bars["y"][index])
    targets = {
        "gini": (middle(bars, bin), bars["y"][bin] / 2),
        "cosine": (0.5, panels(page)["cosine"]["y"]["low"] / 2),
        "rate": (4, 0),
    }
    for name, (x, y) in targets.items():
        page.mouse.move(*place(page, name, x, y))
        marks = lit(page)
        assert all(count > 0 for count, _ in marks.values()), (name, marks)
        assert marks[name][1] != panels(page)[name]["finding"]
    milliseconds = page.locator(".trim-linked").evaluate(
        """(root) => {
            const {plot} = root.linked.charts.get('cosine'), frame = plot.getBoundingClientRect();
            const started = performance.now();
            for (let step = 0; step < 20; step++) plot.dispatchEvent(new PointerEvent('pointermove',
                {clientX: frame.left + 60 + 10 * step, clientY: frame.top + 40, bubbles: true}));
            return (performance.now() - started) / 20;
        }"""
    )
    assert milliseconds < 50
    page.mouse.move(5, 5)
    assert all(count == 0 for count, _ in lit(page).values())


def a_click_or_a_box_selects(page: Page) -> None:
    bars = steps(page, "gini", "score")
    last = max(index for index, count in enumerate(bars["y"]) if count)
    with redraw(page):
        page.mouse.click(*place(page, "gini", middle(bars, last), 0.5))
    assert len(selected(page)) == bars["y"][last]
    first = next(index for index in range(last, 0, -1) if sum(bars["y"][index:]) >= 5)
    with redraw(page):
        box(page, "gini", (middle(bars, first), middle(bars, last)), (1, 3))
    rows = selected(page)
    assert len(rows) == sum(bars["y"][first:])
    assert f"rows={rows[0]}" in page.url
    with redraw(page):
        page.keyboard.press("Escape")  # the chart has the focus
    assert selected(page) == []
    with redraw(page):  # by keys: the first row of the cosines, and the tenth after it
        chart(page, "cosine").locator(".plot").focus()
        for key in ("ArrowDown", "PageDown", "Enter"):
            page.keyboard.press(key)
    assert selected(page) == [10]
    with redraw(page):
        page.keyboard.press("Escape")


def a_chart_grows(page: Page) -> None:
    chart(page, "rate").get_by_role("button", name="Enlarge").click()
    grown = chart(page, "rate").bounding_box()
    assert grown["width"] > 1300
    assert grown["height"] > 800
    screenshot(page, "layer-grown")
    page.keyboard.press("Escape")
    assert chart(page, "rate").bounding_box()["width"] < 800


def the_target_moves_the_charts(page: Page) -> None:
    before, numbers = panels(page), page.locator(".trim-numbers")
    shown = numbers.inner_text()
    with redraw(page) as change:
        assert drag_slider(page, TARGET, 60) == 60
    assert change.charts == 3
    assert changed(before, panels(page)) == {"cosine", "row_sparsity", "rate"}
    expect(numbers).to_contain_text("60.00%")
    assert numbers.inner_text() != shown

    # Every press of an arrow key asks for a run; the last one counts.
    step_slider(page, TARGET, 10)
    expect(numbers).to_contain_text("70.00%")
    settled(page)
    assert panels(page) == before


def a_layer_is_kept(page: Page, app: AppServer) -> None:
    page.get_by_role("button", name="Keep", exact=True).click()
    page.get_by_label("Name", exact=True).fill("<b>my</b> run")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Keep as a run").click()
    expect(page.get_by_text("Kept in")).to_be_visible()
    kept = page.get_by_role("link", name="Open what was kept")
    expect(kept).to_be_visible()
    screenshot(page, "layer-kept")
    (folder,) = (app.log.parent / "runs").iterdir()
    assert trim.open_run(folder).name == "<b>my</b> run"
    kept.press("Enter")
    expect(page.get_by_text("The layer as the run")).to_be_visible()


def test_the_address_holds_the_view(page):
    opened(page)
    step_slider(page, "Block", -2)
    arrived(page, "13.mlp.gate_proj")
    with redraw(page):
        drag_slider(page, TARGET, 55)
    page.get_by_role("button", name="Select rows").click()
    rows_field(page).fill("7, 9-11")
    with redraw(page):
        page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    with redraw(page):
        chart(page, "cosine").get_by_role("button", name="linear axis").click()
    before = panels(page)
    assert "target=55" in page.url
    assert "block=13" in page.url
    opened(page, page.url, "13.mlp.gate_proj")
    assert panels(page) == before
    assert selected(page) == [7, 9, 10, 11]
    chart(page, "rate").get_by_role("button", name="More about").click()
    expect(card(page, "rate").locator(".main-svg").first).to_be_visible()
    assert "part=Search" in page.url


def test_the_optimum_alongside_trim(page, tmp_path):
    opened(page, f"/?{ITS_ADDRESS}&part=Gap")
    quality = [float(value) for value in page.locator(".trim-numbers b").all_inner_texts()[:3]]
    assert quality[2] > quality[1] > quality[0]
    before = traces(page, "gap_curve")
    # A click on the row that is pruned too much by most selects it.
    over = trace(page, "gap_rows", "too much")
    row = int(over["customdata"][np.argmax(over["y"])])
    with redraw(page):
        click_row(page, "gap_rows", "too much", row)
    settled(page)
    assert f"rows={row}" in page.url
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


def test_a_layer_where_trim_helps_and_why_in_few_actions(page):
    """The task that new readers were given, from the bare address: at most six clicks, drags and keys."""
    actions = 0
    page.goto("/")
    expect(page.get_by_role("heading", name="29.self_attn.v_proj")).to_be_visible()
    expect(chart(page, "rate").locator("svg.chart")).to_be_visible()
    page.get_by_text("Why it helps").click()
    actions += 1
    expect(page.get_by_text("It, too, prunes rows of higher cosine harder")).to_be_visible()
    expect(page.get_by_text("Live: computed")).to_be_visible()
    expect(page.get_by_text("It, too, prunes rows of higher cosine harder")).to_be_visible()  # it stays open
    # Another one, of the map: what gained most in the stored run.
    page.locator(".trim-bar").get_by_role("button", name="All layers").click()
    actions += 1
    expect(card(page, "layer_map").locator(".main-svg").first).to_be_visible()
    marks = trace(page, "layer_map", "layers")
    index = marks["customdata"].index("25.self_attn.v_proj")
    page.mouse.click(*point(page, "layer_map", marks["x"][index], marks["y"][index]))
    actions += 1
    arrived(page, "25.self_attn.v_proj")
    expect(chart(page, "rate").locator("svg.chart")).to_be_visible()  # its overview, not the map again
    assert "part=" not in page.url
    assert panels(page)["rate"]["finding"].startswith("η = +0.02 wins")
    assert actions <= 6
    # And side by side with the first: pinned, it stays while another target is chosen.
    page.get_by_role("button", name="Pin").click()
    page.get_by_role("button", name="Pin this view").click()
    expect(page.locator(".trim-numbers")).to_contain_text("pinned")
    page.keyboard.press("Escape")
    with redraw(page):
        drag_slider(page, TARGET, 50)
    assert all(any(mark["pinned"] for mark in panel["marks"]) for panel in panels(page).values())
    assert "pin=target" in page.url
    screenshot(page, "layer-pinned")
