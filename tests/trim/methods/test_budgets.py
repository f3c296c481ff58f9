"""Budgets: what each method asks for, against naive readings of the papers; the projection, by its properties."""

import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import trim
from trim.methods.alphapruning import alpha_budgets, squared_singular_values, tail_exponent
from trim.methods.budgets import project_budgets, read_budgets
from trim.methods.owl import outlier_share, owl_budgets

SHAPES = {"0.q": (8, 10), "0.up": (30, 10), "1.q": (8, 10), "1.up": (30, 10)}

layers = st.lists(
    st.tuples(st.integers(1, 40), st.integers(1, 40), st.floats(-3, 3)), min_size=1, max_size=12
)


def weighted_mean(budgets, shapes):
    weights = {name: math.prod(shape) for name, shape in shapes.items()}
    return sum(budgets[name] * weights[name] for name in shapes) / sum(weights.values())


@given(layers, st.floats(0.001, 0.999), st.sampled_from([0.5, 0.9, 0.95, 1.0]))
def test_projection(drawn, target, cap):
    shapes = {f"{index}.a": (rows, columns) for index, (rows, columns, _) in enumerate(drawn)}
    asked = {f"{index}.a": budget for index, (_, _, budget) in enumerate(drawn)}
    limits = {
        name: rows * min(columns, math.floor(cap * columns + 1e-9))
        for name, (rows, columns) in shapes.items()
    }
    total = round(target * sum(rows * columns for rows, columns in shapes.values()))
    if total > sum(limits.values()):
        with pytest.raises(trim.SparsityError, match="cannot be reached"):
            project_budgets(asked, shapes, target, cap, method="test")
        return
    budgets = project_budgets(asked, shapes, target, cap, method="test")
    assert sum(budgets.totals.values()) == total
    assert all(0 <= budgets.totals[name] <= limits[name] for name in shapes)
    # Who asks for more gets more, bounds and one weight of rounding aside.
    for one in shapes:
        for other in shapes:
            if asked[one] < asked[other] and budgets.totals[other] < limits[other]:
                rounding = 1 / math.prod(shapes[one]) + 1 / math.prod(shapes[other])
                assert budgets.layers[one] <= budgets.layers[other] + rounding + 1e-9
    again = project_budgets(budgets.layers, shapes, budgets.sparsity, cap, method="test")
    assert again.totals == budgets.totals


def test_clipped_layers_are_reported_and_the_rest_makes_up_for_them():
    budgets = project_budgets(
        {"0.q": 1.4, "0.up": 0.5, "1.q": -0.2, "1.up": 0.5}, SHAPES, 0.5, 0.9, method="test"
    )
    assert budgets.clipped == ("0.q", "1.q")
    assert (budgets.layers["0.q"], budgets.layers["1.q"]) == (0.9, 0.0)
    assert budgets.layers["0.up"] == budgets.layers["1.up"] == pytest.approx(0.5, abs=0.02)
    assert budgets.sparsity == 0.5


def test_what_is_reachable_stays_as_it_was_asked_for():
    asked = {"0.q": 0.3, "0.up": 0.6, "1.q": 0.5, "1.up": 0.4}
    budgets = project_budgets(asked, SHAPES, weighted_mean(asked, SHAPES), 0.95, method="test")
    assert budgets.layers == pytest.approx(asked)
    assert budgets.clipped == ()


def test_a_budget_that_is_not_a_number():
    with pytest.raises(trim.SettingsError, match=r"0\.up"):
        project_budgets(
            {"0.q": 0.3, "0.up": math.nan, "1.q": 0.5, "1.up": 0.4}, SHAPES, 0.5, 0.95, method="test"
        )


def test_owl_by_its_formula():
    outliers, target, width = [0.05, 0.02], 0.7, 0.08
    shapes = {"0.q": (8, 10), "0.up": (30, 10), "1.q": (8, 10), "1.up": (60, 10)}
    ratios = np.array([2 * width, 0.0])  # (LOD − min) / (max − min) · 2λ
    weights = np.array([8 * 10 + 30 * 10, 8 * 10 + 60 * 10])
    keep = ratios - (ratios * weights).sum() / weights.sum() + 1 - target
    budgets = owl_budgets(outliers, shapes, target, width)
    assert budgets["0.q"] == budgets["0.up"] == pytest.approx(1 - keep[0])
    assert budgets["1.q"] == budgets["1.up"] == pytest.approx(1 - keep[1])
    assert weighted_mean(budgets, shapes) == pytest.approx(target)


def test_outlier_share_is_of_the_whole_block():
    scores = [torch.rand(5, 7) ** 4, torch.rand(3, 7) ** 4]
    entries = torch.cat([score.flatten() for score in scores]).double()
    expected = float((entries > 5 * entries.mean()).double().mean())
    assert outlier_share(scores, 5) == pytest.approx(expected)


