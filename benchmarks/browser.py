"""A browser for scripts that measure pages."""

import contextlib
from collections.abc import Iterator

from playwright.sync_api import Browser, sync_playwright

from tests.browser.conftest import FLAGS, WIDE
from tests.browser.harness import find_browser

VIEWPORT = {"width": WIDE[0], "height": WIDE[1]}


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
