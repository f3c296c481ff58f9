"""Learn's slides in a real browser: the time to open them, pictures a second, and sixty keys in six seconds.

    python -m benchmarks.slides

Motion is counted on the screen: in each frame of the browser, whether the picture has changed.
Needs chromium or google-chrome on PATH, and an idle machine, as everything shares the cores.
"""

import time

from playwright.sync_api import Page

from app.ui.learn.course import course
from benchmarks.browser import open_app
from benchmarks.script import print_report, script_parser

PROJECTOR = {"width": 1280, "height": 720}
MOTIONS = ("Curves", "Iterations", "Sign")
GOAL_PICTURES, KEYS, KEYS_SECONDS = 30, 60, 6.0

# Plays the picture from its first frame to its last, and counts the different pictures a second.
_COUNT = """(player) => new Promise((done) => {
    const range = player.querySelector('input[type=range]');
    const output = player.querySelector('output');
    range.value = 0;
    range.dispatchEvent(new Event('input'));
    let seen = 0, last = output.textContent, began = null, ended = null;
    const look = (now) => {
        if (output.textContent !== last) {
            if (began === null) began = now; else seen += 1;
            last = output.textContent;
            ended = now;
        }
        if (range.value === range.max) done(1000 * seen / (ended - began)); else requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
    player.querySelector('.play').click();
})"""


def press_keys(page: Page) -> bool:
    """Press sixty keys in six seconds, three forward and one back; return whether the slides end at the right place."""
    page.keyboard.press("Home")
    slide, last = 0, len(course()) - 1
    began = time.perf_counter()
    for press in range(KEYS):
        on = press % 4 != 3
        page.keyboard.press("ArrowRight" if on else "ArrowLeft")
        slide = min(max(slide + (1 if on else -1), 0), last)
        time.sleep(max(0.0, began + (press + 1) * KEYS_SECONDS / KEYS - time.perf_counter()))
    return page.locator(".deck .counter").inner_text() == f"{slide + 1} / {last + 1}"


def main() -> None:
    """Run the benchmark."""
    script_parser(__doc__).parse_args()
    names = [step.name for step in course()]
    with open_app(viewport=PROJECTOR) as (server, page):
        opened = []
        for _ in range(2):
            page = page.context.browser.new_page(viewport=PROJECTOR)
            began = time.perf_counter()
            page.goto(f"{server.url}/learn?step=1&present=1")
            page.locator(".deck .player > svg").wait_for(timeout=120_000)
            opened.append(time.perf_counter() - began)
        pictures = {}
        for name in MOTIONS:
            page.keyboard.press("Home")
            for _ in range(names.index(name)):
                page.keyboard.press("ArrowRight")
            pictures[name] = round(page.locator(".player").evaluate(_COUNT), 1)
        landed = press_keys(page)
    print_report(
        "slides",
        first_open_seconds=round(opened[0], 2),
        open_seconds=round(opened[1], 2),
        pictures_per_second=pictures,
        keys_landed=landed,
        goal_met=landed and min(pictures.values()) >= GOAL_PICTURES,
    )


if __name__ == "__main__":
    main()
