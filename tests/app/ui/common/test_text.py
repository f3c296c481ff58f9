"""Text on its way into a page; what a browser makes of it is in tests/browser/test_plain_text.py."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ui.common.text import literal
from diagnostics.format import plain_text

WORD_JOINER = "\u2060"


@given(st.text(st.characters(exclude_characters=WORD_JOINER)))
def test_nothing_is_lost_but_white_space(text):
    unescaped = re.sub(r"\\(.)", r"\1", literal(text)).replace(WORD_JOINER, "")
    assert unescaped == " ".join(text.split())


@pytest.mark.parametrize("mark", "\\`*_{}[]()<>#+-.!|$:~^&\"'=")
def test_marks_are_escaped(mark):
    assert literal(f"a{mark}b") == f"a\\{mark}b"


def test_ordinary_text_stays_as_it_is():
    assert literal("Löwe, 3 Zeilen; ‖W‖ / 日本語 @ 5 %?") == "Löwe, 3 Zeilen; ‖W‖ / 日本語 @ 5 %?"


def test_a_heading_of_a_figure_is_read_as_plotly_reads_it():
    assert plain_text("Row 3 of &lt;b&gt;x&lt;/b&gt;<br>and <b>more</b>") == "Row 3 of <b>x</b> and more"
