"""Text from outside shows as it is: Streamlit's own Markdown, in the browser, reads nothing into it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from app.ui.common.text import literal
from tests.browser.harness import ROOT, running_app

pytestmark = pytest.mark.browser

TEXTS = [
    "*a* **b** _c_ __d__ ***e***",
    "`code` ``more``",
    "~~gone~~",
    "[link](https://example.com) ![picture](https://example.com/x.png)",
    "[1]: https://example.com",
    "<b>bold</b><script>alert(1)</script><img src=x onerror=alert(1)>",
    "<!-- comment -->",
    "&lt;b&gt; &amp; &#42; &nbsp;",
    "# heading",
    "- item",
    "+ item",
    "1. item",
    "2) item",
    "> quote",
    "| a | b |",
    "--- ***",
    "$x^2$ $$y$$",
    r"\*star\* \\ \n C:\models\new",
    ":red[red] :blue-background[b] :small[s]",
    ":material/home: :streamlit: :smile: :+1:",
    "a -> b <- c --> d <-- e <-> f -- g >= h <= i ~= j",
    "https://example.com/a_b www.example.com someone@example.com",
    "footnote[^1]",
    "a^b^ H~2~O",
    "one\ntwo\r\nthree\rfour",
    "    four spaces first",
    "\ttab first",
    "[ ] task [x] done",
    "meta-llama/Llama-3.2-1B@refs/pr/1",
    "15.mlp.gate_proj",
    "“quotes” 'single' \"double\" … – — ‖W‖ ŷ 日本語",
]


def as_shown(text: str) -> str:
    """Return what a reader sees: any white space is one blank, none at the ends; word joiners have no width."""
    return " ".join(text.replace("\u2060", "").split())


@pytest.fixture(scope="module")
def shown(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("plain")
    (folder / "texts.json").write_text(json.dumps([literal(text) for text in TEXTS]), encoding="utf-8")
    script = Path(folder / "page.py")
    script.write_text(
        "import json, pathlib\n"
        "import streamlit as st\n"
        "texts = json.loads(pathlib.Path(__file__).with_name('texts.json').read_text(encoding='utf-8'))\n"
        "for text in texts:\n"
        "    st.markdown(text)\n"
        "    st.markdown('**' + text + '**')\n"
    )
    with running_app(folder, str(script)) as server:
        page = browser.new_page()
        page.goto(server.url)
        page.wait_for_function(
            f"() => document.querySelectorAll('[data-testid=stMarkdownContainer]').length === {2 * len(TEXTS)}"
        )
        yield page
        page.close()


@pytest.fixture(scope="module")
def blocks(shown: Page) -> list[dict[str, str]]:
    return shown.locator("[data-testid=stMarkdownContainer]").evaluate_all(
        "nodes => nodes.map(node => ({text: node.innerText, html: node.innerHTML}))"
    )


@pytest.mark.parametrize("text", TEXTS)
def test_nothing_is_read_into_text(blocks, text):
    place = 2 * TEXTS.index(text)
    alone, bold = blocks[place : place + 2]
    assert as_shown(alone["text"]) == as_shown(text), alone["html"]
    assert as_shown(bold["text"]) == as_shown(text), bold["html"]
    assert re.findall("<[^>]*>", alone["html"]) == ["<p>", "</p>"]
    assert re.findall("<[^>]*>", bold["html"]) == ["<p>", "<strong>", "</strong>", "</p>"]


def test_what_is_copied_can_be_pasted_into_a_terminal(shown):
    shown.evaluate((ROOT / "app/ui/common/copy.js").read_text(encoding="utf-8"))
    copied = shown.evaluate(
        """() => {
            const clipboardData = new DataTransfer();
            getSelection().selectAllChildren(document.querySelector('[data-testid=stMain]'));
            document.dispatchEvent(new ClipboardEvent('copy', { clipboardData }));
            return clipboardData.getData('text/plain');
        }"""
    )
    assert "--- ***" in copied
    assert "https://example.com/a_b" in copied
    assert "\u2060" not in copied
