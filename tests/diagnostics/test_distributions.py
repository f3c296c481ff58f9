"""Distributions in shared bins, agreement of masks, against counts worked out by hand; their figures."""

import itertools
import json

import numpy as np
import pytest

from diagnostics.distributions import RowNumbers, distributions
from diagnostics.figures.distributions import (
    GINI,
    ROW_SPARSITY,
    agreement_figure,
    ecdf_figure,
    outlines_figure,
    ridges_figure,
)
from diagnostics.figures.printed import PAGES, printed
from diagnostics.figures.theme import PALETTES, SLOT_COLOURS, slot_style
from tests.diagnostics.figure_cases import subtitle, traces


def sets(*rows, columns=40):
    rng = np.random.default_rng(0)
    return [
        RowNumbers(f"{'ABCDEFGH'[slot]} · <b>", rng.integers(10, 30, count) / columns, slot, columns)
        for slot, count in enumerate(rows)
    ]


def test_layers_of_different_height_have_the_same_area():
    found = distributions(sets(400, 30))
    assert found.histogram.counts.sum(axis=1).tolist() == [400, 30]
    np.testing.assert_allclose(found.shares.sum(axis=1), 1)
    assert found.bin_width == pytest.approx(1 / 40), "one count a bin"
    mixed = distributions([*sets(5), *sets(5, columns=30)])
    assert mixed.bin_width == pytest.approx(0.01), "other widths have round bins"
    empty = distributions([RowNumbers("A", np.full(3, np.nan))])
    assert np.isnan(empty.quartiles).all()
    with pytest.raises(ValueError, match="at least one"):
        distributions([])


def test_outlines_are_a_slots_and_no_set_is_cut_off():
    found = distributions(sets(400, 30))
    figure = outlines_figure(found, ROW_SPARSITY)
    bars, lines = figure.data[:2], figure.data[2:]
    assert [line.line.color for line in lines] == list(SLOT_COLOURS["light"][:2])
    assert len({line.line.dash for line in lines}) == 2
    for bar, line, share in zip(bars, lines, found.shares, strict=True):
        np.testing.assert_allclose(bar.y, share, rtol=1e-6)
        np.testing.assert_allclose(
            line.y[1:-1:2], share[share.nonzero()[0][0] : share.nonzero()[0][-1] + 1], rtol=1e-6
        )
        assert max(line.y) < figure.layout.yaxis.range[1]
    assert figure.layout.showlegend
    counts = outlines_figure(found, ROW_SPARSITY, "count", [3])
    assert max(counts.data[0].y) == found.histogram.counts[0].max()
    assert list(traces(counts, "selected rows under B · &lt;b&gt;")[0].customdata) == [3]


def test_a_spike_is_cut_and_says_so():
    uniform = RowNumbers("C", np.full(500, 0.5), 2, 40)
    figure = outlines_figure(distributions([*sets(400, 30), uniform]), ROW_SPARSITY)
    assert figure.layout.yaxis.range[1] < 0.5
    assert [note.text for note in figure.layout.annotations] == ["C: 100.0% ↑"]
    alone = outlines_figure(distributions([uniform]), ROW_SPARSITY)
    assert alone.layout.yaxis.range[1] > 1
    ridges = ridges_figure(distributions([*sets(400), uniform]), ROW_SPARSITY)
    assert "Spikes are cut" in subtitle(ridges)


