"""Colours, second cues and the light and dark templates of every figure."""

import functools
import html
from dataclasses import dataclass
from typing import Literal

import plotly.graph_objects as go

Theme = Literal["light", "dark"]

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@dataclass(frozen=True)
class Palette:
    """Neutral colours of one theme. Ink marks what the user selected; hue is left to the methods."""

    ink: str
    muted: str
    faint: str
    grid: str
    surface: str
    veil: str
    band: tuple[str, str]
    gain: str
    loss: str


PALETTES: dict[Theme, Palette] = {
    "light": Palette(
        ink="#1c2430",
        muted="#5c6773",
        faint="#a9b1bb",
        grid="#e9ecf0",
        surface="#ffffff",
        veil="rgba(255,255,255,0.55)",
        band=("rgba(92,103,115,0.14)", "rgba(92,103,115,0.26)"),
        gain="#01665e",
        loss="#8c510a",
    ),
    "dark": Palette(
        ink="#eef1f5",
        muted="#a3adb9",
        faint="#6b7683",
        grid="#262c36",
        surface="#0e1117",
        veil="rgba(14,17,23,0.55)",
        band=("rgba(163,173,185,0.16)", "rgba(163,173,185,0.30)"),
        gain="#5ec4b6",
        loss="#d9a441",
    ),
}


@dataclass(frozen=True)
class Style:
    """How one method or series is drawn: its colour, and the cues that work without colour."""

    colour: str
    dash: str
    symbol: str
    pattern: str


def hatching(style: Style, palette: Palette) -> dict[str, object]:
    """Return a method's pattern over the colour of its bars, the cue that needs no colour."""
    return {
        "shape": style.pattern,
        "size": 6,
        "solidity": 0.15,
        "fgcolor": palette.surface,
        "fillmode": "overlay",
    }


# Okabe and Ito's palette, distinct with any colour vision and on both backgrounds. Each method has one colour on every
# page.
METHOD_STYLES: dict[str, Style] = {
    "uniform": Style("#D55E00", "dash", "circle", ""),
    "trim": Style("#0072B2", "solid", "diamond", "/"),
    "optimal": Style("#009E73", "dashdot", "square", "\\"),
}
SCORE_STYLES: dict[str, Style] = {
    "wanda": Style("#56B4E9", "solid", "triangle-up", ""),
    "magnitude": Style("#E69F00", "dot", "triangle-down", "/"),
}
# Dashes of selected rows, which are all in ink.
ROW_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
# Methods and series without a style of their own take these in turn.
OTHER_STYLES: tuple[Style, ...] = (
    Style("#CC79A7", "longdash", "cross", "."),
    Style("#E69F00", "dot", "triangle-down", "x"),
    Style("#56B4E9", "solid", "triangle-up", "-"),
    Style("#999999", "longdashdot", "star", "|"),
)


# Colour and dash of compared layers by slot, A to H, in every chart. The colours differ with any colour vision and in
# grey (by at least 7 L* of lightness, A to D by 14), with a contrast of 3:1 or more to the background.
SLOT_COLOURS: dict[Theme, tuple[str, ...]] = {
    "light": ("#004C7E", "#28A6A4", "#530228", "#944EC3", "#B80043", "#000F4E", "#838700", "#383B00"),
    "dark": ("#3CA2FA", "#B1FFFC", "#DB2B79", "#E4B4FF", "#FD929F", "#5853C8", "#E0E252", "#8A8F0D"),
}
# Dashes in pixels: short, because each step of an outline needs one or two.
_SLOT_DASHES = (
    "solid",
    "5px,2px",
    "7px,2px,2px,2px",
    "2px,2px",
    "10px,3px",
    "10px,2px,2px,2px,2px,2px",
    "4px,1px,1px,1px",
    "14px,2px,5px,2px",
)
_SLOT_SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "star", "triangle-down", "x")


def slot_style(slot: int, theme: Theme) -> Style:
    """Return how the compared layer of a slot is drawn; slot 0 is A."""
    return Style(SLOT_COLOURS[theme][slot], _SLOT_DASHES[slot], _SLOT_SYMBOLS[slot], "")


