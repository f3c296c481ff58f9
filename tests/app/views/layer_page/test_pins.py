"""Pins of the Layer page: what is pinned stays in every chart, and a pin that cannot be read is reported."""

import pytest

from tests.app.page import LayerPage


def test_what_is_pinned_stays_in_every_chart_until_it_is_let_go():
    page = LayerPage()
    page.press("Pin this view")
    assert page.test.query_params["pin"] == "target=70&layer=29.self_attn.v_proj"
    page.set("slider", "target", 60)
    page.set("segmented_control", "score", "magnitude")
    assert page.linked[0]["pinned"] == "pinned: 70%, wanda"
    assert all(any(mark["pinned"] for mark in panel["marks"]) for panel in page.charts.values())
    assert "(pinned 0.8" in str(page.linked[0]["numbers"])
    page.press("Unpin")
    assert not any(mark["pinned"] for panel in page.charts.values() for mark in panel["marks"])
    page.press("Reset to the defaults")
    assert page.metrics == LayerPage().metrics
    assert not page.test.query_params


@pytest.mark.parametrize(
    ("pin", "message"),
    [
        ("target=70", "names a layer"),
        ("target=900&layer=1.x", "whole number from 1 to 99"),
        ("layer=1.x&evil=1", "not part of a pin"),
        ("layer=1.x&score=<b>", "one of the scores"),
        ("layer=1.x&model=gone/away", "not in memory"),
        ("layer=29.self_attn.v_proj&max_row_sparsity=0.1", "cap"),
        ("layer=29.self_attn.v_proj&learning_rates=fast", "not a number"),
    ],
)
def test_a_pin_that_cannot_be_read_is_reported_and_nothing_is_lost(pin, message):
    page = LayerPage(pin=pin, target="60")
    (warning,) = page.test.warning
    assert message in warning.value.replace("\\", "")
    assert page.metrics["Pruned"] == "60.00%"
    page.press("Remove the pin")
    assert not page.test.warning
