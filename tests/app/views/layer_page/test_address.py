"""The address of the Layer page holds the view; nonsense in it is reported."""

import pytest

from tests.app.demo_layer import FOUR_CHARTS
from tests.app.page import LayerPage


def test_an_address_holds_a_view():
    address = {"target": "60", "block": "3", "layer": "self_attn.k_proj", "score": "magnitude", "rows": "1,2"}
    page = LayerPage(**address, cosine="linear")
    axis = page.charts["cosine"]["y"]
    assert axis["title"] == "cosine"
    assert axis["low"] <= 0 < axis["high"]
    assert page.charts["cosine"]["otherAxis"] == "logarithmic"
    assert page.test.title[0].value == r"3\.self\_attn\.k\_proj"
    assert page.metrics["Pruned"] == "60.00%"
    assert page.linked[0]["selected"] == [1, 2]
    assert page.test.segmented_control(key="score").value == "magnitude"
    assert not page.test.warning


def test_options_in_the_address():
    page = LayerPage(
        layer_quality="mse",
        row_quality="psnr",
        iterations="4",
        rates="0.1",
        negative_rates="-0.1",
        cap="90",
        part="Gap",
        shown="Both",
    )
    assert page.test.selectbox(key="layer_quality").value == "mse"
    assert page.test.selectbox(key="row_quality").value == "psnr"
    assert page.test.number_input(key="iterations").value == 4
    assert page.test.text_input(key="rates").value == "0.1"
    assert page.test.number_input(key="cap").value == 90
    assert {"gap_rows", "gap_curve"} == page.charts.keys()
    assert not page.test.warning


@pytest.mark.parametrize(
    "nonsense",
    [
        {
            "target": "999",
            "block": "-1",
            "layer": "<img src=x>",
            "score": "<script>alert(1)</script>",
            "cap": "1e9",
        },
        {"target": "seventy", "block": "3000000000", "layer_quality": "best", "iterations": "0"}
        | {"part": "perhaps", "shown": "all", "row_weights": "many"},
    ],
)
def test_nonsense_in_the_address_is_reported_and_the_page_works(nonsense):
    page = LayerPage(**nonsense, utm_source="mail")  # an unknown parameter does not matter
    assert page.test.title[0].value == r"29\.self\_attn\.v\_proj"
    assert list(page.charts) == FOUR_CHARTS
    assert page.metrics["Pruned"] == "70.00%"
    (warning,) = page.test.warning
    for name, value in nonsense.items():
        assert f"{name}={value}" in warning.value.replace("\\", "").replace("\u2060", "")
    assert "utm_source" not in warning.value
    assert "<" not in warning.value.replace(r"\<", "")
    page.run()
    assert not page.test.warning, "it is said once"
