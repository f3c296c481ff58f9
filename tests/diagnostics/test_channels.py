"""Channels of an MLP, against sets in Python; the figure."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from diagnostics.channels import channel_pair
from diagnostics.figures.channels import channels_figure


def test_a_tenth_of_the_channels_is_shared_as_sets_are():
    rng = np.random.default_rng(0)
    gate, up = rng.random(40), rng.random(40)
    up[:20] = gate[:20]
    found = channel_pair(gate, up)
    tops = [set(sorted(range(40), key=lambda place: (-each[place], place))[:4]) for each in (gate, up)]
    assert found.shared == len(tops[0] & tops[1]) / 4
    assert found.correlation.coefficient == pytest.approx(spearmanr(gate, up).statistic)
    alike = channel_pair(np.full(3, 0.5), np.full(3, 0.5))
    assert alike.correlation is None
    assert alike.shared == 1
    with pytest.raises(ValueError, match="second must have shape"):
        channel_pair(gate, up[1:])


def test_the_third_part_is_the_colour():
    pair = channel_pair(np.array([0.2, 0.8, 0.5]), np.array([0.1, 0.9, 0.4]))
    down = np.array([0.3, 0.6, 0.9])
    points, marked = channels_figure(pair, ("gate row", "up row"), ("down column", down), [2]).data
    np.testing.assert_allclose(points.marker.color, down, rtol=1e-6)
    assert points.text[2] == "<br>down column: 90.0%"
    assert list(marked.customdata) == [2]
    (alone,) = channels_figure(pair, ("up row", "down column")).data
    assert alone.text is None


def test_the_colours_ticks_differ():
    pair = channel_pair(np.array([0.2, 0.8, 0.5]), np.array([0.1, 0.9, 0.4]))

    def ticks(down):
        figure = channels_figure(pair, ("gate row", "up row"), ("down column", np.array(down)))
        return list(figure.data[0].marker.colorbar.ticktext)

    assert ticks([0.3, 0.6, 0.9]) == ["30%", "60%", "90%"]
    assert ticks([0.6, 0.601, 0.602]) == ["60.0%", "60.1%", "60.2%"]
    assert ticks([0.6, 0.6, 0.6]) == ["60.00%"]