def test_distribution_functions_end_at_one():
    (first, second) = ecdf_figure(distributions(sets(400, 30)), ROW_SPARSITY).data
    assert (first.y[0], first.y[-1], second.y[-1]) == (0, 1, 1)
    assert list(second.y) == sorted(second.y)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_ridges_stand_one_above_the_other(theme):
    rng = np.random.default_rng(0)
    found = distributions([RowNumbers(f"block {b}", rng.uniform(0.3 + 0.1 * b, 0.5, 40)) for b in range(3)])
    figure = ridges_figure(found, GINI, theme)
    grounds = [min(traces(figure, f"block {block}")[0].y) for block in range(3)]
    assert grounds == [2, 1, 0], "the first is at the top"
    tops = [max(traces(figure, f"block {block}")[0].y) for block in range(3)]
    assert all(top < ground + 1 for top, ground in zip(tops, grounds, strict=True)), "few do not overlap"
    medians = [traces(figure, f"median of block {block}")[0].x[0] for block in range(3)]
    np.testing.assert_allclose(medians, found.quartiles[:, 1], rtol=1e-6)
    assert figure.layout.template.layout.font.color == PALETTES[theme].ink
    assert json.loads(
        ridges_figure(distributions([RowNumbers("0", np.full(3, np.nan))]), GINI, theme).to_json()
    )


def test_a_hundred_experts_fit_a_screen():
    rows = np.linspace(0.3, 0.9, 5)
    found = distributions([RowNumbers(str(expert), rows, 0) for expert in range(128)])
    assert ridges_figure(found, ROW_SPARSITY).layout.height < 900


def test_long_labels_of_ridges_have_room_on_the_page_and_in_print():
    rows = np.linspace(0.3, 0.9, 40)
    words = "15.self_attn.q_proj Optimal 91%"
    found = distributions(
        [RowNumbers(f"{each} · {words}", rows, slot) for slot, each in enumerate("ABCDEFGH")]
    )
    figure = ridges_figure(found, ROW_SPARSITY)
    assert set(figure.layout.yaxis.ticktext) == {
        f"{each}\u00a0· 15.self_attn.q_proj<br>Optimal 91%" for each in "ABCDEFGH"
    }
    low, high = figure.layout.yaxis.range
    column, slide = printed(figure, PAGES["One column"], 8), printed(figure, PAGES["Slide 16:9"], 20)
    for shown, line in (
        (figure, 14.3),
        (column, 1.3 * 8 * 96 / 72),
        (slide, 1.3 * slide.layout.yaxis.tickfont.size),
    ):
        plot = shown.layout.height - shown.layout.margin.t - shown.layout.margin.b
        assert plot / (high - low) > 2 * line, "two lines between one ground and the next"


def test_agreement_of_masks_is_seen_beside_chance():
    figure = agreement_figure(distributions([RowNumbers("A and B", np.array([0.4, 0.9]))]), 0.3, of="row")
    low, high = figure.layout.xaxis.range
    assert low < 0.3 < high


# What is left of linear RGB in the eyes of the colour-blind (Machado, Oliveira and Fernandes 2009, severity 1).
EYES = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
    "grey": [[0.2126, 0.7152, 0.0722]] * 3,
}
_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def _linear(colour):
    """Linear RGB of a colour such as "#004C7E"."""
    shares = np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)


def _lab(linear):
    """CIE L*a*b* of linear RGB in sRGB's primaries."""
    share = _XYZ @ linear / _XYZ.sum(axis=1)
    x, y, z = np.where(share > 216 / 24389, np.cbrt(share), (24389 / 27 * share + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(
    ("eyes", "least"), [("protanopia", 19), ("deuteranopia", 20), ("tritanopia", 18), ("grey", 7)]
)
def test_the_eight_slots_are_told_apart_by_all_eyes(theme, eyes, least):
    seen = [_lab(np.clip(np.array(EYES[eyes]) @ _linear(each), 0, 1)) for each in SLOT_COLOURS[theme]]
    assert min(np.linalg.norm(one - other) for one, other in itertools.combinations(seen, 2)) > least
    assert len({slot_style(slot, theme).dash for slot in range(8)}) == 8


@pytest.mark.parametrize(("theme", "paper"), [("light", "#ffffff"), ("dark", PALETTES["dark"].surface)])
def test_slots_stand_out_from_the_page(theme, paper):
    ground = _linear(paper) @ EYES["grey"][0]
    for shade in (_linear(colour) @ EYES["grey"][0] for colour in SLOT_COLOURS[theme]):
        assert (max(shade, ground) + 0.05) / (min(shade, ground) + 0.05) > 2.95
