"""The loading time of every page but the first in a real browser, with the shipped runs.

    python -m benchmarks.pages

A visit is a new browser context (nothing in its cache) on a server that has shown the pages once before. "heading" is
the time to the page's title, "chart" to its first chart, "whole" to the end of the last run of its script with every
chart drawn; then the bytes that its connection received. The bounds: some tenths of a second of the script; loading and
drawing by Plotly take the rest. For Learn's own pictures see benchmarks/slides.py.

Needs chromium or google-chrome on PATH, and an idle machine, as everything shares the cores.
"""

import statistics
import time

from playwright.sync_api import Browser

from benchmarks.browser import VIEWPORT, open_app
from benchmarks.script import print_report, script_parser
from tests.browser.harness import AppServer, count_runs, settled

PAGES = (
    "model",
    "runs",
    "compare",
    "learn",
    "paper",
    "stored?run=demo-trim-70&layer=15.mlp.gate_proj",
)
CHART = ".js-plotly-plot .main-svg, .player > svg, .trim-chart svg.chart"


def visit(browser: Browser, server: AppServer, path: str) -> dict[str, float]:
    """Visit a page for the first time."""
    context = browser.new_context(viewport=VIEWPORT, base_url=server.url)
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
    """Run the benchmark."""
    parser = script_parser(__doc__)
    parser.add_argument("--visits", type=int, default=5, help="of each page")
    arguments = parser.parse_args()
    report: dict[str, object] = {}
    with open_app() as (server, page):
        browser = page.context.browser
        for path in PAGES:
            visit(browser, server, path)
        for path in PAGES:
            seen = [visit(browser, server, path) for _ in range(arguments.visits)]
            name = path.partition("?")[0]
            report[name] = {key: statistics.median(each[key] for each in seen) for key in seen[0]}
            print(name, {key: round(value, 2) for key, value in report[name].items()})
    print_report("pages", visits=arguments.visits, **report)


if __name__ == "__main__":
    main()
