"""The four linked charts as numbers: what is drawn, and where each row is found in it."""

import dataclasses

import numpy as np
import pytest

from diagnostics.allocation import RowAllocation
from diagnostics.format import change, number, percent
from diagnostics.learning_rate import LearningRateTrace
from diagnostics.panel_parts import LayerNumbers, Panel, round_ticks
from diagnostics.panels import linked_panels
from diagnostics.similarity import AllocatedCosine, cosine_bands, sparsity_grid

COLUMNS = 64


def trace(gains: list[float]) -> LearningRateTrace:
    """Return a search of three rates with these gains, the first chosen; the second is not tried."""
    quality = np.array([[0.9, 0.9 + gain] for gain in gains])
    tried = np.array([True, False, True])
    return LearningRateTrace(np.array([0.02, 0.04, -0.01]), quality, np.ones_like(quality), tried, 0)


def layer(
    rows: int, target: float = 0.5, *, dead: bool = False, same: bool = False, seed: int = 0
) -> LayerNumbers:
    rng = np.random.default_rng(seed)
    sparsity = sparsity_grid(COLUMNS) / COLUMNS
    cosine = 1 - sparsity[None] ** rng.uniform(1.5, 4, (rows, 1))
    gini = rng.uniform(0.3, 0.6, rows)
    counts = rng.integers(20, 44, rows)
    if same:
        cosine, gini, counts = np.repeat(cosine[:1], rows, 0), np.full(rows, 0.4), np.full(rows, 32)
    if dead:
        cosine[:], gini[:] = 0, np.nan
    uniform = np.full(rows, round(target * COLUMNS))
    allocations = tuple(
        RowAllocation(method, label, each, COLUMNS)
        for method, label, each in (("uniform", "Uniform", uniform), ("trim", "TRIM", counts))
    )
    at = np.array([np.interp(each.row_sparsity, sparsity, sparsity) for each in allocations])
    cosines = tuple(
        AllocatedCosine(each.method, each.label, each.row_sparsity, np.where(dead, 0, 1 - x**2))
        for each, x in zip(allocations, at, strict=True)
    )
    rate_sparsity = np.array([counts / COLUMNS, np.full(rows, np.nan), 1 - counts / COLUMNS])
    return LayerNumbers(
        target, gini, sparsity, cosine, cosine_bands(cosine), allocations, cosines,
        trace([0.01, 0.02, -0.5]), rate_sparsity,
    )  # fmt: skip


def marks(panel: Panel, kind: str, *, pinned: bool = False) -> list:
    return [each for each in panel.marks if each.kind == kind and each.pinned == pinned]


def test_every_row_is_found_where_it_is_drawn():
    shown = layer(200)
    panels = linked_panels(shown)
    gini, cosine, sparsity, rate = panels.panels
    (bars,) = marks(gini, "steps")
    np.testing.assert_array_equal(np.bincount(panels.arrays["gini_bin"], minlength=len(bars.y)), bars.y)
    np.testing.assert_array_equal(np.histogram(shown.gini, bars.x)[0], bars.y)
    (bars,) = marks(sparsity, "steps")
    assert bars.style == "trim"
    np.testing.assert_array_equal(np.bincount(panels.arrays["bin_trim"], minlength=len(bars.y)), bars.y)
    sparsities = panels.arrays["count_trim"] * panels.units["count_trim"]
    np.testing.assert_allclose(sparsities, shown.allocations[1].row_sparsity, rtol=1e-12)
    np.testing.assert_allclose(panels.arrays["gini"] * panels.units["gini"], shown.gini, atol=0.5e-4)
    assert bars.labels[0].startswith(f"{bars.y[0]:g} rows with TRIM sparsity")
    assert [mark.text for mark in marks(sparsity, "rule")] == ["uniform 50.0%"]
    # A curve's steps along the axis are its cosines.
    loss = cosine.y.low + panels.arrays["curves"] / 65535 * (cosine.y.high - cosine.y.low)
    kept = np.searchsorted(shown.sparsity, panels.samples)
    expected = np.clip(
        np.log10(np.maximum(1 - shown.cosine[:, kept], 10**cosine.y.low)), cosine.y.low, cosine.y.high
    )
    np.testing.assert_allclose(loss, expected, atol=1e-4)
    np.testing.assert_allclose(panels.arrays["cosine_trim"], shown.cosines[1].cosine, rtol=1e-6)
    # The rates are in ascending order.
    assert [label for _, label in rate.x.ticks] == ["−0.01", "+0.02", "+0.04"]
    assert panels.rate_order == (1.0, 2.0, 0.0)
    (lost,) = [mark for mark in rate.marks if mark.style == "loss"]
    assert (lost.y[0], lost.labels[0]) == (0, "η = −0.01: no iteration beats uniform")
    assert [mark.text for mark in rate.marks if mark.text] == ["uniform", "chosen", "gains more"]
    steps = panels.arrays["rates"]
    assert (steps[:, 2] == 255).all(), "a rate that was not computed"
    x, (target,) = shown.rate_sparsity[0], panels.arrays["rate_target"]
    assert (np.diff(steps[np.argsort(x), 1].astype(int)) >= 0).all()
    np.testing.assert_array_equal(steps[:, 1] > target, x > shown.target)
    assert sum(sparsity.heights[0]) == 200


