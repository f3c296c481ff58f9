"""The layer that most tests of the Layer page open: visits of it, and its curves, measured once."""

import pytest

import trim
from app.services.layer.keys import ModelKey, SampleKey
from app.ui.common.waiting import laboratory
from tests.app.demo_layer import ADDRESS, LAYER
from tests.app.page import LayerPage


@pytest.fixture
def page() -> LayerPage:
    return LayerPage(**ADDRESS)


@pytest.fixture(scope="package")
def first_visit() -> LayerPage:
    """A visit that no test changes."""
    return LayerPage(**ADDRESS)


@pytest.fixture(scope="package")
def curves(first_visit: LayerPage) -> trim.RetentionCurves:
    """The layer of the first visit through the library alone."""
    model, key = laboratory().model(ModelKey()).result(), SampleKey()
    windows = trim.load_corpus(
        key.corpus, model.tokenizer, windows=key.windows, length=key.length, seed=key.seed
    )
    sample = trim.capture(
        model, windows, [LAYER], vectors_per_sequence=key.vectors_per_sequence, seed=key.seed
    )[LAYER]
    return trim.retention_curves(
        sample.weight, sample.inputs, trim.wanda_score(sample.weight, sample.input_norm)
    )
