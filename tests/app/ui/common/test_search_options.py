"""The side bar's search options: typed rates, and settings that fit together or say why not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import trim
from app.ui.common import search_options
from trim.methods import choices

OPTIONS = {
    "layer_quality": "cosim_flat",
    "row_quality": "cosim",
    "iterations": 10,
    "learning_rates": "0.01, 0.02, 0.04, 0.08, 0.12, 0.16",
    "negative_learning_rates": "-0.01, -0.02, -0.04",
    "max_row_sparsity": 0.95,
}


@given(st.lists(st.integers(1, 99999).map(lambda number: number / 100000), max_size=12))
def test_rates_survive_being_written(rates):
    assert search_options.as_rates(search_options.as_text(tuple(rates))) == tuple(rates)


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
    assert search_options.as_rates(text) == rates


@pytest.mark.parametrize("text", ["fast", "0.01, <b>x</b>", "0,01 x", "1.2.3"])
def test_what_is_no_rate_is_named(text):
    with pytest.raises(trim.SettingsError, match=r"numbers with commas between them; “.+” is not a number"):
        search_options.as_rates(text)


def test_the_page_starts_with_the_librarys_own_settings():
    assert search_options.settings(0.7, OPTIONS) == trim.SearchSettings(0.7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rates": "0.01, -0.02"}, "above 0"),
        ({"negative_learning_rates": "0.01"}, "below 0"),
        ({"learning_rates": "", "negative_learning_rates": ""}, "at least one learning rate"),
        ({"learning_rates": "0.01, 0.01"}, "once only"),
        ({"learning_rates": "nan"}, "finite"),
        ({"learning_rates": "inf"}, "finite"),
        ({"max_row_sparsity": 0.6}, "lower the target or raise the cap"),
    ],
)
def test_settings_that_do_not_fit_say_what_to_do(change, message):
    with pytest.raises(trim.TrimError, match=message):
        search_options.settings(0.7, OPTIONS | change)


def test_every_quality_has_words():
    assert list(choices.LAYER_QUALITY_MEANINGS) == list(trim.LAYER_QUALITIES)
    assert list(choices.ROW_QUALITY_MEANINGS) == list(trim.ROW_QUALITIES)
