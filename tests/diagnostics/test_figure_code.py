"""Figures for paper, and the scripts that make them again: sizes of letters, texts, and the same picture."""

import io
import re
import sys
import zipfile

import numpy as np
import plotly.graph_objects as go
import pytest

from diagnostics.distributions import RowNumbers, distributions
from diagnostics.figure_code import figure_zip, matplotlib_code, plotly_code
from diagnostics.figures.distributions import ROW_SPARSITY, outlines_figure
from diagnostics.figures.printed import INCH, MIN_FONT_POINTS, PAGES, label_texts, printed
from tests.diagnostics.figure_cases import all_figures

KINDS = ("gini of two", "cosine", "histogram", "rate", "iteration", "landscape", "mask", "row prices")
COLUMN, SLIDE = PAGES["One column"], PAGES["Slide 16:9"]


def figure():
    rng = np.random.default_rng(0)
    sets = [RowNumbers(f"{'AB'[slot]} · TRIM", rng.integers(10, 30, 60) / 40, slot, 40) for slot in range(2)]
    return outlines_figure(distributions(sets), ROW_SPARSITY)


@pytest.fixture(scope="module")
def columns():
    """One figure of each kind of trace and axis, for a column."""
    figures = all_figures(20, 16, selected=[2])
    return {name: printed(figures[name], COLUMN, 8, "Title") for name in KINDS}


def letters(value, key=""):
    """Return every size of letters in a figure, in pixels."""
    if isinstance(value, dict):
        own = [value["size"]] if key.endswith("font") and "size" in value else []
        return own + [size for name, item in value.items() for size in letters(item, name)]
    if isinstance(value, list | tuple):
        return [size for item in value for size in letters(item, key)]
    return []


def test_no_letter_is_smaller_than_seven_points(columns):
    for name, drawn in columns.items():
        smallest = min(letters(drawn.layout.to_plotly_json()))
        assert smallest >= MIN_FONT_POINTS * INCH / 72 - 1e-6, name
        assert drawn.layout.width == round(COLUMN.width * INCH)
        assert drawn.layout.paper_bgcolor == "#ffffff"
    assert printed(figure(), SLIDE, 20).layout.height == 720


def test_titles_and_labels_are_text():
    evil = "<img src=x onerror=alert(1)> $x$ " + "a" * 10_000
    drawn = printed(figure(), COLUMN, 8, evil, {"A · TRIM": "<b>ours</b>", "share of rows": "rows"})
    assert drawn.layout.title.text.startswith("<b>&lt;img")
    assert len(drawn.layout.title.text) < 300
    assert drawn.layout.title.text.count("<br>") <= 2
    assert [trace.name for trace in drawn.data] == ["&lt;b&gt;ours&lt;/b&gt;", "B · TRIM"]
    assert drawn.layout.yaxis.title.text == "rows"
    assert {"A · TRIM", "share of rows"} <= set(label_texts(figure()))
    assert printed(figure(), COLUMN, 8).layout.title.text is None


def test_the_page_figure_is_left_alone():
    shown = figure()
    before = shown.to_json()
    printed(shown, COLUMN, 8, "x", {"A · TRIM": "y"})
    assert shown.to_json() == before


def unpacked(drawn, folder):
    with zipfile.ZipFile(io.BytesIO(figure_zip(drawn, "A caption.", b"row\r\n1\r\n"))) as packed:
        packed.extractall(folder)
        return set(packed.namelist())


def test_the_plotly_script_gives_the_very_figure(columns, tmp_path, monkeypatch):
    made = {}
    monkeypatch.setattr(go.Figure, "write_image", lambda self, name: made.update({name: self}))
    for name, drawn in columns.items():
        folder = tmp_path / name
        assert unpacked(drawn, folder) == {
            "figure_plotly.py",
            "figure_matplotlib.py",
            "data.npz",
            "layout.json",
            "caption.txt",
            "numbers.csv",
        }
        monkeypatch.chdir(folder)
        exec(compile((folder / "figure_plotly.py").read_text(encoding="utf-8"), "figure", "exec"), {})
        again = made.pop("figure_plotly.pdf")
        assert again.layout == drawn.layout
        assert len(again.data) == len(drawn.data)
        for first, second in zip(again.data, drawn.data, strict=True):
            assert first.to_plotly_json().keys() == second.to_plotly_json().keys()
            for axis in "xyz":
                if axis in second and second[axis] is not None:
                    np.testing.assert_array_equal(
                        np.asarray(first[axis], dtype=str), np.asarray(second[axis], dtype=str)
                    )


def test_matplotlib_scripts_are_python_and_name_every_line(columns):
    for name, drawn in columns.items():
        code, arrays = matplotlib_code(drawn)
        compile(code, name, "exec")
        assert set(re.findall(r'data\["(.*?)"\]', code)) <= arrays.keys()
    code, arrays = matplotlib_code(printed(figure(), COLUMN, 8))
    assert code.count("axes.plot(") == 2
    assert "label='A · TRIM'" in code
    assert len(code.splitlines()) < 30
    plotly, _ = plotly_code(printed(figure(), COLUMN, 8))
    assert len(plotly.splitlines()) < 14


def test_the_matplotlib_script_draws_the_same(tmp_path, monkeypatch):
    import matplotlib  # here, for it takes time

    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    drawn = printed(figure(), COLUMN, 8, "Title")
    unpacked(drawn, tmp_path)
    namespace = {}
    code = (tmp_path / "figure_matplotlib.py").read_text(encoding="utf-8")
    exec(compile(code, "figure", "exec"), namespace)
    assert (tmp_path / "figure_matplotlib.pdf").stat().st_size > 5_000
    axes = namespace["axes"]
    for line, trace in zip(axes.lines, drawn.data, strict=True):
        np.testing.assert_allclose(line.get_xydata(), np.column_stack([trace.x, trace.y]), rtol=1e-5)
        assert line.get_color() == trace.line.color
    np.testing.assert_allclose(axes.get_xlim(), drawn.layout.xaxis.range, rtol=1e-4)
    sys.modules["matplotlib.pyplot"].close("all")