def test_alphapruning_by_its_formula():
    exponents, target, width = [2.0, 5.0, 3.0], 0.6, 0.3
    shapes = {"0.a": (8, 10), "1.a": (30, 10), "2.a": (20, 10)}
    ratios = np.array([1 - width, 1 + width, 1 - width + 2 * width / 3])
    weights = np.array([80, 300, 200])
    expected = ratios * target * weights.sum() / (ratios * weights).sum()
    budgets = alpha_budgets(exponents, shapes, target, width)
    np.testing.assert_allclose(list(budgets.values()), expected)
    assert weighted_mean(budgets, shapes) == pytest.approx(target)


def test_methods_that_see_no_difference_are_uniform():
    uniform = dict.fromkeys(SHAPES, 0.7)
    assert owl_budgets([0.1, 0.1], SHAPES, 0.7, 0.08) == pytest.approx(uniform)
    assert alpha_budgets([3.0, 3.0], SHAPES, 0.7, 0.3) == pytest.approx(uniform)
    assert alpha_budgets([math.nan, math.nan], SHAPES, 0.7, 0.3) == pytest.approx(uniform)


def test_spectrum():
    weight = torch.randn(9, 14)
    expected = torch.linalg.svdvals(weight.double()).square().flip(0)
    torch.testing.assert_close(squared_singular_values(weight), expected)
    torch.testing.assert_close(squared_singular_values(weight.T), expected)


def test_hill_estimator_finds_the_exponent_of_a_power_law():
    drawn = np.random.default_rng(0).random(5_000)
    spectrum = torch.from_numpy(np.sort((1 - drawn) ** (-1 / 1.5)))  # density λ^−2.5 above 1
    assert tail_exponent(spectrum, "alpha_mid") == pytest.approx(2.5, abs=0.1)
    assert tail_exponent(spectrum, "alpha_peak") == pytest.approx(2.5, abs=0.1)


def test_alpha_peak_by_its_definition():
    spectrum = squared_singular_values(
        torch.randn(60, 80, generator=torch.Generator().manual_seed(3))
    ).numpy()
    counts, edges = np.histogram(np.log10(spectrum), bins=100)
    peak = 10 ** edges[counts.argmax()]
    best = None
    for start, least in enumerate(spectrum[:-1]):
        if 0.95 * peak <= least < 1.5 * peak:
            tail = spectrum[start:]
            alpha = 1 + len(tail) / sum(math.log(value / least) for value in tail)
            distance = max(
                abs(1 - (value / least) ** (1 - alpha) - place / len(tail))
                for place, value in enumerate(tail)
            )
            if best is None or distance < best[0]:
                best = (distance, alpha)
    assert tail_exponent(torch.from_numpy(spectrum), "alpha_peak") == pytest.approx(best[1])


def test_matrices_without_a_tail():
    for fit in ("alpha_peak", "alpha_mid"):
        assert math.isnan(tail_exponent(torch.zeros(5), fit))
        assert math.isnan(tail_exponent(torch.ones(5), fit))
    with pytest.raises(trim.SettingsError, match="alpha_fit"):
        tail_exponent(torch.ones(5), "peak")


def test_budgets_from_a_file(tmp_path):
    path = tmp_path / "budgets.json"
    path.write_text(json.dumps({"*": 0.5, "1.*": 0.7, "1.q": 0.25}))
    assert read_budgets(path, SHAPES) == {"0.q": 0.5, "0.up": 0.5, "1.q": 0.25, "1.up": 0.7}
    budgets = project_budgets(dict.fromkeys(SHAPES, 0.61), SHAPES, 0.61, 0.95, method="uniform")
    path.write_text(json.dumps(budgets.to_json()))
    assert read_budgets(path, SHAPES) == budgets.layers


@pytest.mark.parametrize(
    ("content", "error", "message"),
    [
        ("{", trim.SettingsError, "is not JSON"),
        ("[1]", trim.SettingsError, "an object like"),
        ('{"*": 1.5}', trim.SettingsError, "from 0 to 1"),
        ('{"*": "half"}', trim.SettingsError, "from 0 to 1"),
        ('{"0.*": 0.5}', trim.SettingsError, r"no budget to 1\.q"),
        ('{"*": 0.5, "0.upp": 0.5}', trim.LayerNotFoundError, r"closest names: 0\.up"),
    ],
)
def test_bad_budget_files(tmp_path, content, error, message):
    path = tmp_path / "budgets.json"
    path.write_text(content)
    with pytest.raises(error, match=message):
        read_budgets(path, SHAPES)
    with pytest.raises(trim.SettingsError, match="cannot be read"):
        read_budgets(tmp_path / "missing.json", SHAPES)
