"""The Model page in a real browser: maps at first sight, a click opens a layer; a tiny run is started, watched,
cancelled and resumed."""

import contextlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from playwright.sync_api import Page, expect

import trim
from app.services.jobs.manager import RunJobs
from tests.browser.harness import AppServer, both_widths, screenshot, settled
from tests.browser.layer_page import card, chart, point
from tests.browser.page_checks import cut_labels, overflow
from tests.trim import rough
from tests.waiting import wait_until
from trim.runs.json_files import settings_fingerprint

pytestmark = pytest.mark.browser

MAPS = ("map_gini", "map_outcome", "map_gain", "map_variance")
PATIENCE = 90_000  # milliseconds
MAX_BYTES = 3_000_000
BLOCKS = 8


def opened(page: Page, address: str = "/model") -> Page:
    page.goto(address)
    for name in MAPS:
        expect(card(page, name)).to_be_visible(timeout=PATIENCE)
    settled(page)
    return page


def nothing_is_cut_wide_or_narrow(page: Page, name: str) -> None:
    for size in both_widths(page):
        assert overflow(page) == []
        assert cut_labels(page) == []
        screenshot(page, f"{name}-{size[0]}")


@pytest.mark.parametrize("colour_scheme", ["dark"])
def test_the_run_that_came_with_the_app(page, colour_scheme):
    received = []
    page.once("websocket", lambda socket: socket.on("framereceived", lambda data: received.append(len(data))))
    opened(page)
    assert "run=demo-trim-70" in page.url
    assert sum(received) < MAX_BYTES
    nothing_is_cut_wide_or_narrow(page, "model")
    page.mouse.click(*point(page, "map_gini", 10, 4))
    page.wait_for_url("**/stored?run=demo-trim-70&layer=10.mlp.gate_proj")
    expect(page.get_by_role("heading", name="10.mlp.gate_proj")).to_be_visible(timeout=PATIENCE)
    expect(chart(page, "rate").locator("svg.chart")).to_be_visible(timeout=PATIENCE)
    settled(page)
    nothing_is_cut_wide_or_narrow(page, "stored")
    expect(page.get_by_role("link", name="Open this layer live")).to_have_attribute(
        "href", re.compile(r"block=10.*layer=mlp\.gate_proj.*target=70")
    )
    page.go_back()
    expect(card(page, "map_gini").locator(".main-svg").first).to_be_visible(timeout=PATIENCE)
    settled(page)
    assert "run=demo-trim-70" in page.url
    # The system becomes light meanwhile: the charts do, too. An open figure stays open before they follow. For a moment
    # no chart is there.
    ink = "([...document.querySelectorAll('.js-plotly-plot')].pop()?._fullLayout?.font.color)"
    dark = page.evaluate(ink)
    page.emulate_media(color_scheme="light")
    page.wait_for_function(f"{ink} && {ink} !== '{dark}'", timeout=PATIENCE)
    settled(page)
    card(page, "map_gini").get_by_role("button", name="Save").click()
    studio = page.get_by_role("dialog")
    expect(studio).to_be_visible()
    settled(page)
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(1000)
    studio.get_by_role("button", name="Close").click()
    page.wait_for_function(f"{ink} === '{dark}'", timeout=PATIENCE)


def test_a_box_lists_layers_and_the_keyboard_opens_one(page):
    opened(page, "/model?run=demo-optimal-70")
    page.get_by_text("Prune a model").click()
    expect(page.get_by_role("button", name="Start")).to_be_visible()
    page.get_by_text("All options").click()
    expect(page.get_by_role("button", name="Help for Recalculate inputs")).to_be_visible()
    assert overflow(page) == []
    screenshot(page, "model-form")
    page.get_by_text("Prune a model").click()
    expect(page.get_by_role("button", name="Start")).to_have_count(0)
    settled(page)
    card(page, "map_gain").locator(".js-plotly-plot").hover()
    card(page, "map_gain").locator("[data-title='Box Select']").click()
    page.mouse.move(*point(page, "map_gain", 3.5, 1.5))
    page.mouse.down()
    page.mouse.move(*point(page, "map_gain", 5.5, 3.5), steps=4)
    page.mouse.up()
    chosen = page.get_by_role("combobox", name="Open one of the 4 layers in the box")
    expect(chosen).to_be_visible()
    settled(page)
    chosen.focus()
    page.keyboard.type("5.self_attn.v")
    expect(page.get_by_role("option")).to_have_text(["5.self_attn.v_proj"])
    page.keyboard.press("Enter")
    link = page.get_by_role("link", name="Open 5.self_attn.v_proj")
    expect(link).to_be_visible()
    link.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="5.self_attn.v_proj")).to_be_visible(timeout=PATIENCE)


