"""The Learn page in a real browser: every step, narrow and dark too, its control by key, presenter mode."""

import re

import pytest
from playwright.sync_api import Page, expect

from app.ui.learn.course import STEPS
from tests.browser.harness import redraw, screenshot, settled, slider, step_slider
from tests.browser.page_checks import cut_labels, kept_out, overflow

pytestmark = pytest.mark.browser

WIDE, NARROW = (1440, 900), (420, 900)
# The label of each step's slider, and the arrow key that moves it.
SLIDERS = {
    1: ("How loud", -1),
    2: ("Weights pruned", 1),
    3: ("Make the weight", 1),
    4: ("Learning rate", -1),
    5: ("Updates done", 1),
    6: ("How concentrated", 1),
    7: ("OWL's λ", 1),
    8: ("Layer sparsity", 1),
}


def opened(page: Page, step: int, more: str = "") -> Page:
    page.goto(f"/learn?step={step}{more}")
    return arrived(page, step)


def arrived(page: Page, step: int) -> Page:
    expect(page.get_by_role("heading", name=f"{step}. {STEPS[step - 1].title}")).to_be_visible(timeout=60_000)
    settled(page)
    return page


@pytest.mark.parametrize(("viewport", "colour_scheme"), [(WIDE, "light"), (NARROW, "dark")])
def test_every_step_is_drawn_whole_and_answers_its_keys(page, viewport, colour_scheme):
    opened(page, 1)
    for step in range(1, len(STEPS) + 1):
        arrived(page, step)
        assert overflow(page) == [], step
        assert cut_labels(page) == [], step
        assert kept_out(page) == [], step
        screenshot(page, f"learn-{step}-{viewport[0]}-{colour_scheme}")
        if step in SLIDERS:
            label, keys = SLIDERS[step]
            with redraw(page) as change:
                step_slider(page, label, keys)
            assert change.charts == 1, step
            settled(page)
        if step in BY_HAND and viewport == WIDE:
            BY_HAND[step](page)
            settled(page)
        if step < len(STEPS):
            page.get_by_role("button", name="Next").click()


def the_self_check_is_answered_by_key(page: Page) -> None:
    check = STEPS[1].check
    page.locator(".st-key-self-check").get_by_role("radio").first.focus()
    page.keyboard.press("Space")
    expect(page.get_by_text(check.reason)).to_be_visible()
    expect(page.get_by_test_id("stAlert")).to_contain_text("Yes.")
    page.keyboard.press("ArrowDown")
    expect(page.get_by_test_id("stAlert")).to_contain_text("Not quite.")


def play_ends_at_the_last_update(page: Page) -> None:
    page.get_by_role("button", name="Play").click()
    expect(slider(page, "Updates done")).to_have_value("10", timeout=20_000)
    expect(page.get_by_text("After 10 updates")).to_be_visible()


def the_sign_turns_under_the_readers_hand(page: Page) -> None:
    step_slider(page, "How concentrated", -1)  # to where it began
    expect(page.get_by_text("A negative rate wins")).to_be_visible()
    step_slider(page, "How concentrated", 8)
    expect(page.get_by_text("A positive rate wins")).to_be_visible()
    assert "outliers=80" in page.url


BY_HAND = {
    2: the_self_check_is_answered_by_key,
    5: play_ends_at_the_last_update,
    6: the_sign_turns_under_the_readers_hand,
}


def test_presenter_mode_turns_pages_by_key(page):
    opened(page, 1, "&present=1")
    expect(page.get_by_test_id("stSidebar")).to_be_hidden()
    size = "() => parseFloat(getComputedStyle(document.querySelector('h1')).fontSize)"
    large = page.evaluate(size)
    page.keyboard.press("ArrowRight")
    arrived(page, 2)
    slider(page, "Weights pruned").focus()
    page.keyboard.press("PageDown")  # a clicker, also while a slider has the focus
    arrived(page, 3)
    page.keyboard.press("PageUp")
    arrived(page, 2)
    page.locator("h1").click()
    page.keyboard.press("ArrowLeft")
    arrived(page, 1)
    assert overflow(page) == []
    assert cut_labels(page) == []
    assert kept_out(page) == []
    screenshot(page, "learn-presenter")
    assert re.search(r"present=1", page.url)
    page.locator(".st-key-presenter-pages").get_by_role("link", name="Paper").click()
    expect(page.get_by_role("heading", name="Figure 4")).to_be_visible(timeout=60_000)
    expect(page.get_by_test_id("stSidebar")).to_be_hidden()
    page.locator(".st-key-presenter-pages").get_by_role("link", name="Learn").click()
    arrived(page, 1)
    page.get_by_role("link", name="Leave presenter mode").click()
    expect(page.get_by_test_id("stSidebar")).to_be_visible()
    settled(page)
    assert page.evaluate(size) < 0.8 * large


def test_links_lead_to_steps_and_hold(page):
    opened(page, 1)
    link = page.get_by_role("link", name="6 Sign")
    assert link.get_attribute("href").endswith("learn?step=6")
    link.click()
    arrived(page, 6)
    expect(page).to_have_url(re.compile(r"learn\?step=6$"))
    page.get_by_role("link", name="Presenter mode").click()
    expect(page).to_have_url(re.compile("present=1"))
    page.get_by_role("button", name="Next").click()
    arrived(page, 7)
    expect(page).to_have_url(re.compile("present=1"))
    page.reload()
    arrived(page, 7)
