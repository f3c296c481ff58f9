"""The Learn page in a real browser: every step on the reader's page, and presenter mode's slides."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from app.services.server.access import CODE
from app.ui.learn.course import course
from tests.browser import layer_page
from tests.browser.harness import NARROW, WIDE, running_app, screenshot, settled
from tests.browser.page_checks import kept_out, overflow

pytestmark = pytest.mark.browser

STEPS = course()
PROJECTORS = ((1280, 720), (1920, 1080), (1024, 768))

# Words of a picture that stick out of it.
_CUT_WORDS = """(svg) => [...svg.querySelectorAll('text')].filter((text) => {
    const {x, y, width, height} = text.getBBox();
    return width && (x < -1 || y < -1 || x + width > 641 || y + height > 401);
}).map((text) => text.textContent)"""
# What of a slide is outside of the window or is cut.
_PARTS = "header, h1, .body, .stage, .player, svg, .control, .beside, .beside *, footer *"
_CUT = """(deck) => [...deck.querySelectorAll(PARTS)]
    .filter((node) => {
        const box = node.getBoundingClientRect();
        const scrolls = node.tagName !== 'svg' && node.clientHeight && node.scrollHeight > node.clientHeight + 1;
        return scrolls || box.bottom > innerHeight + 1 || box.right > innerWidth + 1 || box.top < -1 || box.left < -1;
    }).map((node) => `${node.tagName}.${node.className} ${node.textContent.slice(0, 40)}`)""".replace(
    "PARTS", f"'{_PARTS}'"
)


def opened(page: Page, step: int, more: str = "") -> Page:
    page.goto(f"/learn?step={step}{more}")
    return arrived(page, step)


def arrived(page: Page, step: int) -> Page:
    layer_page.arrived(page, f"{step}. {STEPS[step - 1].title}")
    expect(picture(page)).to_be_visible()
    return page


def picture(page: Page) -> Locator:
    return page.locator(".player > svg")


def control(page: Page) -> Locator:
    return page.locator(".player input[type=range]")


@pytest.mark.parametrize(("viewport", "colour_scheme"), [(WIDE, "light"), (NARROW, "dark")])
def test_no_step_is_cut_and_each_answers_its_keys(page, viewport, colour_scheme):
    for step in range(1, len(STEPS) + 1) if viewport == WIDE else (1, 7, len(STEPS)):
        opened(page, step) if step == 1 or viewport == NARROW else arrived(page, step)
        assert overflow(page) == [], step
        assert picture(page).evaluate(_CUT_WORDS) == [], step
        assert kept_out(page) == [], step
        screenshot(page, f"learn-{step}-{viewport[0]}-{colour_scheme}")
        before = picture(page).inner_html()
        control(page).focus()
        page.keyboard.press("ArrowRight" if control(page).input_value() == "0" else "ArrowLeft")
        assert picture(page).inner_html() != before, step
        if step == 2:
            the_self_check_is_answered_by_key(page)
        if step < len(STEPS) and viewport == WIDE:
            page.get_by_role("button", name="Next").click()


def the_self_check_is_answered_by_key(page: Page) -> None:
    check = STEPS[1].check
    page.locator(".st-key-self-check").get_by_role("radio").first.focus()
    page.keyboard.press("Space")
    expect(page.get_by_text(check.reason)).to_be_visible()
    expect(page.get_by_test_id("stAlert")).to_contain_text("Yes.")
    settled(page)


def test_the_address_follows_the_control_and_holds(page):
    opened(page, 7)
    control(page).evaluate(
        "(input) => { input.value = 70; input.dispatchEvent(new Event('input', {bubbles: true})) }"
    )
    expect(page.get_by_text("A positive rate wins")).to_be_visible()
    expect(page).to_have_url(re.compile("outliers=80"))
    page.reload()
    arrived(page, 7)
    expect(page.locator(".player output")).to_have_text("80%")
    page.get_by_role("link", name="6 Iterations").click()
    arrived(page, 6)
    page.get_by_role("button", name="Play").click()
    expect(page.locator(".player output")).to_have_text("10.0")
    expect(page.get_by_text("After 10 updates")).to_be_visible()


def test_slides_fit_every_projector_and_print_on_a_page_each(page, tmp_path):
    opened(page, 1, "&present=1")
    deck = page.locator(".deck")
    for step in range(1, len(STEPS) + 1):
        expect(page.get_by_role("heading", name=f"{step}. {STEPS[step - 1].title}")).to_be_visible()
        for width, height in PROJECTORS:
            page.set_viewport_size({"width": width, "height": height})
            for reveal in range(3):
                assert deck.evaluate(_CUT) == [], (step, width, reveal)
                if reveal == 0:
                    assert picture(page).evaluate(_CUT_WORDS) == [], (step, width)
                    assert picture(page).bounding_box()["height"] > 0.45 * height, (step, width)
                page.keyboard.press("r")
        page.keyboard.press("ArrowRight")
    assert kept_out(page) == []
    screenshot(page, "learn-slides")
    content = page.pdf(prefer_css_page_size=True)
    assert len(re.findall(rb"/Type\s*/Page\b", content)) == len(STEPS)
    expect(page.locator("#trim-print")).to_have_count(0)


def test_a_key_is_a_step_and_needs_no_server(page):
    opened(page, 1, "&present=1")
    expect(page.get_by_test_id("stSidebar")).to_be_hidden()
    page.get_by_role("button", name="Model", exact=True).wait_for()
    page.context.set_offline(True)
    for _ in range(12):  # five presses, four steps on: sixty in six seconds
        for key in ("ArrowRight", "PageDown", "ArrowLeft", "Space", "PageUp"):
            page.keyboard.press(key)
            page.wait_for_timeout(90)
        page.keyboard.press("ArrowLeft")
    expect(page.get_by_role("heading", name=f"1. {STEPS[0].title}")).to_be_visible()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    control(page).focus()
    page.keyboard.press("ArrowUp")
    expect(page.locator(".player output")).to_have_text("1.0")
    page.keyboard.press("p")
    expect(page.locator(".player output")).to_have_text("10.0")
    page.keyboard.press("r")
    expect(page.get_by_text(STEPS[5].check.question)).to_be_visible()
    expect(page).to_have_url(re.compile("step=6.*iteration=10.*reveal=1|reveal=1.*"))
    page.keyboard.press("b")
    expect(page.locator(".curtain")).to_be_visible()
    page.keyboard.press("b")
    with page.expect_popup() as popup:
        page.keyboard.press("n")
    notes = popup.value
    expect(notes.locator(".said")).to_have_text(STEPS[5].notes)
    notes.keyboard.press("PageDown")
    expect(notes.locator(".said")).to_have_text(STEPS[6].notes)
    expect(page.get_by_role("heading", name=f"7. {STEPS[6].title}")).to_be_visible()
    page.context.set_offline(False)
    page.wait_for_timeout(300)
    address = page.url
    page.reload()
    arrived(page, 7)
    assert page.url == address
    page.get_by_role("button", name="Leave").click()
    expect(page.get_by_test_id("stSidebar")).to_be_visible()
    arrived(page, 7)
    assert "present" not in page.url


def test_slides_lead_to_the_other_pages(page):
    opened(page, 3, "&present=1")
    page.get_by_role("button", name="Paper", exact=True).click()
    expect(page.get_by_role("heading", name="Figure 4")).to_be_visible(timeout=60_000)
    expect(page.get_by_test_id("stSidebar")).to_be_hidden()
    page.locator(".st-key-presenter-pages").get_by_role("link", name="Learn").click()
    arrived(page, 1)
    assert "present=1" in page.url


def test_a_room_follows_answers_and_looks_around(browser, tmp_path):
    check = STEPS[3].check
    with running_app(tmp_path, environment={CODE: "open sesame"}, seminar=True) as server:
        presenter, reader = (
            browser.new_context(base_url=server.url, viewport={"width": width, "height": 900}).new_page()
            for width in (1280, 420)
        )
        opened(presenter, 4)
        presenter.get_by_text("I am the presenter").click()
        presenter.get_by_label("Presenter's code").fill("open sesame")
        presenter.get_by_role("button", name="Unlock").click()
        expect(presenter.get_by_text("You are the presenter")).to_be_visible()
        opened(reader, 1)
        presenter.get_by_role("link", name="Presenter mode").click()
        arrived(reader, 4)
        presenter.keyboard.press("ArrowUp")
        expect(reader.locator(".player output")).to_have_text("2.0 times")
        presenter.keyboard.press("r")
        reader.get_by_role("button", name=check.answers[check.right]).click()
        expect(reader.get_by_text("(your answer)")).to_be_visible()
        expect(presenter.get_by_text("1 answer", exact=True)).to_be_visible()
        assert overflow(reader) == []
        assert kept_out(reader) == []
        screenshot(reader, "learn-room")
        presenter.keyboard.press("r")
        expect(reader.get_by_text(check.reason)).to_be_visible()
        expect(reader.locator(".answer.right .count")).to_have_text("1")
        reader.get_by_role("button", name="Look around").click()
        reader.get_by_role("button", name="Next").click()
        arrived(reader, 5)
        presenter.keyboard.press("ArrowRight")
        presenter.keyboard.press("ArrowRight")
        expect(reader.get_by_text("The room is at step 6.")).to_be_visible()
        reader.get_by_role("button", name="Back to the room").click()
        arrived(reader, 6)
        presenter.get_by_role("button", name="Leave").click()
        expect(reader.get_by_text("The presenter has left the slides")).to_be_visible()
        arrived(reader, 6)
        for page in (presenter, reader):
            page.context.close()
