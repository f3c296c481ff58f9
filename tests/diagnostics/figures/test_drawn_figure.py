"""A frame of a drawing as a figure: its marks in their places and colours, and code that draws it again."""

import numpy as np
import pytest

from diagnostics.figure_code import figure_zip
from diagnostics.figures.drawing import HEIGHT, WIDTH, Drawing
from diagnostics.figures.drawn_figure import drawn_figure
from diagnostics.figures.printed import PAGES, printed
from diagnostics.figures.theme import METHOD_STYLES


def drawing() -> Drawing:
    made = Drawing(2)
    made.rect("fill trim", np.array([10.0, 20.0]), 30, 40, 50)
    made.curve("stroke uniform dash", np.array([0.0, 100.0]), np.array([[5.0, 6.0], [7.0, 8.0]]))
    made.text(4, 15, ["first", "<b>second</b>"], "muted small", "end")
    made.circle("fill gain", 50, 60, 5)
    made.line("stroke faint thin", 0, 0, 1, 1, stroke_opacity=np.array([0.0, 1.0]))
    return made


def test_a_frame_as_a_figure():
    figure = drawn_figure(drawing(), 1, "<i>Why?</i>")
    rect, curve, text, circle, line = figure.data
    assert (rect.x, rect.y) == ((20, 60, 60, 20, 20), (30, 30, 80, 80, 30))
    assert rect.fillcolor == METHOD_STYLES["trim"].colour
    assert (curve.x, curve.y, curve.line.dash) == ((0, 100), (7, 8), "dash")
    assert (text.text[0], text.textposition) == ("&lt;b&gt;second&lt;/b&gt;", "middle left")
    assert np.hypot(np.subtract(circle.x, 50), np.subtract(circle.y, 60)) == pytest.approx(5, abs=0.1)
    assert line.opacity == 1
    assert drawn_figure(drawing(), 0, "").data[4].opacity == 0
    assert (figure.layout.xaxis.range, figure.layout.yaxis.range) == ((0, WIDTH), (HEIGHT, 0))
    assert "&lt;i&gt;" in figure.layout.title.text
    with pytest.raises(ValueError, match="frames 0 to 1"):
        drawn_figure(drawing(), 2, "")


def test_it_is_printed_in_its_shape_with_letters_of_seven_points():
    figure = printed(drawn_figure(drawing(), 1, "Why?"), PAGES["One column"], 8, "Why?")
    assert figure.data[2].textfont.size == pytest.approx(7 * 96 / 72)
    assert figure.layout.height < figure.layout.width
    assert figure_zip(figure, "caption", None)
