"""The Runs page in a browser: find a run, name it, take it along, bring it back, delete it."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

import trim
from tests.app.small_runs import make_run
from tests.browser.harness import AppServer, both_widths, settled
from tests.browser.layer_page import opened

pytestmark = pytest.mark.browser
NAME = "Browser <b>run</b> & *stars*"


@pytest.fixture
def runs(app: AppServer) -> Path:
    """The folder of the app's runs, with one to play with."""
    folder = app.log.parent / "runs"
    if not (folder / "for-the-browser").exists():
        make_run(folder / "for-the-browser", name=NAME, note="a note")
    return folder


def shows(page: Page, heading: str) -> None:
    """Wait until that run is on the page."""
    expect(page.get_by_role("heading", name=heading, exact=True)).to_be_visible(timeout=60_000)


def choose(page: Page, label: str, option: str) -> None:
    """Choose from the list of that label."""
    page.get_by_role("combobox", name=label, exact=True).click()
    page.get_by_role("option", name=option).first.click()
    settled(page)


def saved(page: Page, folder: Path) -> Path:
    """Make the file that is chosen, and save it."""
    page.get_by_role("button", name="Make the file").click()
    save: Locator = page.get_by_role("button", name="Save for-the-browser")
    expect(save).to_be_visible(timeout=60_000)
    with page.expect_download() as promise:
        save.click()
    path = folder / promise.value.suggested_filename
    promise.value.save_as(path)
    return path


def test_find_name_take_along_bring_back_and_delete(page, runs, tmp_path, browser):
    opened(page, "/runs?search=browser", NAME)
    assert "run=for-the-browser" in page.url

    page.get_by_role("textbox", name="Name", exact=True).fill("Named in the browser")
    page.get_by_role("button", name="Save name and note").click()
    shows(page, "Named in the browser")
    assert trim.open_run(runs / "for-the-browser").name == "Named in the browser"

    report = saved(page, tmp_path)
    opens_without_network(report, browser)

    choose(page, "Export", "The run as a zip, complete")
    zipped = saved(page, tmp_path)
    page.get_by_role("button", name="Import a run").click()
    settled(page)  # a file given while the page still runs would be lost
    page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(zipped)
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_text("Imported as")).to_be_visible(timeout=30_000)
    settled(page)
    (copy,) = [path.name for path in runs.iterdir() if path.name.startswith("for-the-browser-")]
    assert f"run={copy}" in page.url

    page.get_by_role("button", name="Delete", exact=True).click()
    page.get_by_role("button", name="Delete it").click()
    expect(page.get_by_text("was deleted")).to_be_visible(timeout=30_000)
    settled(page)
    assert not (runs / copy).exists()
    assert (runs / "for-the-browser").exists()


def opens_without_network(report: Path, browser: Browser) -> None:
    """The file alone, in a browser that is offline: every chart is drawn, nothing is requested, nothing goes wrong."""
    context = browser.new_context(offline=True)
    page = context.new_page()
    faults, asked = [], []
    page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    expect(page.get_by_role("heading", name="Named in the browser", exact=True)).to_be_visible()
    expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible(timeout=30_000)
    charts = page.locator(".js-plotly-plot")
    assert charts.count() == page.locator("figure").count() >= 10
    assert charts.evaluate_all("all => all.every(each => each.querySelector('.main-svg'))")
    assert asked == [report.as_uri()]
    assert not faults
    context.close()


@pytest.mark.parametrize("colour_scheme", ["dark"])
def test_a_shipped_run_at_first_sight_and_ways_on_from_it(page, colour_scheme):
    opened(page, "/runs?run=demo-trim-70", "Demo model, TRIM at 70%")
    expect(page.get_by_text("It came with the app and stays as it is")).to_be_visible()
    expect(page.get_by_test_id("stDataFrame").first).to_be_visible()
    expect(page.get_by_role("button", name="Delete", exact=True)).to_have_count(0)
    for size in both_widths(page):
        wider = page.evaluate("document.querySelector('[data-testid=stMain]').scrollWidth")
        assert wider <= size[0]
    link = page.get_by_role("link", name="Open this layer")
    assert "stored?run=demo-trim-70&layer=15.self_attn.q_proj" in link.get_attribute("href")
    page.get_by_role("button", name="Add to compare").click()
    compare = page.get_by_role("link", name="Compare it").get_attribute("href")
    assert "compare?a=demo-trim-70%2F15.self_attn.q_proj" in compare
    page.get_by_role("link", name="Open its maps").click()
    expect(page).to_have_url(re.compile(r"/model\?.*run=demo-trim-70"))
    shows(page, "How does a whole model take to pruning?")
