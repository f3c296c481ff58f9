"""The toy model of the tests of captures."""

import pytest

import trim
from tests.trim.calibration.toys import make_toy


@pytest.fixture
def toy() -> trim.Model:
    """A toy that a test may make fail."""
    return make_toy()
