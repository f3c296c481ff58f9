"""The arrays that a script loads, and the names and texts of a figure as code writes them."""

import re
from dataclasses import dataclass, field

import numpy as np
import plotly.graph_objects as go

from diagnostics.format import plain_text

SHORT = 12  # longer arrays go into the file


@dataclass
class ScriptData:
    """The arrays that the code loads, by name."""

    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def keep(self, name: str, values: object) -> str:
        """Store numbers, and return the expression that reads them; short arrays become literals."""
        array = array_of(values)
        if array.ndim == 1 and len(array) <= SHORT:
            if array.dtype.kind == "f":
                return (
                    "["
                    + ", ".join(f"{float(each):.6g}" if np.isfinite(each) else "np.nan" for each in array)
                    + "]"
                )
            return repr(array.tolist())
        self.arrays[name] = array
        return f'data["{name}"]'


def array_of(values: object) -> np.ndarray:
    """Return numbers with NaN for gaps, or texts."""
    array = np.asarray(values)
    if array.dtype != object:
        return array
    gaps = [each is None for each in array.ravel()]
    given = [each for each, gap in zip(array.ravel(), gaps, strict=True) if not gap]
    if all(isinstance(each, int | float) for each in given):
        return array.astype(np.float64)
    return array.astype(str)


def trace_names(figure: go.Figure) -> list[str]:
    """Name each trace for its arrays: letters and digits of its own name, each once."""
    names: list[str] = []
    for index, trace in enumerate(figure.data):
        name = re.sub(r"\W+", "_", plain_text(trace.name or trace.type)).strip("_")[:40] or trace.type
        names.append(name if name not in names else f"{name}_{index}")
    return names


def text_lines(markup: object) -> str:
    """Return a text of a figure without marks, line by line."""
    return plain_text(markup, "\n")
