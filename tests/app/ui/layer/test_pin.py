"""The text of a pin in the address."""

import dataclasses

from app.services.layer.keys import ModelKey, SampleKey, StudyKey
from app.ui.common.search_options import default_options
from app.ui.layer.pin import Pin


def test_a_pin_is_read_as_it_was_written():
    sample = SampleKey("a & b.txt", 8, 16, 4, 3, False)
    options = {**default_options(), "iterations": 4, "learning_rates": "0.1, 0.2", "max_row_sparsity": 0.9}
    pin = Pin(StudyKey(ModelKey("x/y", "cpu", "float32"), sample, "3.mlp.up_proj", "magnitude"), 55, options)
    assert Pin.read(pin.text()) == pin
    assert Pin.read(pin.text()).differences(dataclasses.replace(pin, percent=60)) == "55%"
