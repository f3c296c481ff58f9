"""Figures are tested by their traces: names, colours, axes, size, and what becomes of text from users."""

import re

import numpy as np
import plotly.graph_objects as go
import pytest

from diagnostics.allocation import RowAllocation, pool_mask, row_scatter, row_sparsity_statistics
from diagnostics.concentration import gini_statistics, lorenz_curves
from diagnostics.figures.allocation import row_sparsity_ecdf, row_sparsity_histogram, sorted_row_sparsity
from diagnostics.figures.concentration import gini_histogram, lorenz_figure
from diagnostics.figures.frame import spread_labels
from diagnostics.figures.mask import mask_figure
from diagnostics.figures.row_detail import row_scores_figure
from diagnostics.figures.scatter import row_scatter_figure
from diagnostics.figures.similarity import cosine_figure
from diagnostics.figures.theme import METHOD_STYLES, PALETTES, escape, series_styles
from diagnostics.row_detail import row_scores
from diagnostics.similarity import cosine_statistics, sparsity_grid
from tests.diagnostics.figure_cases import all_figures, sparsities_of, subtitle, traces, visible_texts

EVIL = "<b onclick=x>A&B</b> %{x} $a$"


@pytest.fixture(scope="module")
def figures():
    return all_figures(60, 48, selected=[3, 50])


def test_every_figure_says_what_it_asks_and_names_its_axes(figures):
    for name, figure in figures.items():
        assert isinstance(figure, go.Figure)
        assert figure.layout.title.text.endswith("?</b>"), name
        assert len(figure.layout.title.text) <= 7 + 48, f"{name}: a title of two lines is cut"
        assert figure.layout.title.subtitle.text, name
        layout = figure.layout.to_plotly_json()
        axes = [axis for key, axis in layout.items() if re.fullmatch(r"[xy]axis\d*", key)]
        assert len(axes) >= 2
        assert all(axis["title"]["text"] for axis in axes), name


def test_every_sparsity_says_what_it_is_of(figures):
    """Row or layer: the word sparsity never stands alone in what a reader sees."""
    for name, figure in figures.items():
        assert sparsities_of(figure) <= {"row", "rows'", "layer"}, name


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_both_themes_draw_everything_in_their_own_ink(theme):
    for name, figure in all_figures(20, 16, selected=[2], theme=theme).items():
        layout = figure.layout.template.layout
        assert layout.font.color == PALETTES[theme].ink, name
        assert layout.paper_bgcolor == "rgba(0,0,0,0)"
        other = PALETTES["dark" if theme == "light" else "light"]
        assert other.ink not in figure.to_json(), name


def test_a_method_has_one_colour_and_a_cue_without_colour(figures):
    for name in ("sorted", "ecdf"):
        for label, method in (("uniform", "uniform"), ("TRIM", "trim")):
            (line,) = traces(figures[name], label)
            assert (line.line.color, line.line.dash) == (
                METHOD_STYLES[method].colour,
                METHOD_STYLES[method].dash,
            )
    outlines = {each.name: (each.line.color, each.line.dash) for each in figures["histogram"].data[:2]}
    expected = {"uniform": METHOD_STYLES["uniform"], "TRIM": METHOD_STYLES["trim"]}
    assert outlines == {name: (style.colour, style.dash) for name, style in expected.items()}
    assert traces(figures["cosine"], "TRIM")[0].marker.symbol == METHOD_STYLES["trim"].symbol


def test_styles_differ_in_colour_and_cue():
    styles = series_styles(["uniform", "trim", "optimal", "owl", "alphapruning", "trim"])
    assert len({style.colour for style in styles[:5]}) == 5
    assert len({style.symbol for style in styles[:5]}) == 5
    assert styles[5].colour == styles[1].colour
    again, first = styles[5], styles[1]
    assert all(getattr(again, cue) != getattr(first, cue) for cue in ("dash", "symbol", "pattern"))


