"""The Layer page in a real browser, with the demo model and a warm cache: waiting times and costs.

    python -m benchmarks.page

Times are the browser's own, from the pointer-up or key-down to the frame that shows the last of the charts that it
changes. Another target changes three of the four charts, another layer all four. Then the same slider on a page with
one number shows the time of Streamlit and the browser alone: the lower bound for any page here.

Needs chromium or google-chrome on PATH, and an idle machine, as everything shares the cores.
"""

import random
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from playwright.sync_api import Page, expect
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from app.services.layer.keys import FIRST_TARGET_PERCENT
from benchmarks.browser import VIEWPORT, open_browser
from benchmarks.script import print_report, script_parser
from tests.browser.harness import (
    AppServer,
    count_runs,
    drag_slider,
    redraw,
    running_app,
    settled,
    slider,
    step_slider,
)
from tests.browser.layer_page import ITS_ADDRESS, PARTS, TARGET, arrived, opened, part, views

WARM_UP = 10  # layer changes that fill the bounded caches
EMPTY_PAGE = f"""
import streamlit as st

number = st.components.v2.component(
    "number",
    html="<div></div>",
    js='''export default ({{ data, parentElement }}) => {{
        parentElement.querySelector("div").textContent = data;
        parentElement.dispatchEvent(new CustomEvent("trim-drawn", {{ bubbles: true, detail: ["number"] }}));
    }}''',
    isolate_styles=False,
)

@st.fragment
def part():
    number(key="number", data=st.slider("{TARGET}", 1, 99, {FIRST_TARGET_PERCENT}, format="%d%%"))

part()
"""


def largest_chart(page: Page) -> list[int]:
    """Watch a page, and keep the bytes of the largest message with a chart."""
    largest = [0]

    def received(payload: str | bytes) -> None:
        if isinstance(payload, bytes):
            message = ForwardMsg.FromString(payload)
            if message.delta.new_element.WhichOneof("type") in ("plotly_chart", "bidi_component"):
                largest[0] = max(largest[0], len(payload))

    page.on("websocket", lambda socket: socket.on("framereceived", received))
    return largest


def time_targets(page: Page, releases: int, least: int = 2) -> list[float]:
    """Time from the release of the target slider to the last new chart, at targets in random order.

    At least the learned row sparsities and the target's line change.
    """
    targets = random.Random(0).sample([target for target in range(30, 95) if target != 70], releases)
    seconds = []
    for target in targets:
        with redraw(page) as change:
            drag_slider(page, TARGET, target)
        if change.charts < least:
            raise SystemExit(f"at a target of {target}% only {change.charts} charts changed")
        seconds.append(change.seconds)
    return seconds


def time_layers(page: Page, changes: int) -> list[float]:
    """Time from the key that asks for the next block to the last of its four charts."""
    seconds = []
    block, step = int(slider(page, "Block").input_value()), 1
    for _ in range(changes):
        if not 0 <= block + step <= 29:
            step = -step
        block += step
        heading = f"{block}.mlp.gate_proj"
        with redraw(page, until=lambda heading=heading: arrived(page, heading)) as change:
            step_slider(page, "Block", step)
        if change.charts < 4:
            raise SystemExit(f"{heading} drew only {change.charts} charts")
        seconds.append(change.seconds)
    return seconds


def open_every_view(page: Page) -> None:
    """Open every view, so that every chart is sent once."""
    page.get_by_role("button", name="Select rows").click()
    page.get_by_role("textbox", name="Selected rows").fill("0-199")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    settled(page)
    for name, card in PARTS.items():
        part(page, name)
        choices = views(page, card)
        for index in range(choices.count()):
            choices.nth(index).click()
            expect(choices.nth(index)).to_be_checked()
            settled(page)
    for name in ("Rows", "Gap", "Masks", "Overview"):
        part(page, name)


def measure(page: Page, server: AppServer, started: float, releases: int, changes: int) -> dict[str, object]:
    count_runs(page)
    largest = largest_chart(page)
    opened(page, f"{server.url}/?{ITS_ADDRESS}")
    report: dict[str, object] = {"start_seconds": time.perf_counter() - started}
    report["resident_bytes"] = server.resident_bytes()
    targets = time_targets(page, releases)
    report["target_median_seconds"] = statistics.median(targets)
    report["target_p95_seconds"] = float(np.percentile(targets, 95))
    with redraw(page):
        drag_slider(page, TARGET, FIRST_TARGET_PERCENT)  # at 90% two of the charts are alike in most layers
    time_layers(page, WARM_UP)
    before = server.resident_bytes()
    layers = time_layers(page, changes)
    report["layer_median_seconds"] = statistics.median(layers)
    report["layer_p95_seconds"] = float(np.percentile(layers, 95))
    report["resident_growth_bytes"] = server.resident_bytes() - before
    report["resident_bytes_in_the_end"] = server.resident_bytes()
    open_every_view(page)
    report["largest_chart_bytes"] = largest[0]
    return report


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("--releases", type=int, default=20, help="of the target slider")
    parser.add_argument("--changes", type=int, default=50, help="of the layer")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, open_browser() as browser:
        page = browser.new_page(viewport=VIEWPORT)
        with running_app(Path(folder)) as server:  # fills the caches, also that of files on the disk
            opened(page, f"{server.url}/?{ITS_ADDRESS}")
        page.close()
        page = browser.new_page(viewport=VIEWPORT)
        started = time.perf_counter()
        with running_app(Path(folder)) as server:
            report = measure(page, server, started, arguments.releases, arguments.changes)
        page.close()
        page = browser.new_page(viewport=VIEWPORT)
        count_runs(page)
        script = Path(folder) / "empty.py"
        script.write_text(EMPTY_PAGE)
        with running_app(Path(folder), str(script)) as server:
            page.goto(server.url)
            expect(slider(page, TARGET)).to_be_visible()
            empty = time_targets(page, arguments.releases, least=1)
        report["empty_page_target_median_seconds"] = statistics.median(empty)
    for name, value in report.items():
        print(f"{name:32} {value / 2**20:10.1f} MiB" if "bytes" in name else f"{name:32} {value:10.3f} s")
    print_report("page", releases=arguments.releases, layer_changes=arguments.changes, **report)


if __name__ == "__main__":
    main()
