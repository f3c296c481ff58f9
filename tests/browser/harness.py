"""Driving the app in a real browser: start it, wait for it, move a slider, time its charts."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

import psutil
from playwright.sync_api import Locator, Page
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

ROOT = Path(__file__).resolve().parents[2]
ARTIFACTS = ROOT / "artifacts"
WIDE, NARROW = (1440, 900), (420, 900)
PICTURES = os.environ.get("TRIM_SCREENSHOTS") == "1"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def find_browser() -> str | None:
    """Return the path of a Chromium or Chrome on PATH; None: there is none."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


# ---------------------------------------------------------------------------------------------- the app


@dataclass(frozen=True)
class AppServer:
    """A running app. `url` has no trailing slash; `log` is the file with what it printed."""

    url: str
    process: subprocess.Popen
    log: Path

    def resident_bytes(self) -> int:
        """Return the resident memory of the app and its subprocesses in bytes."""
        app = psutil.Process(self.process.pid)
        return sum(each.memory_info().rss for each in [app, *app.children(recursive=True)])

    def cpu_seconds(self) -> float:
        """Return the processor time of the app's own process so far, in seconds."""
        times = psutil.Process(self.process.pid).cpu_times()
        return times.user + times.system


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/_stcore/health", timeout=2) as answer:
            return answer.status == 200
    except (urllib.error.URLError, TimeoutError, ConnectionError):
        return False


