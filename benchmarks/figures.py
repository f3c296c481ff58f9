"""Replay two ways to a figure in a real browser, and count clicks, drags and key presses.

    python -m benchmarks.figures --folder OUT

From the bare address to one layer's row sparsities at 60, 70 and 80%, by TRIM and under the optimum, on Compare;
from there to a PDF for a paper, and to the code that draws it. The scripts of the zip run in a folder of their own
(matplotlib's only if it is installed). `OUT` keeps the pictures, the PDF and the scripts' drawings for inspection:
pdftoppm -r 300 -png figure.pdf figure.

Needs chromium or google-chrome on PATH, and an idle machine, as everything shares the cores.
"""

import importlib.util
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import Page, expect

from benchmarks.browser import VIEWPORT, open_browser
from benchmarks.script import print_report, script_parser
from tests.browser.harness import count_runs, drag_slider, redraw, running_app, settled

TARGET = "Layer sparsity"


class Reader:
    """Acts like a reader, and counts the actions."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.done = 0

    def __call__(self, act: Callable[[], object]) -> None:
        self.done += 1
        act()
        self.page.wait_for_timeout(300)
        settled(self.page)


def compare(reader: Reader) -> None:
    """Go from the first page to the Compare page."""
    page = reader.page
    add = page.get_by_role("button", name="Add to compare")
    expect(add).to_be_visible(timeout=240_000)
    settled(page)
    reader(add.click)
    for percent in (60, 80):
        with redraw(page):
            reader(lambda percent=percent: drag_slider(page, TARGET, percent))
        if percent == 80:
            reader(page.get_by_role("radio", name="Both").click)
        reader(add.click)
    reader(page.get_by_role("link", name="Compare").last.click)
    expect(page.get_by_role("heading", name="How do layers differ?")).to_be_visible()
    settled(page)


def save(reader: Reader, kind: str, folder: Path) -> Path:
    """Save a chart as a file; the studio stays open."""
    page = reader.page
    studio = page.get_by_role("dialog")
    if not studio.count():
        reader(page.locator("[class*=st-key-compare_][class*=_save] button").first.click)
    with page.expect_download(timeout=120_000) as promise:
        reader(studio.get_by_role("button", name=kind).click)
    path = folder / promise.value.suggested_filename
    promise.value.save_as(path)
    return path


def made_again(packed: Path, folder: Path) -> list[str]:
    """Run the scripts of a zip in an empty folder; return the pictures that they made."""
    with zipfile.ZipFile(packed) as content:
        content.extractall(folder)
    scripts = ["figure_plotly"]
    if importlib.util.find_spec("matplotlib") is not None:
        scripts.append("figure_matplotlib")
    for script in scripts:
        subprocess.run([sys.executable, f"{script}.py"], cwd=folder, check=True, timeout=300)
    return sorted(each.name for each in folder.glob("*.pdf"))


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where pictures and files go")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    result: dict[str, object] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        running_app(Path(folder)) as server,
        open_browser() as browser,
    ):
        page = browser.new_page(base_url=server.url, viewport=VIEWPORT, accept_downloads=True)
        count_runs(page)
        page.goto("/")
        reader = Reader(page)
        compare(reader)
        page.screenshot(path=asked.folder / "compare.png")
        result["to_compare"], result["slots"] = reader.done, page.locator("[class*=st-key-slot-]").count()
        reader.done, begin = 0, time.perf_counter()
        pdf = save(reader, "PDF", asked.folder)
        result["to_pdf"], result["pdf_seconds"] = reader.done, round(time.perf_counter() - begin, 1)
        result["pdf"] = pdf.name
        page.screenshot(path=asked.folder / "studio.png")
        result["made_again"] = made_again(save(reader, "Code and data", asked.folder), asked.folder / "again")
    print_report("figures", **result)


if __name__ == "__main__":
    main()