def test_two_layers_share_their_axes():
    shown, other = layer(200), layer(200, 0.7, seed=1)
    gini, cosine, sparsity, rate = linked_panels(shown, other).panels
    assert marks(gini, "steps", pinned=True)[0].x == marks(gini, "steps")[0].x
    assert [each.x for each in marks(cosine, "rule", pinned=True)] == [[0.7]]
    assert [each.x for each in marks(sparsity, "rule", pinned=True)] == [[0.7]]
    assert marks(rate, "points", pinned=True)
    assert gini.y.title == "rows"
    gini, _, sparsity, _ = linked_panels(shown, layer(50)).panels
    assert gini.in_shares
    assert sparsity.in_shares
    assert all(
        sum(mark.y) == pytest.approx(1)
        for mark in (*marks(gini, "steps"), *marks(gini, "steps", pinned=True))
    )


def test_cosines_that_were_rounded_to_one_leave_the_axis_alone():
    shown = layer(30)
    rounded = np.round(128 * shown.bands) / 128
    assert (rounded == 1).any()
    panel = linked_panels(dataclasses.replace(shown, bands=rounded)).panels[1]
    assert panel.y.low == -3, "the smallest loss that was recorded is 1/128"


@pytest.mark.parametrize("scale", ["logarithmic", "linear"])
@pytest.mark.parametrize(
    "shown",
    [layer(1), layer(30, same=True), layer(5, dead=True), layer(300, 0.01)],
    ids=["one", "same", "dead", "low"],
)
def test_odd_layers_have_axes_and_finite_marks(shown, scale):
    for panel in (
        *linked_panels(shown, cosine_axis=scale).panels,
        *linked_panels(shown, layer(30, 0.7, same=True), scale).panels,
    ):
        assert panel.x.low < panel.x.high
        assert panel.y.low < panel.y.high
        assert all(tick >= 0 for tick, _ in panel.y.ticks) or panel.name in ("cosine", "rate"), (
            "no count below 0"
        )
        for mark in panel.marks:
            assert np.isfinite([*mark.x, *mark.y, *mark.low]).all()


def test_a_wide_layer_fits_into_a_message():
    shown = layer(14_000)
    panels = linked_panels(shown)
    # A page may send two, the first while more of the text is read: with it and all else at most 1 MB.
    assert sum(array.nbytes for array in panels.arrays.values()) < 400_000
    assert len(panels.samples) >= 8
    axis, steps = panels.panels[1].y, panels.arrays["curves"]
    loss = np.log10(
        np.maximum(1 - shown.cosine[:, np.searchsorted(shown.sparsity, panels.samples)], 10**axis.low)
    )
    placed = axis.low + steps / 255 * (axis.high - axis.low)
    np.testing.assert_allclose(placed, np.clip(loss, axis.low, axis.high), atol=(axis.high - axis.low) / 500)


def test_without_a_search_or_a_loss():
    shown = layer(20)
    quiet = LayerNumbers(*(getattr(shown, name) for name in list(shown.__dict__)[:7]))
    assert linked_panels(quiet).panels[3].note == "No learning rate was searched here."


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 46, (0, 10, 20, 30, 40)),
        (0.402, 0.503, (0.42, 0.44, 0.46, 0.48, 0.5)),
        (-3, 4, (-2, 0, 2, 4)),
        (1, 1, (1,)),
    ],
)
def test_round_ticks(low, high, ticks):
    assert round_ticks(low, high) == ticks


def test_numbers_are_written_one_way():
    assert [number(0.99964), number(49123.4), number(-0.5), number(float("nan")), number(0)] == [
        "0.9996", "49,123", "−0.5000", "–", "0",
    ]  # fmt: skip
    assert [change(0.010312), change(-0.00004), change(0)] == ["+0.010", "−0.000040", "0"]
    assert [percent(0.7), percent(0.99996), percent(1), percent(0)] == ["70.0%", "99.996%", "100.0%", "0.0%"]