@contextlib.contextmanager
def running_app(
    folder: Path,
    script: str = "app/server.py",
    environment: dict[str, str] | None = None,
    *,
    seminar: bool = False,
) -> Iterator[AppServer]:
    """Run the app as `make app` starts it, or `make seminar`, on a free port, until the block ends.

    Its runs go to `folder`/runs. The caches stay the user's own (the demo model takes most of a minute to
    make), unless `environment` sets TRIM_CACHE. RuntimeError, with what the app printed, if it does not
    come up.
    """
    port = _free_port()
    log = folder / "app.log"
    command = [sys.executable, "-m", "streamlit", "run", script]
    command += ["--server.port", str(port), "--server.headless", "true"]
    if seminar:
        command = [sys.executable, "-m", "app.seminar", "--port", str(port), "--listen", "127.0.0.1"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"TRIM_RUNS": str(folder / "runs")} | (environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # its own process group, so that its subprocesses end with it
        )
    server = AppServer(f"http://127.0.0.1:{port}", process, log)
    try:
        deadline = time.monotonic() + 60
        while not _healthy(server.url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the app did not come up:\n{log.read_text(errors='replace')}")
            time.sleep(0.02)
        yield server
    finally:
        _end(process)


def _end(process: subprocess.Popen) -> None:
    """End the process and its group, by SIGTERM and after ten seconds by SIGKILL."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=10)
            break
    # The leader has ended; a subprocess that ignored SIGTERM has not.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


# --------------------------------------------------------------------------------------------- the page

# True when the script has ended and every visible chart is drawn. A chart's frame comes before its drawing:
# Plotly is loaded late, and draws after its container has a width.
_SETTLED = """() => {
    const app = document.querySelector('[data-testid=stApp]');
    if (app?.dataset.testConnectionState !== 'CONNECTED') return false;
    if (app.dataset.testScriptState !== 'notRunning') return false;
    const visible = (node) => node.getClientRects().length > 0;
    if ([...document.querySelectorAll('[data-testid=stSkeleton]')].some(visible)) return false;
    if (![...document.querySelectorAll('.trim-linked')].every((root) => root.linked?.content)) return false;
    return [...document.querySelectorAll('[data-testid=stPlotlyChart]')].filter(visible)
        .every((chart) => chart.querySelector('.js-plotly-plot .main-svg'));
}"""


def settled(page: Page, timeout_seconds: float = 120) -> None:
    """Wait until the app is connected, its script has ended and every visible chart is drawn.

    Twice in a row, 100 ms apart: between two runs of the script it stands still for a moment. After an
    input, use `redraw` instead: the run that an input causes starts only some milliseconds later.
    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        left = max(1, 1000 * (deadline - time.monotonic()))
        page.wait_for_function(_SETTLED, timeout=left, polling=50)  # not at every frame: it lays the page out
        page.wait_for_timeout(100)
        if page.evaluate(_SETTLED):
            return


# True when every visible chart is as wide as its place.
_FILLED = """() => [...document.querySelectorAll('[data-testid=stPlotlyChart]')]
    .filter((chart) => chart.getClientRects().length)
    .every((chart) => {
        const drawn = chart.querySelector('.main-svg');
        return drawn && Math.abs(drawn.getBoundingClientRect().width - chart.clientWidth) < 2;
    })"""


def resize(page: Page, size: tuple[int, int]) -> None:
    """Make the window that wide and high, and wait until the charts follow."""
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.wait_for_timeout(100)
    page.wait_for_function(_FILLED, polling=50)


def both_widths(page: Page) -> Iterator[tuple[int, int]]:
    """Yield the window's current size, then resize it to the other; it keeps that size afterwards."""
    for size in sorted((WIDE, NARROW), key=lambda size: size[0] != page.viewport_size["width"]):
        resize(page, size)
        yield size


def screenshot(what: Page | Locator, name: str) -> None:
    """Save a picture of a page or an element as artifacts/`name`.png, if TRIM_SCREENSHOTS=1 asks for pictures."""
    if not PICTURES:
        return
    if isinstance(what, Page):
        photograph(what, name)
    else:
        what.screenshot(path=ARTIFACTS / f"{name}.png")


def photograph(page: Page, name: str) -> None:
    """Save a picture of the whole page as artifacts/`name`.png."""
    # Streamlit scrolls an inner element, so "full page" means a window as tall as that element's content.
    height = page.evaluate("() => document.querySelector('[data-testid=stMain]')?.scrollHeight ?? 0")
    size = page.viewport_size
    if height > size["height"]:
        page.set_viewport_size({"width": size["width"], "height": height})
        page.wait_for_timeout(300)
    page.screenshot(path=ARTIFACTS / f"{name}.png")
    page.set_viewport_size(size)


# ------------------------------------------------------------------------------------------- the slider


def slider(page: Page, label: str) -> Locator:
    """Return the `input[type=range]` of the slider with this label (a part of it is enough)."""
    return page.locator("[data-testid=stSlider]").get_by_role("slider", name=label)


def step_slider(page: Page, label: str, steps: int) -> float:
    """Press an arrow key on the slider |steps| times, right if positive; the value it then shows."""
    handle = slider(page, label)
    handle.focus()
    for _ in range(abs(steps)):
        page.keyboard.press("ArrowRight" if steps > 0 else "ArrowLeft")
    return float(handle.input_value())


def drag_slider(page: Page, label: str, value: float) -> float:
    """Drag the slider's thumb to `value` with the mouse and let go; the value it then shows."""
    handle = slider(page, label)
    handle.scroll_into_view_if_needed()
    # The input itself is invisible; the thumb is around it and the track around that.
    start_x, start_y, end_x = handle.evaluate(
        """(input, value) => {
            const track = input.closest('[role=group]').firstElementChild.getBoundingClientRect();
            const at = (number) => track.left + track.width * (number - input.min) / (input.max - input.min);
            return [at(input.value), track.top + track.height / 2, at(value)];
        }""",
        value,
    )
    page.mouse.move(start_x, start_y)
    page.mouse.down()
    page.mouse.move((start_x + end_x) / 2, start_y)
    page.mouse.move(end_x, start_y)
    page.mouse.up()
    return float(handle.input_value())


# -------------------------------------------------------------------------------------- timing a redraw

_finished_runs: WeakKeyDictionary[Page, int] = WeakKeyDictionary()


def count_runs(page: Page) -> None:
    """Count the runs of the app's script that end on this page, for `redraw`; the page fixture calls it.

    From the server's messages: the page's own state shows no run at all when a quick one starts and ends
    between two frames.
    """
    _finished_runs[page] = 0

    def received(payload: str | bytes) -> None:
        if not isinstance(payload, bytes):
            return
        message = ForwardMsg.FromString(payload)
        ended = message.WhichOneof("type") == "script_finished"
        if ended and message.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN:
            _finished_runs[page] += 1

    page.on("websocket", lambda socket: socket.on("framereceived", received))


_WATCH = """() => {
    const watch = window.trimWatch = {input: null, draws: []};
    // A drawing counts from the moment its frame is on the screen.
    const drawn = (chart) => requestAnimationFrame(() => setTimeout(() => {
        watch.draws.push([chart, performance.now()]);
    }, 0));
    const seen = new WeakMap();
    let count = 0;
    const follow = () => document.querySelectorAll('.js-plotly-plot').forEach((chart) => {
        if (seen.has(chart) || !chart.on) return;
        seen.set(chart, count++);
        if (watch.input !== null) drawn(seen.get(chart));  // a new element: this is its first drawing
        chart.on('plotly_afterplot', () => drawn(seen.get(chart)));
    });
    follow();
    watch.observer = new MutationObserver(follow);
    watch.observer.observe(document.body,
                           {childList: true, subtree: true, attributes: true, attributeFilter: ['class']});
    watch.linked = (event) => event.detail.forEach(drawn);  // the charts of our own that changed
    document.addEventListener('trim-drawn', watch.linked);
    watch.listen = (event) => { watch.input = event.timeStamp; };
    for (const kind of ['pointerup', 'keydown']) document.addEventListener(kind, watch.listen, true);
}"""

_UNWATCH = """() => {
    const watch = window.trimWatch;
    watch.observer.disconnect();
    document.removeEventListener('trim-drawn', watch.linked);
    for (const kind of ['pointerup', 'keydown']) document.removeEventListener(kind, watch.listen, true);
    return {input: watch.input, draws: watch.draws};
}"""


@dataclass
class Redraw:
    """What an input caused. Filled when the `redraw` block ends."""

    seconds: float = float("nan")  # from the input (pointer up, key down) to the last chart on the screen
    charts: int = 0  # how many different charts were drawn anew


@contextlib.contextmanager
def redraw(
    page: Page, timeout_seconds: float = 60, until: Callable[[], object] | None = None
) -> Iterator[Redraw]:
    """Wait for all that the input inside the block causes, and time it.

    Times are the browser's own: from the last pointer-up or key-down to the first frame that shows the
    last of the charts drawn after it. A chart whose figure did not change is not drawn and not counted.
    TimeoutError if no run of the script ends in time, so an input that changes nothing fails here.

    Where the page shows the progress of a job first, it stands still before its charts are there: `until`
    then waits for what comes after the job.

        with redraw(page) as change:
            drag_slider(page, "Target", 60)
        assert change.charts == 4
    """
    settled(page, timeout_seconds)
    before = _finished_runs[page]
    page.evaluate(_WATCH)
    result = Redraw()
    yield result
    deadline = time.monotonic() + timeout_seconds
    while _finished_runs[page] == before:
        if time.monotonic() > deadline:
            raise TimeoutError(f"no run of the app's script ended within {timeout_seconds} s of the input")
        page.wait_for_timeout(30)
    if until is not None:
        until()
    settled(page, timeout_seconds)
    page.wait_for_timeout(250)  # a chart that draws once more (for its width, say) belongs to the change
    seen = page.evaluate(_UNWATCH)
    draws = [(chart, moment) for chart, moment in seen["draws"] if moment > seen["input"]]
    result.charts = len({chart for chart, _ in draws})
    if draws:
        result.seconds = (max(moment for _, moment in draws) - seen["input"]) / 1000
