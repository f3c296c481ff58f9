"""Diagnoses of single layers, as files hold them."""

import numpy as np

from trim.methods.signal import RowSignal
from trim.runs.diagnosis_files import signal_from_json, signal_to_json
from trim.runs.diagnosis_shapes import RowSignalJson
from trim.runs.fields import read_value


def test_a_text_with_a_long_path_can_be_read_again():
    titles = ("demo", f"/{'x' * 200}/text.txt")
    signal = RowSignal(np.full((2, 3), 0.5), np.full((2, 3), 0.25), (None, 0.1), titles)
    stored = signal_to_json(signal, 8, "texts", vectors=4)
    read_value(stored, RowSignalJson, "it")
    found = signal_from_json(stored, 8)
    assert (found.rates, found.titles[0], len(found.titles[1])) == (signal.rates, "demo", 120)
