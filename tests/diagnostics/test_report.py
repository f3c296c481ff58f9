"""The HTML report: whole in itself, nothing fetched, no word of a user read as HTML."""

import re

import pytest

from diagnostics.export import Chart, Heading, Paragraph, Table, report_html
from diagnostics.figures.frame import frame
from diagnostics.figures.theme import escape

EVIL = "<script>alert(1)</script> & <b>bold</b>"


def chart(title: str = "What is seen?", subtitle: str = "A <b>line</b>.<br>It ascends.") -> Chart:
    figure = frame("light", title=title, subtitle=subtitle, x_title="x (unit)", y_title="y (unit)")
    figure.add_scatter(x=[0, 1], y=[1, 2])
    return Chart(figure, f"A line {EVIL}")


def page(*parts: object) -> str:
    return report_html(f"Run {EVIL}", EVIL, parts).decode()


def own_part(html: str) -> str:
    """Return the page without plotly.js."""
    return re.sub(r"<script>.*?</script>", "", html, count=1, flags=re.S)


def test_words_are_escaped_everywhere():
    html = own_part(
        page(
            Heading(EVIL),
            Paragraph(EVIL),
            Paragraph(EVIL, code=True),
            Table(EVIL, (EVIL, "b"), ((EVIL, "c"),)),
            Table(EVIL, ("", ""), ((EVIL, "c"),), folded=True),
            chart(escape(EVIL), escape(EVIL)),
        )
    )
    assert "<script>alert" not in html
    assert "<b>bold" not in html
    assert html.count("&lt;b&gt;bold&lt;/b&gt;") >= 11


def test_nothing_is_fetched():
    html = page(chart())
    assert "default-src 'none'" in html
    assert not re.search(r"<(script|img|iframe|link)[^>]*\b(src|href)=", own_part(html))
    assert html.count("Plotly.newPlot(") >= 1
    assert '"showSendToCloud": false' in html
    assert '"displaylogo": false' in html


def test_plotly_is_included_once_and_headings_are_text():
    one, two = page(chart()), page(chart(), chart())
    assert len(two) - len(one) < 100_000
    assert "<h3>What is seen?</h3>" in one
    assert '<p class="subtitle">A line. It ascends.</p>' in one


def test_the_figure_itself_is_left_alone():
    shown = chart()
    page(shown)
    assert "What is seen?" in shown.figure.layout.title.text


def test_tables():
    html = own_part(page(Table("two", ("a", "b"), (("1", "2"), ("3", "4")), folded=True)))
    assert html.count("<tr>") == 3
    assert "<details>" in html
    assert "<th>" not in own_part(page(Table("no heading", ("", ""), (("1", "2"),))))
    with pytest.raises(ValueError, match="needs 2 cells"):
        page(Table("ragged", ("a", "b"), (("1",),)))


def test_a_stranger_has_no_place():
    with pytest.raises(TypeError, match="no place for int"):
        page(3)
