"""Calibration: texts, and what a text makes a model's layers receive."""
