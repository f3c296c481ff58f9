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
    NARROW,
    WIDE,
    AppServer,
    both_widths,
    drag_slider,
    redraw,
    resize,
    screenshot,
    settled,
    slider,
    step_slider,
)
from tests.browser.layer_page import (
    FOUR_CHARTS,
    ITS_ADDRESS,
    PARTS,
    TARGET,
    arrived,
    box,
    card,
    chart,
    click_row,
    download,
    lit,
    menu,
    middle,
    opened,
    panels,
    part,
    place,
    point,
    rows_field,
    selected,
    steps,
    trace,
    traces,
    views,
)
from tests.browser.page_checks import cut_labels, kept_out, overflow, words

pytestmark = pytest.mark.browser

ROWS, COLUMNS = 1536, 576


def changed(before: dict[str, dict], after: dict[str, dict]) -> set[str]:
    return {name for name in FOUR_CHARTS if before[name] != after[name]}


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


def nothing_is_cut_and_the_colours_are_right(page: Page, colour_scheme: str) -> None:
    assert overflow(page) == []
    assert cut_labels(page) == []
    background = page.get_by_test_id("stApp").evaluate("(node) => getComputedStyle(node).backgroundColor")
    bright = sum(map(int, re.findall(r"\d+", background)[:3])) > 3 * 127
    assert bright == (colour_scheme == "light")


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
