"""Drawings that move: SVG marks whose attributes have one value, or one for each frame.

A browser sets attributes and computes nothing. Colours are names of the theme (`ink`, `trim`, …) that its style sheet
knows, so a drawing is the same in light and dark.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from plotly.colors import sequential

Number = float | np.ndarray  # an array holds one for each frame
Words = str | Sequence[str]
Attribute = Number | Words

WIDTH, HEIGHT = 640, 400
_SCALE = np.array([[int(colour[at : at + 2], 16) for at in (1, 3, 5)] for colour in sequential.Cividis])
_DARK_BELOW = 0.55  # share of the scale below which Cividis needs white letters


@dataclass(eq=False)
class Drawing:
    """Marks on a sheet of WIDTH by HEIGHT, in `frames` pictures."""

    frames: int = 1
    marks: list[dict[str, object]] = field(default_factory=list)

    def mark(self, tag: str, css: Words, **attributes: Attribute) -> None:
        """Add an SVG element; `text` is its content, and underscores in names become hyphens.

        Raises:
            ValueError: an attribute has neither one value nor one for each frame.
        """
        values = {name.replace("_", "-"): self._value(value) for name, value in attributes.items()}
        self.marks.append({"tag": tag, "class": self._value(css), **values})

    def rect(
        self, css: Words, x: Number, y: Number, width: Number, height: Number, **more: Attribute
    ) -> None:
        """Add a rectangle."""
        self.mark("rect", css, x=x, y=y, width=width, height=height, **more)

    def line(self, css: str, x1: Number, y1: Number, x2: Number, y2: Number, **more: Attribute) -> None:
        """Add a straight line."""
        self.mark("line", css, x1=x1, y1=y1, x2=x2, y2=y2, **more)

    def circle(self, css: str, cx: Number, cy: Number, r: Number, **more: Attribute) -> None:
        """Add a circle."""
        self.mark("circle", css, cx=cx, cy=cy, r=r, **more)

    def text(
        self, x: Number, y: Number, text: Words, css: Words = "ink", anchor: str = "start", **more: Attribute
    ) -> None:
        """Add a line of text whose baseline is at y."""
        self.mark("text", css, x=x, y=y, text=text, text_anchor=anchor, **more)

    def curve(self, css: str, x: np.ndarray, y: np.ndarray) -> None:
        """Add a line through points (P,), or (frames, P) if it moves."""
        shape = np.broadcast_shapes(np.shape(x), np.shape(y))
        xs, ys = np.broadcast_to(x, shape), np.broadcast_to(y, shape)
        paths = [
            _path(*points)
            for points in zip(xs.reshape(-1, shape[-1]), ys.reshape(-1, shape[-1]), strict=True)
        ]
        self.mark("path", css, d=paths if len(shape) > 1 else paths[0])

    def cells(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        values: np.ndarray,
        *,
        keep: np.ndarray | None = None,
        shown: np.ndarray | None = None,
        sign: bool = False,
    ) -> None:
        """Add a matrix: kept cells coloured by `values`, pruned ones empty and crossed, the numbers of `shown` in all.

        Args:
            x: the left edge of the matrix.
            y: the upper edge.
            width: the matrix's width.
            height: the matrix's height.
            values: (R, C), or (frames, R, C) if they move.
            keep: the mask, bool in the same shape; None: all are kept.
            shown: the numbers to write, in the same shape; None: `values`.
            sign: whether to write + before positive numbers.
        """
        arrays = [np.asarray(values), np.asarray(values if shown is None else shown)]
        arrays.append(np.ones(arrays[0].shape[-2:], dtype=bool) if keep is None else np.asarray(keep))
        shape = (self.frames, *arrays[0].shape[-2:])
        values, shown, keep = (np.broadcast_to(each, shape) for each in arrays)
        top = float(values.max()) or 1.0
        rows, columns = shape[1:]
        step_x, step_y = width / columns, height / rows
        for row, column in np.ndindex(rows, columns):
            kept = keep[:, row, column]
            share = values[:, row, column] / top
            colours = _colours(share)
            left, upper = x + column * step_x + 1, y + row * step_y + 1
            self.rect(
                "cell", left, upper, step_x - 2, step_y - 2,
                fill=[colour if here else "none" for here, colour in zip(kept, colours, strict=True)],
            )  # fmt: skip
            if not kept.all():
                self.line(
                    "stroke faint thin", left + 3, upper + step_y - 5, left + step_x - 5, upper + 3,
                    stroke_opacity=1.0 - kept,
                )  # fmt: skip
            written = [f"{value:+.1f}" if sign else f"{value:.1f}" for value in shown[:, row, column]]
            ink = ["over-dark" if low else "over-light" for low in share < _DARK_BELOW]
            self.mark(
                "text",
                [colour if here else "muted" for here, colour in zip(kept, ink, strict=True)],
                x=left + step_x / 2 - 1,
                y=upper + step_y / 2 + 4.5,
                text=[text.replace("-", "−") for text in written],
                text_anchor="middle",
            )

    def matrix_labels(self, x: float, y: float, width: float, height: float, rows: int, columns: int) -> None:
        """Write the indices of a matrix: rows to its left, input features below it if it has columns."""
        for row in range(rows):
            self.text(x - 8, y + (row + 0.5) * height / rows + 5, str(row), "muted", "end")
        for column in range(columns):
            self.text(
                x + (column + 0.5) * width / columns, y + height + 15, str(column), "muted small", "middle"
            )

    def to_json(self) -> dict[str, object]:
        """Return the drawing as the browser takes it."""
        return {"width": WIDTH, "height": HEIGHT, "frames": self.frames, "marks": self.marks}

    def _value(self, value: Attribute) -> object:
        """Return a value of all frames, or the list of them; coordinates to a tenth of a pixel."""
        if isinstance(value, str):
            return value
        if isinstance(value, list | tuple):
            found: list[object] = list(value)
        else:
            array = np.round(
                np.asarray(value, dtype=np.float64), 2 if np.ndim(value) and np.max(value) <= 1 else 1
            )
            if array.ndim == 0:
                return _short(float(array))
            found = [_short(number) for number in array.tolist()]
        if len(found) != self.frames:
            raise ValueError(f"An attribute has {len(found)} values; the drawing has {self.frames} frames.")
        return found[0] if all(each == found[0] for each in found) else found


@dataclass(frozen=True)
class Plot:
    """An area of a drawing with two axes; `x_range` and `y_range` are the values at its edges."""

    drawing: Drawing
    left: float
    top: float
    width: float
    height: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    @property
    def right(self) -> float:
        """The right edge."""
        return self.left + self.width

    @property
    def bottom(self) -> float:
        """The lower edge."""
        return self.top + self.height

    def x(self, values: Number) -> np.ndarray:
        """Return the horizontal positions of values."""
        low, high = self.x_range
        return self.left + self.width * (np.asarray(values, dtype=np.float64) - low) / (high - low)

    def y(self, values: Number) -> np.ndarray:
        """Return the vertical positions of values."""
        low, high = self.y_range
        return self.top + self.height * (high - np.asarray(values, dtype=np.float64)) / (high - low)

    def axes(self, x_title: str, y_title: str, x_ticks: dict[float, str], y_ticks: dict[float, str]) -> None:
        """Draw grid, ticks and titles; the upright axis has its title above."""
        for value, label in y_ticks.items():
            at = float(self.y(value))
            self.drawing.line("stroke grid thin", self.left, at, self.right, at)
            self.drawing.text(self.left - 6, at + 5, label, "muted small", "end")
        for value, label in x_ticks.items():
            self.drawing.text(float(self.x(value)), self.bottom + 15, label, "muted small", "middle")
        self.drawing.line("stroke faint thin", self.left, self.bottom, self.right, self.bottom)
        self.drawing.text(self.right, self.bottom + 31, x_title, "muted small", "end")
        self.drawing.text(self.left, self.top - 9, y_title, "muted small")

    def across(self, css: str, y: Number) -> np.ndarray:
        """Draw a line across the plot at a value; return its vertical position."""
        level = self.y(y)
        self.drawing.line(css, self.left, level, self.right, level)
        return level

    def curve(self, css: str, x: np.ndarray, y: np.ndarray) -> None:
        """Draw a line through points given in the axes' units."""
        self.drawing.curve(css, self.x(x), self.y(y))


def _path(x: np.ndarray, y: np.ndarray) -> str:
    points = [
        f"{_short(across)},{_short(down)}"
        for across, down in zip(x.round(1).tolist(), y.round(1).tolist(), strict=True)
    ]
    return "M" + "L".join(points)


def _short(number: float) -> float:
    return int(number) if number == int(number) else number


def _colours(share: np.ndarray) -> list[str]:
    """Return the colours at these shares of the scale from dark to bright, as #rrggbb."""
    places = np.linspace(0, 1, len(_SCALE))
    channels = [np.interp(share, places, channel).round().astype(int) for channel in _SCALE.T]
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in zip(*channels, strict=True)]
