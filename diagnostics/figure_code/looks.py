"""Colours, dashes and opacities of Plotly as matplotlib takes them."""

import re

INCH, POINT = 96, 96 / 72  # pixels
_LINE_STYLES = {
    "solid": "-",
    "dash": "--",
    "dot": ":",
    "dashdot": "-.",
    "longdash": (0, (8, 3)),
    "longdashdot": (0, (8, 3, 1, 3)),
}


def colour_of(value: object) -> tuple[str, float]:
    """Return a CSS colour as matplotlib's, and its opacity."""
    if isinstance(value, str) and (found := re.fullmatch(r"rgba?\(([^)]*)\)", value)):
        numbers = [float(each) for each in found[1].split(",")]
        hexadecimal = "#" + "".join(f"{round(each):02x}" for each in numbers[:3])
        return hexadecimal, numbers[3] if len(numbers) > 3 else 1.0
    return str(value), 1.0


def dash_of(dash: str | None) -> object:
    """Return the dashes of a line as matplotlib's."""
    if dash in _LINE_STYLES:
        return _LINE_STYLES[dash]
    lengths = tuple(float(each) for each in re.findall(r"[\d.]+", dash or ""))
    return (0, tuple(each / 2 for each in lengths)) if lengths else "-"


def alpha_argument(opacity: float) -> str:
    """Write the argument of an opacity; "" where it is 1."""
    return "" if opacity == 1 else f", alpha={opacity:g}"
