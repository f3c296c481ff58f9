"""Calibration: texts, their windows, and the activations and sensitivities measured on them."""
