"""A browser for scripts that measure pages."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.conftest import FLAGS, WIDE
from tests.browser.harness import AppServer, find_browser, running_app

VIEWPORT = {"width": WIDE[0], "height": WIDE[1]}


@contextlib.contextmanager
def open_app(**options: object) -> Iterator[tuple[AppServer, Page]]:
    """Start the app without runs of its own, and a browser, for the time of the block; yield the app and a page."""
    with (
        tempfile.TemporaryDirectory() as folder,
        running_app(Path(folder)) as server,
        open_browser() as browser,
    ):
        yield server, browser.new_page(base_url=server.url, **{"viewport": VIEWPORT} | options)


@contextlib.contextmanager
def open_browser() -> Iterator[Browser]:
    """Start Chromium for the time of the block.

    Raises:
        SystemExit: no Chromium was found.
    """
    path = find_browser()
    if path is None:
        raise SystemExit("no chromium or google-chrome on PATH; install it (Debian: apt install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()
