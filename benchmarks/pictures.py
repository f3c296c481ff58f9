"""Make the README's pictures of pages in a real browser, 1,440 pixels wide and light.

    python -m benchmarks.pictures --folder docs/pictures

Run it after a change of a page, and check the pictures. Needs chromium or google-chrome on PATH.
"""

from pathlib import Path

from playwright.sync_api import expect

from benchmarks.browser import VIEWPORT, open_app
from benchmarks.script import print_report, script_parser
from tests.browser.harness import settled

PAGES = {
    "layer-page": "/?shown=Both&rows=17",
    "learn-page": "/learn?step=7",
    "model-page": "/model?run=demo-trim-70",
}
LIVE_SECONDS = 240  # with an empty cache, the demo model is made first


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where the pictures go")
    asked = parser.parse_args()
    heights = {}
    with open_app(reduced_motion="reduce") as (_, page):
        for name, address in PAGES.items():
            page.set_viewport_size(VIEWPORT)
            page.goto(address)
            if name == "layer-page":
                expect(page.get_by_text("Live: computed")).to_be_visible(timeout=1000 * LIVE_SECONDS)
            settled(page)
            # The picture of the Layer page shows what fits on the screen, the others the whole page.
            if name != "layer-page":
                height = page.evaluate("document.querySelector('[data-testid=stMain]').scrollHeight")
                page.set_viewport_size(VIEWPORT | {"height": height})
                page.wait_for_timeout(500)
                settled(page)
            page.screenshot(path=asked.folder / f"{name}.png")
            heights[name] = page.viewport_size["height"]
    print_report("pictures", heights=heights)


if __name__ == "__main__":
    main()
