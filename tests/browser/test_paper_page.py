"""The Paper page in a real browser: its six figures, wide and narrow."""

import pytest
from playwright.sync_api import expect

from tests.browser.harness import NARROW, WIDE, screenshot
from tests.browser.layer_page import card, opened
from tests.browser.page_checks import cut_labels, kept_out, overflow

pytestmark = pytest.mark.browser


@pytest.mark.parametrize(("viewport", "colour_scheme"), [(WIDE, "light"), (NARROW, "dark")])
def test_no_figure_is_cut(page, viewport, colour_scheme):
    opened(page, "/paper", "Figure 4")
    for number in ("1", "2", "3a", "3b", "3c", "4"):
        expect(card(page, f"paper_{number}").locator(".main-svg").first).to_be_visible()
    assert overflow(page) == []
    assert cut_labels(page) == []
    assert kept_out(page) == []
    screenshot(page, f"paper-{viewport[0]}-{colour_scheme}")
