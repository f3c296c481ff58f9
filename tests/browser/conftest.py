"""Fixtures of the browser tests: the app and a browser once, a page per test.

A page fails its test at the end if anything was wrong in it that nobody would see: an error in the
console, an uncaught exception, or a request to anywhere but the app itself.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from tests.browser.harness import WIDE, AppServer, count_runs, find_browser, photograph, running_app

EMPTY = "/_stcore/health"  # a word of the app's own server
FLAGS = [
    "--headless",
    "--no-sandbox",  # CI runs as root, where Chromium's sandbox does not start; only our own page is opened
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Nothing moves by itself: without a GPU the processor draws each frame of an animation.
_STILL = """(() => {
    const add = () => {
        const style = document.createElement('style');
        style.textContent = '*, *::before, *::after {animation: none !important; transition: none !important}';
        document.documentElement.append(style);
    };
    document.documentElement ? add() : addEventListener('DOMContentLoaded', add);
})()"""
_failed = pytest.StashKey[bool]()
# Milliseconds for whatever a test expects to see: on busy cores an answer can take several seconds.
expect.set_options(timeout=30_000)


@pytest.fixture(scope="session")
def browser_path() -> str:
    path = find_browser()
    if path is None:
        message = "no chromium or google-chrome on PATH: the browser tests need one"
        if os.environ.get("TRIM_REQUIRE_BROWSER") == "1":
            pytest.fail(message)
        pytest.skip(message)
    return path


@pytest.fixture(scope="session")
def app(browser_path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AppServer]:
    """The app, started once for all browser tests; requested only where there is a browser."""
    with running_app(tmp_path_factory.mktemp("app")) as server:
        yield server


@pytest.fixture(scope="package")
def browser(browser_path: str) -> Iterator[Browser]:
    # Not per session: while Playwright runs, it keeps an asyncio loop running in this thread, in which other tests
    # could not start one of their own.
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def viewport() -> tuple[int, int]:
    """Width and height in pixels; a test may parametrize it: @pytest.mark.parametrize("viewport", [...])."""
    return WIDE


@pytest.fixture
def colour_scheme() -> str:
    """What the reader's system asks for, "light" or "dark"; a test may parametrize it."""
    return "light"


@pytest.fixture(scope="package")
def tab(app: AppServer, browser: Browser) -> Iterator[Page]:
    """One tab for all tests: a new one would compile the app's scripts again, which takes longer than most pages."""
    context = browser.new_context(base_url=app.url)
    context.add_init_script(_STILL)
    tab = context.new_page()
    count_runs(tab)
    yield tab
    context.close()


@pytest.fixture
def page(
    tab: Page, viewport: tuple[int, int], colour_scheme: str, request: pytest.FixtureRequest
) -> Iterator[Page]:
    """An empty page whose relative addresses are the app's: page.goto("/?target=60"); nothing is stored in it."""
    width, height = viewport
    tab.set_viewport_size({"width": width, "height": height})
    tab.emulate_media(color_scheme=colour_scheme, reduced_motion="reduce")
    tab.goto(EMPTY)
    tab.evaluate("() => { localStorage.clear(); sessionStorage.clear(); }")
    faults: list[str] = []

    def said(message: ConsoleMessage) -> None:
        if message.type == "error" and not _looking_for_the_server(message):
            faults.append(message.text)

    def asked(sent: Request) -> None:
        if _is_foreign(sent.url):
            faults.append(f"a request to {sent.url}")

    heard = {"console": said, "pageerror": lambda error: faults.append(str(error)), "request": asked}
    for event, listener in heard.items():
        tab.on(event, listener)
    yield tab
    if request.node.stash.get(_failed, False):
        with contextlib.suppress(PlaywrightError):  # a page that died has no picture; its test has said why
            photograph(tab, "failed-" + re.sub(r"[^\w-]+", "-", request.node.name).strip("-"))
    tab.goto(EMPTY)  # which ends its session
    for event, listener in heard.items():
        tab.remove_listener(event, listener)
    assert not faults, "the page had errors:\n" + "\n".join(faults)


def _looking_for_the_server(message: ConsoleMessage) -> bool:
    """Streamlit's page, opened below the root, first asks whether the app itself lives there: /model/_stcore/health."""
    path = urlsplit(message.location["url"]).path
    return "404" in message.text and re.fullmatch(r"/\w+/_stcore/(health|host-config)", path) is not None


def _is_foreign(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("http", "https", "ws", "wss") and parts.hostname != "127.0.0.1"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    """Remember a failed test, so that its page is photographed before it closes."""
    report = yield
    if report.when == "call" and report.failed:
        item.stash[_failed] = True
    return report
