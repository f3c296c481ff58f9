"""The texts around the four linked charts: the line of numbers, legends, findings and terms."""

from app.services.runs.layer import LayerView
from app.ui.common.parts import ALL_LAYERS
from app.ui.layer.text import ROUNDED_DOWN, cosine_finding, gini_finding, rate_finding, row_sparsity_finding
from diagnostics.format import change, number, percent, rate_label
from diagnostics.learning_rate import LAYER_UNITS
from diagnostics.panel_parts import Panel

PART_OF_CHART = {
    "gini": "Gini",
    "cosine": "Cosine",
    "row_sparsity": "Sparsity",
    "rate": "Search",
    "layers": ALL_LAYERS,
}
QUALITY = "Quality: "
LAYER_QUALITY, LEARNING_RATE = "Layer quality", "Learning rate η"  # terms that the page defines
# The terms that each linked chart uses, shown below its finding.
_EXPLANATIONS = {
    "gini": "Gini: 0 if all weights of a row score the same, near 1 if few hold all.",
    "cosine": "Cosine of the output before and after pruning: 1 unchanged, 0 lost.",
    "row_sparsity": "Row: one output dimension of the layer.",
}
_SYMBOLS = {
    "triangle-up": "η > 0",
    "triangle-down": "η < 0",
    "circle-open": "would gain, not tried",
    "cross": "by rounded counts, as TRIM chooses",
}


def legend(panel: Panel) -> list[tuple[str, str, str]]:
    """Return the legend below a chart's finding: symbols, each with its style, and words."""
    if explanation := _EXPLANATIONS.get(panel.name):
        return [("", "", explanation)]
    shown = {mark.symbol: mark.style for mark in panel.marks if not mark.pinned}
    return [(symbol, shown[symbol], meaning) for symbol, meaning in _SYMBOLS.items() if symbol in shown]


def headline(view: LayerView, pinned: LayerView | None) -> list[tuple[str, str, str, str, str]]:
    """Return the line of numbers, each with a label, its value, a note, a longer note if it fits, and its meaning."""
    uniform = view.qualities["uniform"] if "uniform" in view.qualities else float("nan")
    meaning = dict(meanings(view))
    line = []
    for index, allocation in enumerate(view.allocations):
        method, quality = allocation.method, view.qualities[allocation.method]
        notes = [] if method == "uniform" else [change(quality - uniform)]
        if pinned is not None and method in pinned.qualities:
            notes.append(f"(pinned {number(pinned.qualities[method], 5)})")
        values = number(quality, 5), " ".join(notes)
        if index:
            line.append((allocation.label, *values, "", meaning.get(allocation.label, "")))
        else:
            line.append((f"{QUALITY}{allocation.label}", *values, _kept(view), meaning[LAYER_QUALITY]))
    search = view.search
    if search is not None:
        rate = "none" if search.learning_rate is None else rate_label(search.learning_rate)
        line.append(("η", rate, "", "learning rate", meaning[LEARNING_RATE]))
    pruned = percent(view.pruned / (view.rows * view.columns), 2)
    line.append(("Pruned", pruned, "", "", "the share of the layer's weights that is pruned."))
    return line


def _kept(view: LayerView) -> str:
    measure = view.quality_measure
    return "output kept" if measure.startswith("cosim") else LAYER_UNITS[measure]


def meanings(view: LayerView) -> list[tuple[str, str]]:
    """Return the page's terms with their definitions."""
    terms = [
        ("Row", "an output dimension of the layer: one line of its weight matrix."),
        (
            "Row sparsity",
            "the share of a row's weights that is pruned; over all rows it averages to the layer's.",
        ),
        (
            LAYER_QUALITY,
            f"how much of the layer's output is left, as {LAYER_UNITS[view.quality_measure]}; 1 is all."
            if view.quality_measure.startswith("cosim")
            else f"{LAYER_UNITS[view.quality_measure]}; larger is better.",
        ),
        ("Uniform", "every row loses the same share, as in Wanda."),
    ]
    for each in view.allocations:
        if (meaning := _quality_help(view, each.method)) and each.method != "uniform":
            terms.append((each.label, meaning))
    terms += [
        (
            LEARNING_RATE,
            "how far rows move from uniform in each iteration. Positive: rows that keep their output are pruned "
            f"harder; negative: rows that lose it are. TRIM chooses by ×, the quality {ROUNDED_DOWN}; ▲ and ▼ are "
            "at exact counts.",
        ),
        ("Gini", "0: all scores of a row are equal; towards 1: few weights hold the score."),
        ("Cosine", "between a row's output before and after pruning; 1: its direction is kept."),
        (
            "Pointing, clicking",
            "What is pointed at lights up in all charts. A click selects it, a drag selects all in a "
            "box, Shift adds; Escape or a double click clears. Of a learning rate, the rows that it prunes more.",
        ),
    ]
    return terms


def findings(view: LayerView) -> dict[str, str]:
    """Return one finding for each of the four charts."""
    return {
        "gini": gini_finding(view),
        "cosine": cosine_finding(view),
        "row_sparsity": row_sparsity_finding(view),
        "rate": "" if view.search is None else rate_finding(view.search),
    }


def _quality_help(view: LayerView, method: str) -> str | None:
    """Explain the layer quality of one allocation."""
    if method == "uniform":
        return "At exact counts: every row loses the same share. Larger is better."
    if method == "trim":
        return (
            "It sets each row's sparsity by how much of its output the row keeps: with η > 0 rows that keep more lose "
            "more weights, with η < 0 fewer. The number: the layer quality under the masks that files get."
        )
    if method == "optimal":
        minimised = (
            "the layer's error"
            if view.sensitivity is None
            else "an estimate of the model's loss (Fisher row weights)"
        )
        caps = f"Its rows may lose up to {percent(view.caps['optimal'], 0)}"
        if "trim" in view.caps:
            caps += f", TRIM's up to {percent(view.caps['trim'], 0)}"
        return (
            f"The counts that minimise {minimised} for the same number of pruned weights; not this quality, though "
            f"mostly the two agree. {caps}."
        )
    return None
