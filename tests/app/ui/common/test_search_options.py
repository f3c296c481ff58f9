"""The side bar's search options: settings that fit together or say why not."""

import pytest

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