def test_marks_that_are_rows_carry_their_row(figures):
    for name in ("scatter gini", "scatter weight_norm", "scatter cosine"):
        points, selected = figures[name].data
        assert list(points.customdata) == list(range(60))
        assert list(selected.customdata) == [3, 50]
        assert selected.marker.line.color == PALETTES["light"].ink
    bars = figures["gini"].data[0]
    assert list(bars.customdata) == list(range(len(bars.x)))
    outline = figures["histogram"].data[0]
    assert list(outline.customdata[1:-1:2]) == list(range(len(outline.x) // 2 - 1))
    assert outline.y[1:-1:2].sum() == outline.y[2:-1:2].sum() == 60
    for name in ("gini", "histogram"):
        assert figures[name].layout.yaxis.range[0] < min(figures[name].layout.yaxis.tickvals) == 0, (
            "no count below 0"
        )
    assert list(traces(figures["gini"], "selected rows")[0].customdata) == [3, 50]
    assert list(traces(figures["mask"], "selected rows")[0].customdata) == [3, 50]


def test_chosen_rows_are_lines(figures):
    for name in ("lorenz", "cosine", "row paths"):
        lines = [traces(figures[name], f"row {row}")[0] for row in (3, 50)]
        assert len({line.line.dash for line in lines}) == 2, name


def test_a_spike_is_cut_and_says_so():
    uniform = RowAllocation("uniform", "uniform", np.full(500, 70), 100)
    trim = RowAllocation("trim", "TRIM", np.arange(500) % 50 + 45, 100)
    figure = row_sparsity_histogram(row_sparsity_statistics([uniform, trim]))
    assert max(figure.data[0].y) == 500
    assert figure.layout.yaxis.range[1] < 50
    assert [note.text for note in figure.layout.annotations] == ["uniform: 500 rows ↑"]
    flat = RowAllocation("optimal", "Optimal", np.arange(500) % 80 + 20, 100)
    three = row_sparsity_histogram(row_sparsity_statistics([uniform, trim, flat]))
    assert three.layout.yaxis.range[1] > max(three.data[1].y)  # only the spike is cut
    assert len(three.layout.annotations) == 1
    alike = row_sparsity_histogram(row_sparsity_statistics([uniform, uniform]))
    assert alike.layout.yaxis.range[1] > 500
    assert not alike.layout.annotations


def test_degenerate_layers_still_draw():
    for shape in ((1, 1), (1, 5), (5, 1)):
        for figure in all_figures(*shape, selected=[0]).values():
            assert figure.to_json()
    for figure in all_figures(3, 4).values():
        assert figure.to_json()
    dead = gini_histogram(gini_statistics({"wanda": np.full(4, np.nan)}))
    assert "no row has a Gini" in subtitle(dead)
    assert "All scores are zero in: row 1" in subtitle(
        lorenz_figure(lorenz_curves(np.array([[1.0, 2], [0, 0]]), [0, 1]))
    )
    no_output = cosine_figure(cosine_statistics(np.zeros((2, 2)), np.array([0.0, 1]), 0.5))
    assert "2 rows without output" in subtitle(no_output)
    constant = row_scatter(RowAllocation("trim", "TRIM", np.full(5, 2), 4), "gini", np.arange(5.0))
    assert "No rank correlation" in subtitle(row_scatter_figure([constant]))
    assert (
        "are zero"
        in row_scores_figure(
            row_scores(0, np.zeros(4), [RowAllocation("trim", "TRIM", np.array([2]), 4)])
        ).layout.title.subtitle.text
    )


def test_text_from_users_is_never_read_as_markup():
    assert escape(EVIL) == "&lt;b onclick=x&gt;A&amp;B&lt;/b&gt; %&#123;x} &#36;a&#36;"
    seen = 0
    for name, figure in all_figures(20, 16, selected=[2], label=EVIL).items():
        for text in visible_texts(figure):
            assert "onclick=x>" not in text, (name, text)
            assert "%{x} &" not in text, (name, text)
            seen += "&lt;b" in text
    assert seen > 10


def test_wide_layers_stay_small():
    rng = np.random.default_rng(0)
    rows, columns, selected = 14_000, 14_000, [5, 700, 13_999]
    trim = RowAllocation("trim", "TRIM", rng.integers(0, columns + 1, rows), columns)
    uniform = RowAllocation("uniform", "uniform", np.full(rows, 7_000), columns)
    optimal = RowAllocation("optimal", "optimal", rng.integers(0, columns + 1, rows), columns)
    statistics = row_sparsity_statistics([uniform, trim, optimal])
    scatter = row_scatter_figure([row_scatter(trim, "gini", rng.random(rows), selected)], selected)
    assert "4,000 of 14,000 rows drawn" in subtitle(scatter)
    sparsity = sparsity_grid(columns) / columns
    mask = np.ones((rows, 700), bool)
    mask[:, ::3] = False
    wide = {
        "gini": gini_histogram(gini_statistics({"wanda": rng.random(rows)}), selected),
        "cosine": cosine_figure(
            cosine_statistics(rng.random((rows, len(sparsity)), np.float32), sparsity, 0.7, [], selected)
        ),
        "histogram": row_sparsity_histogram(statistics, selected),
        "sorted": sorted_row_sparsity(statistics, selected),
        "ecdf": row_sparsity_ecdf(statistics),
        "scatter": scatter,
        "row scores": row_scores_figure(row_scores(5, rng.random(columns), statistics.allocations)),
        "mask": mask_figure(pool_mask(mask), selected),
    }
    for name, figure in wide.items():
        assert len(figure.to_json()) < 500_000, name
        assert all(trace.type != "scattergl" for trace in figure.data), name


def test_labels_keep_their_distance_and_their_order():
    assert spread_labels([0.5, 0.1], 0.05) == [0.5, 0.1]
    moved = spread_labels([0.5, 0.5, 0.51, 0.9], 0.1)
    assert moved[3] == 0.9
    assert np.diff(moved[:3]) == pytest.approx([0.1, 0.1])
    assert np.mean(moved[:3]) == pytest.approx(np.mean([0.5, 0.5, 0.51]))
    assert spread_labels([], 0.1) == []