def faded(colour: str, opacity: float) -> str:
    """Return a colour such as "#004C7E" with an opacity, for areas."""
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def series_styles(keys: list[str]) -> list[Style]:
    """Return one style per key: a method's or score's own, otherwise the next free one.

    A method that comes again keeps its colour and takes another dash, symbol and pattern.
    """
    styles: list[Style] = []
    others = 0
    for position, key in enumerate(keys):
        style = (METHOD_STYLES | SCORE_STYLES).get(key)
        if style is None:
            style = OTHER_STYLES[others % len(OTHER_STYLES)]
            others += 1
        elif key in keys[:position]:
            cue = OTHER_STYLES[keys[:position].count(key) % len(OTHER_STYLES)]
            style = Style(style.colour, cue.dash, cue.symbol, cue.pattern)
        styles.append(style)
    return styles


SEQUENTIAL = "Cividis"


def diverging(theme: Theme) -> list[tuple[float, str]]:
    """Return a colour scale to be centred at 0: brown for losses, teal for gains, the page's own shade between."""
    if theme == "light":
        colours = ["#543005", "#8c510a", "#dfc27d", "#f6f6f4", "#80cdc1", "#01665e", "#003c30"]
    else:
        colours = ["#f6d58a", "#d9a441", "#7a5518", "#1b2028", "#17635a", "#3aa899", "#a5e6da"]
    return [(step / 6, colour) for step, colour in enumerate(colours)]


def escape(text: object) -> str:
    """Escape text from users, models and corpora, so that Plotly reads no tag, template or formula in it."""
    return html.escape(str(text), quote=False).replace("%{", "%&#123;").replace("$", "&#36;")


@functools.cache
def template(theme: Theme) -> go.layout.Template:
    """Return the Plotly template of one theme: transparent paper, quiet grid lines, the system's own fonts."""
    palette = PALETTES[theme]
    axis = {
        "gridcolor": palette.grid,
        "linecolor": palette.faint,
        "tickcolor": palette.faint,
        "tickfont": {"size": 11, "color": palette.muted},
        "title": {"font": {"size": 12, "color": palette.muted}, "standoff": 8},
        "zeroline": False,
        "automargin": True,
    }
    colour_bar = {
        "thickness": 10,
        "outlinewidth": 0,
        "tickfont": axis["tickfont"],
        "title": {"font": {"size": 11}},
        "x": 1.01,
        "xpad": 4,
    }
    return go.layout.Template(
        layout={
            "font": {"family": FONT, "size": 12, "color": palette.ink},
            "title": {
                "font": {"size": 15, "color": palette.ink},
                "subtitle": {"font": {"size": 12, "color": palette.muted}},
            },
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "colorway": [style.colour for style in (*METHOD_STYLES.values(), *OTHER_STYLES)],
            "xaxis": axis | {"showgrid": False, "showline": True, "ticks": "outside", "ticklen": 4},
            "yaxis": axis | {"ticks": ""},
            "legend": {
                "orientation": "h",
                "yref": "container",
                "y": 0,
                "yanchor": "bottom",
                "x": 0,
                "xanchor": "left",
                "traceorder": "normal",
                "font": {"size": 12, "color": palette.muted},
                "bgcolor": "rgba(0,0,0,0)",
                "itemsizing": "trace",
            },
            "hoverlabel": {
                "bgcolor": palette.surface,
                "bordercolor": palette.faint,
                "font": {"family": FONT, "size": 12, "color": palette.ink},
                "align": "left",
            },
            "annotationdefaults": {"font": {"size": 12, "color": palette.ink}, "showarrow": False},
            "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": palette.faint, "activecolor": palette.ink},
            "newselection": {"line": {"color": palette.ink, "width": 1, "dash": "dot"}},
            "barmode": "overlay",
            "bargap": 0.06,
        },
        data={
            "bar": [{"marker": {"line": {"width": 0}}}],
            "heatmap": [{"colorbar": colour_bar}],
            # Simplified, the steps of an outline become slopes where it is drawn small.
            "scatter": [{"line": {"simplify": False}, "marker": {"colorbar": colour_bar}}],
        },
    )
