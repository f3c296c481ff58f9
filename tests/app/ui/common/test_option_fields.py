"""Learning rates as they are typed and shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import trim
from app.ui.common.option_fields import as_rates, as_text


@given(st.lists(st.integers(1, 99999).map(lambda number: number / 100000), max_size=12))
def test_rates_survive_being_written(rates):
    assert as_rates(as_text(tuple(rates))) == tuple(rates)


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("", ()),
        (" , ;", ()),
        ("0.01; 0.02", (0.01, 0.02)),
        (".01 .02", (0.01, 0.02)),
        ("−0.04", (-0.04,)),
        ("1e-2,", (0.01,)),
    ],
)
def test_typed_rates(text, rates):
    assert as_rates(text) == rates


@pytest.mark.parametrize("text", ["fast", "0.01, <b>x</b>", "0,01 x", "1.2.3"])
def test_what_is_not_a_rate_is_named(text):
    with pytest.raises(trim.SettingsError, match=r"numbers with commas between them; “.+” is not a number"):
        as_rates(text)
