"""The finding of a map of a model, in one sentence."""

import numpy as np

from diagnostics.figures.model_map import layer_text
from diagnostics.format import counted, verb
from diagnostics.model_map import OUTCOMES, MapQuantity, ModelMap, Outcome


def map_finding(shown: ModelMap, quantity: MapQuantity) -> str:
    """Describe what one heat map shows, also for readers who cannot see it."""
    if not shown.layers:
        return "No block is done yet."
    if quantity == "outcome":
        sentence = _outcomes(shown.outcome_counts())
        if losing := sum(
            facts.learning_rate is not None and facts.quality_gain < 0 for facts in shown.layers
        ):
            sentence += (
                f" TRIM chooses at counts rounded down; at exact counts {losing:,} of the chosen rates "
                f"{verb(losing, 'lose')}."
            )
        if few := sum(facts.outcome is None and np.isfinite(facts.tokens) for facts in shown.layers):
            sentence += (
                f" {few:,} more {'is' if few == 1 else 'are'} of experts that too few tokens reach: every row loses "
                "the same there."
            )
        return sentence
    values = np.array([shown.value(facts, quantity) for facts in shown.layers])
    if not np.isfinite(values).any():
        return "It is not defined for any layer here."
    low, high = int(np.nanargmin(values)), int(np.nanargmax(values))
    if _plain_text(shown, low, quantity) == _plain_text(shown, high, quantity):
        return f"The same in every layer: {_plain_text(shown, low, quantity)}."
    sentence = f"Lowest in {shown.layers[low].name} ({_plain_text(shown, low, quantity)}), highest in "
    sentence += f"{shown.layers[high].name} ({_plain_text(shown, high, quantity)})."
    if quantity == "quality_gain":
        gaining, losing = int((values > 0).sum()), int((values < 0).sum())
        sentence = f"{counted(gaining, 'layer')} {verb(gaining, 'gain')}, {losing:,} {verb(losing, 'lose')}. {sentence}"
    if quantity == "row_variance_change":
        sentence = (
            f"In {(values < 0).sum():,} of {len(values):,} layers the rows became more equal. {sentence}"
        )
    return sentence


def _outcomes(counts: dict[Outcome, int]) -> str:
    layers = sum(counts.values())
    for outcome in OUTCOMES:
        if layers > 1 and counts[outcome] == layers and outcome != "none":
            return f"All {layers:,} layers chose a {outcome} rate."
    return (
        f"Of {counted(layers, 'layer')}, {counts['positive']:,} chose a positive rate, {counts['negative']:,} a "
        f"negative one, and in {counts['none']:,} nothing beat uniform."
    )


def _plain_text(shown: ModelMap, index: int, quantity: MapQuantity) -> str:
    return layer_text(shown, shown.layers[index], quantity).split("<br>")[0]
