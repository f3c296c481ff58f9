"""Every page but the first in a real browser, from the runs that come with the app: how long until it is there.

    python -m benchmarks.pages

A visit is a new browser context (nothing in its cache) on a server that has shown the pages once before. "heading" is
the time to the page's title, "chart" to its first chart, "whole" to the end of the last run of its script with every
chart drawn; then the bytes that its connection received. What bounds them: the script some tenths of a second, loading
and drawing by Plotly the rest. Learn's own pictures: benchmarks/slides.py.

Needs chromium or google-chrome on PATH, and nothing else running: everything shares the cores.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.browser.conftest import FLAGS, WIDE
from tests.browser.harness import (
    AppServer,
    count_runs,
    find_browser,
    running_app,
    settled,
)

PAGES = (
    "model",
    "runs",
    "compare",
    "learn",
    "paper",
    "stored?run=demo-trim-70&layer=15.mlp.gate_proj",
)
CHART = ".js-plotly-plot .main-svg, .player > svg"


def visit(browser: Browser, server: AppServer, path: str) -> dict[str, float]:
    """One first look at a page."""
    context = browser.new_context(viewport={"width": WIDE[0], "height": WIDE[1]}, base_url=server.url)
    page = context.new_page()
    count_runs(page)
    received = [0]
    page.on("websocket", lambda socket: socket.on("framereceived", lambda data: received.append(len(data))))
    begin = time.perf_counter()
    page.goto(f"/{path}")
    page.locator("h1").first.wait_for(timeout=60_000)
    seen = {"heading_seconds": time.perf_counter() - begin}
    if path != "runs":
        page.locator(CHART).first.wait_for(timeout=60_000)
        seen["chart_seconds"] = time.perf_counter() - begin
    settled(page)
    seen["whole_seconds"] = time.perf_counter() - begin
    seen["received_bytes"] = sum(received)
    context.close()
    return seen


def main() -> None:
    """Visit, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--visits", type=int, default=5, help="of each page")
    arguments = parser.parse_args()
    browser_path = find_browser()
    if browser_path is None:
        raise SystemExit("no chromium or google-chrome on PATH")
    report: dict[str, object] = {"benchmark": "pages", "visits": arguments.visits}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=FLAGS)
        with running_app(Path(folder)) as server:
            for path in PAGES:
                visit(browser, server, path)
            for path in PAGES:
                seen = [visit(browser, server, path) for _ in range(arguments.visits)]
                name = path.partition("?")[0]
                report[name] = {key: statistics.median(each[key] for each in seen) for key in seen[0]}
                print(name, {key: round(value, 2) for key, value in report[name].items()})
        browser.close()
    print(json.dumps(report | {"cores": os.cpu_count(), "load_average": os.getloadavg()[0]}))


if __name__ == "__main__":
    main()
