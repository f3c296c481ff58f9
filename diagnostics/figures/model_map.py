"""Heat maps of a whole model, block by layer type.

A layer of marks above the cells carries hover and selection: Plotly selects marks, never cells of a heat map.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from diagnostics.figures.cells import BLOCK, KIND, cell_axes, cell_size, cells_height, percent_ticks
from diagnostics.figures.frame import float32, frame
from diagnostics.figures.lines import points
from diagnostics.figures.theme import PALETTES, SEQUENTIAL, Theme, diverging, escape
from diagnostics.format import change, number, rate_label
from diagnostics.learning_rate import LAYER_UNITS
from diagnostics.model_map import LayerFacts, MapQuantity, ModelMap, family_of

OUTCOME_SYMBOLS = {"positive": "triangle-up", "negative": "triangle-down", "none": "line-ew"}
EXPERT = "expert"
LAYERS_TRACE = "layers"  # the trace of marks that carry hover and selection

_TITLES: dict[MapQuantity, str] = {
    "median_gini": "Where is the score most concentrated?",
    "layer_sparsity": "How much did each layer lose?",
    "quality_gain": "Where does pruning beat uniform?",
    "outcome": "Which way did TRIM move the rows?",
    "row_variance_uniform": "How unequal does uniform leave the rows?",
    "row_variance": "How unequal are the rows as pruned?",
    "row_variance_change": "Did the rows become more equal?",
    "error_left": "How much error do changed weights leave?",
    "weights_moved": "How far did the kept weights move?",
    "row_agreement": "Does it spare the same rows?",
    "loss_added": "What does each layer cost, pruned alone?",
    "loss_foreseen": "Which cost do sensitivities predict?",
    "tokens": "How many tokens did each expert receive?",
}
_SUBTITLES: dict[MapQuantity, str] = {
    "median_gini": "Median over the layer's rows of the Gini of their scores.",
    "layer_sparsity": "Share of each layer's weights that is pruned.",
    "quality_gain": "Layer quality as pruned minus that of uniform: teal gains, brown loses.",
    "outcome": "Sign of the chosen learning rate. Positive: rows that keep their output are pruned harder; "
    "negative: rows that lose it are.",
    "row_variance_uniform": "Variance over rows of the rows' cosine at uniform row sparsity.",
    "row_variance": "Variance over rows of the rows' cosine, as they were pruned.",
    "row_variance_change": "Variance of row cosines, as pruned over uniform: teal more equal, brown less.",
    "error_left": "Output error with the kept weights changed, over that of the mask alone.",
    "weights_moved": "Median over rows of the change of a row's kept weights, over their size.",
    "row_agreement": "Rank correlation of the rows' sparsities in both runs: 1 the same order, 0 none.",
    "loss_added": "Nats per token that the loss rises when only this layer is pruned.",
    "loss_foreseen": "Nats per token, predicted to second order from the rows' sensitivities.",
    "tokens": "Tokens of the calibration text that are routed to the expert.",
}
_BARS: dict[MapQuantity, str] = {  # what the colours are, above their bar
    "median_gini": "median Gini",
    "layer_sparsity": "sparsity",
    "quality_gain": "gain",
    "outcome": "η",
    "row_variance_uniform": "variance",
    "row_variance": "variance",
    "row_variance_change": "variance",
    "error_left": "error left",
    "weights_moved": "moved",
    "row_agreement": "Spearman",
    "loss_added": "nats",
    "loss_foreseen": "nats",
    "tokens": "tokens",
}


@dataclass(frozen=True)
class _Colours:
    """How values become colours: scale, its two ends, ticks of the bar and their words."""

    scale: str | list[tuple[float, str]]
    low: float
    high: float
    ticks: list[float]
    labels: list[str]


def model_map_figure(shown: ModelMap, quantity: MapQuantity, theme: Theme = "light") -> go.Figure:
    """Draw one number of every layer as a coloured cell; layers that are not done yet are dots.

    The marks in the trace "layers" have the layers' names as customdata.
    """
    alike = quantity == "outcome" and signs_alike(shown)
    grid = _rates(shown) if alike else shown.grid(quantity)
    values = np.log10(grid, where=grid > 0, out=np.full_like(grid, np.nan)) if _is_log(quantity) else grid
    colours = _rate_colours(values) if alike else _colours(shown, quantity, values, theme)
    blocks = np.array(shown.blocks, dtype=np.int32)
    figure = frame(
        theme,
        title=_TITLES[quantity],
        subtitle=_SUBTITLES[quantity]
        + (" All signs are the same here: the colour is η itself." if alike else "")
        + _missing_text(shown),
        x_title=BLOCK,
        y_title=EXPERT if len(shown.families) == 1 and family_of(shown.kinds[0]) else KIND,
        plot_height=cells_height(shown.kinds),
        legend=quantity == "outcome",
        right=16 if quantity == "outcome" and not alike else 8,
    )
    figure.add_heatmap(
        z=float32(values),
        x=blocks,
        y=np.arange(len(shown.kinds), dtype=np.int32),
        colorscale=colours.scale,
        zmin=colours.low,
        zmax=colours.high,
        xgap=1,
        ygap=1,
        hoverinfo="skip",
        name=quantity,
        showscale=quantity != "outcome" or alike,
        colorbar={"tickvals": colours.ticks, "ticktext": colours.labels, "title": {"text": _BARS[quantity]}},
    )
    _marks(figure, shown, quantity, theme)
    _missing(figure, shown, theme)
    cell_axes(figure, shown.blocks, shown.kinds)
    return figure


def signs_alike(shown: ModelMap) -> bool:
    """Return whether all layers whose rows TRIM moved have learning rates of one sign."""
    return len({facts.outcome for facts in shown.layers} & {"positive", "negative"}) == 1


def _rates(shown: ModelMap) -> np.ndarray:
    """Return the learning rates, (types, blocks): 0 where none beat uniform, NaN where none was searched."""
    grid = shown.grid("outcome")
    for facts in shown.layers:
        if facts.learning_rate is not None:
            grid[shown.kinds.index(facts.kind), facts.block - shown.blocks[0]] = facts.learning_rate
    return grid


def _rate_colours(values: np.ndarray) -> _Colours:
    finite = values[np.isfinite(values)]
    low, high = float(min(finite.min(), 0)), float(max(finite.max(), 0))
    ticks = [low, (low + high) / 2, high]
    return _Colours(
        SEQUENTIAL, low, high, ticks, [rate_label(round(tick, 4)) if tick else "0" for tick in ticks]
    )


def _is_log(quantity: MapQuantity) -> bool:
    return quantity in ("row_variance_uniform", "row_variance")


def _colours(shown: ModelMap, quantity: MapQuantity, values: np.ndarray, theme: Theme) -> _Colours:
    if quantity == "outcome":
        palette = PALETTES[theme]
        bands = [palette.loss, palette.grid, palette.gain]
        scale = [(edge, colour) for i, colour in enumerate(bands) for edge in (i / 3, (i + 1) / 3)]
        return _Colours(scale, -1.5, 1.5, [], [])
    finite = values[np.isfinite(values)]
    if quantity in ("quality_gain", "row_variance_change"):
        # One outlier must not make all other colours pale.
        limit = float(np.percentile(np.abs(finite), 95)) if finite.size else 0.0
        scale = diverging(theme)
        if limit == 0:  # nothing differs from uniform
            return _Colours(scale, -1.0, 1.0, [0.0], ["0" if quantity == "quality_gain" else "× 1"])
        if quantity == "quality_gain":
            labels = [f"≤ {change(-limit)}", "0", f"≥ {change(limit)}"]
        else:
            scale = [(1 - step, colour) for step, colour in reversed(scale)]
            labels = [f"≤ × {number(10**-limit, 2)}", "× 1", f"≥ × {number(10**limit, 2)}"]
        return _Colours(scale, -limit, limit, [-limit, 0.0, limit], labels)
    if quantity in ("loss_added", "loss_foreseen") and finite.size:
        finite = np.minimum(finite, np.percentile(finite, 95))  # as above
    if _is_log(quantity):  # both readings on one scale, so that they can be compared
        both = np.concatenate([shown.grid("row_variance_uniform"), shown.grid("row_variance")]).ravel()
        finite = np.log10(both[both > 0])
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    if quantity in ("layer_sparsity", "error_left", "weights_moved"):
        ticks, labels = percent_ticks(low, high)
        if len(ticks) == 1:  # they differ by rounding alone
            low, high = low - 0.5, high + 0.5
        return _Colours(SEQUENTIAL, low, high, ticks, labels)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    ticks = [low, (low + high) / 2, high]
    if _is_log(quantity):
        labels = [number(10**tick, 1) for tick in ticks]
    elif quantity in ("loss_added", "loss_foreseen"):
        labels = [change(tick, 1) for tick in ticks]
        labels[-1] = f"≥ {labels[-1]}"
    elif quantity == "tokens":
        labels = [f"{tick:,.0f}" for tick in ticks]
    else:
        labels = [f"{tick:.2f}" for tick in ticks]
    return _Colours(SEQUENTIAL, low, high, ticks, labels)


def _marks(figure: go.Figure, shown: ModelMap, quantity: MapQuantity, theme: Theme) -> None:
    """Draw one mark per layer: invisible where the cell suffices, a sign where the outcome is shown."""
    palette = PALETTES[theme]

    def mark(layers: Sequence[LayerFacts], marker: dict[str, object], faint: float) -> None:
        points(
            figure,
            LAYERS_TRACE,
            [facts.block for facts in layers],
            [shown.kinds.index(facts.kind) for facts in layers],
            "%{text}<extra></extra>",
            marker,
            customdata=[facts.name for facts in layers],
            text=[_hover(shown, facts, quantity) for facts in layers],
            selected={"marker": {"opacity": 1, "color": palette.ink}},
            unselected={"marker": {"opacity": faint}},
            showlegend=False,
        )

    size = cell_size(shown.kinds)
    if quantity != "outcome":
        mark(shown.layers, {"symbol": "square", "size": min(12, size), "opacity": 0}, 0)
        return
    # On a narrow chart a cell is some 200 pixels wide over the number of blocks.
    size = max(3, min(8, size - 1, round(200 / max(1, len(shown.blocks)))))
    for outcome, colour, hue, label in (
        ("positive", palette.surface, palette.gain, "positive"),
        ("negative", palette.surface, palette.loss, "negative"),
        ("none", palette.muted, palette.muted, "none: uniform stays"),
    ):

        def sign(size: int, colour: str, outcome: str = outcome) -> dict[str, object]:
            line = {"width": 2 if outcome == "none" else 0, "color": colour}
            return {"symbol": OUTCOME_SYMBOLS[outcome], "size": size, "color": colour, "line": line}

        mark([facts for facts in shown.layers if facts.outcome == outcome], sign(size, colour), 0.6)
        points(figure, label, [None], [None], "", sign(10, hue))  # for the legend


def _missing(figure: go.Figure, shown: ModelMap, theme: Theme) -> None:
    if not shown.missing:
        return
    points(
        figure,
        "not done yet",
        [int(name.partition(".")[0]) for name in shown.missing],
        [shown.kinds.index(name.partition(".")[2]) for name in shown.missing],
        "<b>%{text}</b>: not done yet<extra></extra>",
        {"symbol": "circle", "size": 3, "color": PALETTES[theme].faint},
        text=[escape(name) for name in shown.missing],
        showlegend=False,
    )


def _missing_text(shown: ModelMap) -> str:
    return (
        f" Dots: {len(shown.missing):,} of {len(shown.planned):,} layers not done yet."
        if shown.missing
        else ""
    )


def _hover(shown: ModelMap, facts: LayerFacts, quantity: MapQuantity) -> str:
    return f"<b>{escape(facts.name)}</b><br>{layer_text(shown, facts, quantity)}<br>click to open it"


def layer_text(shown: ModelMap, facts: LayerFacts, quantity: MapQuantity) -> str:
    """Write one number of a layer for screen readers."""
    value = shown.value(facts, quantity)
    if quantity == "outcome":
        if facts.outcome is None:
            return "TRIM did not search here"
        rate = "" if facts.learning_rate is None else f", η = {rate_label(facts.learning_rate)}"
        return f"learning-rate outcome {facts.outcome}{rate}"
    if math.isnan(value):
        return "not defined here"
    unit = LAYER_UNITS.get(shown.quality_measure, escape(shown.quality_measure))
    match quantity:
        case "median_gini":
            return f"median Gini {value:.3f}"
        case "layer_sparsity":
            return f"layer sparsity {value:.2%}"
        case "quality_gain":
            return (
                f"quality gain {change(value, 3)}<br>{number(facts.uniform_quality, 5)} uniform, "
                f"{number(facts.realised_quality, 5)} as pruned ({unit})"
            )
        case "row_variance_change":
            return (
                f"variance of row cosines × {number(10**value, 3)}<br>{number(facts.row_variance_uniform, 3)} uniform, "
                f"{number(facts.row_variance, 3)} as pruned"
            )
        case "error_left":
            return f"{value:.1%} of the mask's output error left"
        case "weights_moved":
            return f"kept weights moved by {value:.1%} of their size"
        case "tokens":
            return f"{value:,.0f} tokens received"
        case "row_agreement":
            return f"rank correlation of row sparsities {value:.2f}"
        case "loss_added" | "loss_foreseen":
            return f"{change(value, 3)} nats per token" + (
                " predicted" if quantity == "loss_foreseen" else ""
            )
    return f"variance of row cosines {number(value, 3)}"