@pytest.fixture
def tiny(app: AppServer, tmp_path: Path) -> Iterator[str]:
    """A run of a tiny model with many blocks, whose settings the form can take; its id."""
    model = rough.make_model("llama", tmp_path / "model", num_hidden_layers=BLOCKS)
    text = rough.write_text(tmp_path / "text.txt", 400)
    runs = app.log.parent / "runs"
    before = set(runs.glob("*"))
    trim.prune(
        model,
        runs / "tiny",
        target=0.6,
        corpus=str(text),
        windows=16,
        length=64,
        layers=("0.*",),
        device="cpu",
    )
    # With all layers: a run that is not over before it can be cancelled.
    config = runs / "tiny" / "config.json"
    content = json.loads(config.read_text())
    content["settings"]["request"]["layers"] = ["*"]
    content["fingerprint"] = settings_fingerprint(content["settings"])
    config.write_text(json.dumps(content))
    yield "tiny"
    for made in set(runs.glob("*")) - before:
        shutil.rmtree(made)


@contextlib.contextmanager
def held(jobs: RunJobs) -> Iterator[str]:
    """The run that has just been started, paused once a block is done until the block ends; its id."""

    def begun() -> bool:
        job = jobs.running()
        progress = job and jobs.state(job.id).progress
        return bool(progress) and (progress.now.fraction or 0) > 0.05

    wait_until(begun)
    job = jobs.running()
    process = psutil.Process(job.pid)
    process.suspend()
    try:
        yield job.id
    finally:
        process.resume()


def test_start_watch_cancel_and_resume(page, app, tiny):
    opened(page, f"/model?from={tiny}")
    expect(page.get_by_test_id("stCode").first).to_contain_text("--target 0.6")
    page.get_by_label("Windows for perplexity").fill("4")
    page.keyboard.press("Enter")
    page.get_by_label("Tokens in each").fill("64")
    page.keyboard.press("Enter")
    page.get_by_label("Name").fill("<b>mine</b>")
    page.keyboard.press("Enter")
    expect(page.get_by_test_id("stCode").first).to_contain_text("--windows 4 --length 64")
    page.get_by_role("button", name="Start").click()
    jobs = RunJobs(lambda: app.log.parent / "runs")
    progress = page.locator(".st-key-run-progress")
    with held(jobs) as run_id:
        expect(progress).to_contain_text(re.compile(r"(Block|Pruning) \d+"), timeout=PATIENCE)
        expect(progress).to_contain_text("of memory")
        expect(progress).to_contain_text("left")
        # The form is folded away; a second run is refused, in one sentence.
        page.get_by_text("Prune a model").click()
        page.get_by_role("button", name="Start").click()
        expect(page.get_by_test_id("stAlert").filter(has_text="one job at a time")).to_be_visible()
        progress.get_by_role("button", name="Cancel").click()
        wait_until(lambda: jobs.record(run_id).cancelled)
    expect(page.get_by_role("button", name="Resume")).to_be_visible(timeout=PATIENCE)
    expect(progress).to_contain_text("It was cancelled")
    settled(page)
    screenshot(page, "model-cancelled")
    page.reload()  # as another tab, or after a restart
    expect(page.get_by_role("button", name="Resume")).to_be_visible(timeout=PATIENCE)
    settled(page)
    page.get_by_role("button", name="Resume").click()
    expect(progress).to_have_count(0, timeout=2 * PATIENCE)
    settled(page)
    page.get_by_role("radio", name="Perplexity", exact=True).click()
    expect(card(page, "perplexity")).to_contain_text("times the dense model's")
    expect(page.get_by_test_id("stMetric").first).to_contain_text("60.00%")
    assert re.findall(r"run=([^&]+)", page.url) == [run_id]
    run = trim.open_run(app.log.parent / "runs" / run_id)
    assert run.complete
    assert run.name == "<b>mine</b>"
    wait_until((app.log.parent / "runs" / ".jobs" / f"{run_id}.end").exists)
