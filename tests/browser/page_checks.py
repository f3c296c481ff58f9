"""Checks of any page at any width: nothing sticks out, no word of a chart is cut, nobody is kept out."""

import re

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page


def overflow(page: Page) -> list[str]:
    """Return what of the page sticks out of the window sideways."""
    return page.evaluate(
        """() => [...document.querySelectorAll('[data-testid=stMain], [data-testid=stMain] *')]
            .filter((node) => node.getClientRects().length)
            .filter((node) => !node.closest('[data-testid=stDataFrame], [data-testid=stMultiSelect]'))  // scroll inside
            .filter((node) => node.type !== 'range')  // invisible; it stands around the slider's thumb
            .filter((node) => {
                const box = node.getBoundingClientRect();
                return box.width > 1 && box.height > 1 && (box.right > innerWidth + 1 || box.left < -1);
            })
            .map((node) => `${node.tagName} ${node.className} ${node.textContent.slice(0, 40)}`)"""
    )


def cut_labels(page: Page) -> list[str]:
    """Return words of charts that stick out of their chart."""
    return page.evaluate(
        """() => [...document.querySelectorAll('[data-testid=stMain] .js-plotly-plot')].flatMap((chart) => {
            const frame = chart.getBoundingClientRect();
            return [...chart.querySelectorAll('.main-svg text')].filter((text) => {
                const box = text.getBoundingClientRect();
                return box.width > 0 && (box.left < frame.left - 1 || box.right > frame.right + 1 ||
                                         box.top < frame.top - 1 || box.bottom > frame.bottom + 1);
            }).map((text) => text.textContent);
        })"""
    )


def kept_out(page: Page) -> list[str]:
    """Return what axe finds serious or critical for readers with a screen reader, a keyboard or weak eyes."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    return [
        f"{found['id']}: {node['html'][:120]}"
        for found in page.evaluate("axe.run({resultTypes: ['violations']})")["violations"]
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"]
    ]


def words(page: Page) -> int:
    """Return how many words are read on a page of which nothing is opened; icons and numbers do not count."""
    return page.evaluate(
        """() => {
            const main = document.querySelector('[data-testid=stMain]');
            const walk = document.createTreeWalker(main, NodeFilter.SHOW_TEXT);
            const unread = '[data-testid=stIconMaterial], style, script, details:not([open]) .box';
            let count = 0;
            while (walk.nextNode()) {
                const {parentElement: parent, textContent: text} = walk.currentNode;
                if (parent.closest(unread) || !parent.getClientRects().length) continue;
                count += text.match(/\\p{L}[\\p{L}\\p{N}_'’-]*/gu)?.length ?? 0;
            }
            return count;
        }"""
    )


def nothing_is_cut_and_the_colours_are_right(page: Page, colour_scheme: str) -> None:
    """Assert that nothing sticks out of the page or its charts, and that it is as bright as the reader asks for."""
    assert overflow(page) == []
    assert cut_labels(page) == []
    background = page.get_by_test_id("stApp").evaluate("(node) => getComputedStyle(node).backgroundColor")
    bright = sum(map(int, re.findall(r"\d+", background)[:3])) > 3 * 127
    assert bright == (colour_scheme == "light")
