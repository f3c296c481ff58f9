"""Small grids for a tiny model."""

from pathlib import Path

import trim

SHARED = {"windows": 2, "length": 16, "device": "cpu"}
TEXTS = (trim.EvaluationText("demo", windows=2, length=16),)


def settings(model: Path, **grid: tuple) -> trim.SweepSettings:
    """Return the settings of a sweep of two targets."""
    return trim.SweepSettings(model, {"target": (0.4, 0.6), **grid}, SHARED, TEXTS)
