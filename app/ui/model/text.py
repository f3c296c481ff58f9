"""For each view of a whole model: the formula behind it, and one sentence of what is to be seen in it."""

import numpy as np

from diagnostics.figures.model_map import layer_text
from diagnostics.model_map import ModelMap, Quantity, outcome_lanes

PERPLEXITY_FORMULA = r"""
$$
\exp\left(-\frac{1}{M}\sum_t \log p(x_t \mid x_{<t})\right)
$$

over $M$ predictions: all tokens of every window but its first. A model that chose evenly between $n$ tokens would have
perplexity $n$. Only runs measured on the very same windows are shown side by side.
"""


def map_seen(shown: ModelMap, quantity: Quantity) -> str:
    """Describe what one heat map shows, also for readers who cannot see it."""
    if not shown.layers:
        return "No block is done yet."
    if quantity == "outcome":
        counts = shown.outcome_counts()
        sentence = (
            f"Of {sum(counts.values()):,} layers, {counts['positive']:,} chose a positive rate, {counts['negative']:,} "
            f"a negative one, and in {counts['none']:,} nothing beat uniform."
        )
        if losing := sum(
            facts.learning_rate is not None and facts.quality_gain < 0 for facts in shown.layers
        ):
            sentence += (
                f" TRIM chooses at counts rounded down; at exact counts {losing:,} of the chosen rates lose."
            )
        return sentence
    values = np.array([shown.value(facts, quantity) for facts in shown.layers])
    if not np.isfinite(values).any():
        return "It is not defined for any layer here."
    if np.ptp(values[np.isfinite(values)]) < 1e-12:
        return f"The same in every layer: {_plain_text(shown, 0, quantity)}."
    low, high = int(np.nanargmin(values)), int(np.nanargmax(values))
    sentence = f"Lowest in {shown.layers[low].name} ({_plain_text(shown, low, quantity)}), highest in "
    sentence += f"{shown.layers[high].name} ({_plain_text(shown, high, quantity)})."
    if quantity == "quality_gain":
        losing = int((values < 0).sum())
        sentence = f"{(values > 0).sum():,} layers gain, {losing:,} lose. {sentence}"
    if quantity == "row_variance_change":
        sentence = (
            f"In {(values < 0).sum():,} of {len(values):,} layers the rows became more equal. {sentence}"
        )
    return sentence


def _plain_text(shown: ModelMap, place: int, quantity: Quantity) -> str:
    return layer_text(shown, shown.layers[place], quantity).split("<br>")[0]


def lanes_seen(maps: list[ModelMap]) -> str:
    """Describe what the outcomes against the Gini show."""
    said = []
    for shown in maps:
        lanes = {lane.outcome: lane for lane in outcome_lanes([shown])}
        positive, negative = lanes["positive"], lanes["negative"]
        if positive.gini.size and negative.gini.size:
            more = "more" if positive.median > negative.median else "less"
            said.append(
                f"In {shown.label} the {positive.gini.size:,} layers with a positive rate have {more} concentrated "
                f"scores than the {negative.gini.size:,} with a negative one."
            )
        elif shown.layers:
            said.append(f"In {shown.label} only one sign occurs.")
    return " ".join(said) or "No layer was searched yet."
