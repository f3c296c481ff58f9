"""The side bar's search options; tests/app/views/layer_page/test_controls.py tries those that do not fit together."""

import trim
from app.ui.common import search_options
from trim.methods import choices


def test_the_page_starts_with_the_librarys_own_settings():
    assert search_options.settings(0.7, search_options.default_options()) == trim.SearchSettings(0.7)


def test_every_quality_is_explained():
    assert list(choices.LAYER_QUALITY_MEANINGS) == list(trim.LAYER_QUALITIES)
    assert list(choices.ROW_QUALITY_MEANINGS) == list(trim.ROW_QUALITIES)
