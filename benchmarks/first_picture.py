"""Time from `streamlit run` to the four charts of the first page in a browser, with an empty cache.

    python -m benchmarks.first_picture

The environment is complete (`make setup`); the browser runs, but its cache holds nothing of the app. The app alternates
with a page of four empty charts, which shows the time of Streamlit, Plotly and the browser alone: the lower bound for
a page of this kind here.

Needs chromium or google-chrome on PATH, and an idle machine, as everything shares the cores.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path

import psutil
from playwright.sync_api import Browser

from benchmarks.browser import VIEWPORT, open_browser
from benchmarks.script import print_report, script_parser
from tests.browser.harness import running_app

EMPTY_PAGE = """
import plotly.graph_objects as go
import streamlit as st
for place in range(4):
    st.plotly_chart(go.Figure(go.Bar(y=[1, 2])), key=f"chart{place}")
"""
# The app's four linked charts, which do not use Plotly; the empty page has Plotly's charts.
_DRAWN = """(selector) => document.querySelectorAll(selector).length >= 4"""
CARDS = ".trim-chart svg.chart > g"
CHARTS = ".js-plotly-plot .main-svg:first-child"


def times_to_charts(browser: Browser, script: str, selector: str) -> tuple[float, float]:
    """Start a server and open its page; return the seconds until four charts are drawn, and the server's CPU time."""
    with tempfile.TemporaryDirectory() as folder:
        page = browser.new_page(viewport=VIEWPORT)
        begun = time.perf_counter()
        with running_app(Path(folder), script, {"TRIM_CACHE": f"{folder}/cache"}) as server:
            page.goto(server.url, wait_until="commit")
            page.wait_for_function(_DRAWN, arg=selector, timeout=300_000)
            seconds = time.perf_counter() - begun
            used = psutil.Process(server.process.pid).cpu_times()
            page.close()
        return seconds, used.user + used.system


def main() -> None:
    """Run the command."""
    parser = script_parser(__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="of each page, in turn")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    app, empty = [], []
    with tempfile.TemporaryDirectory() as folder, open_browser() as browser:
        script = Path(folder) / "empty.py"
        script.write_text(EMPTY_PAGE)
        for _ in range(arguments.repeats):
            app.append(times_to_charts(browser, "app/server.py", CARDS))
            empty.append(times_to_charts(browser, str(script), CHARTS))
    report: dict[str, object] = {"repeats": arguments.repeats, "load_average_before": load}
    for name, times in (("app", app), ("empty_page", empty)):
        seconds, processor = zip(*times, strict=True)
        report |= {
            f"{name}_median_seconds": statistics.median(seconds),
            f"{name}_server_processor_seconds": statistics.median(processor),
            f"{name}_seconds": seconds,
        }
    for name in ("app_median_seconds", "empty_page_median_seconds"):
        print(f"{name:28} {report[name]:10.3f} s")
    print_report("first_picture", **report)


if __name__ == "__main__":
    main()
