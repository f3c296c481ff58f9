"""The formulas and findings of a whole model's views, apart from its maps."""

from diagnostics.model_map import ModelMap, outcome_lanes

PERPLEXITY_FORMULA = r"""
$$
\exp\left(-\frac{1}{M}\sum_t \log p(x_t \mid x_{<t})\right)
$$

over $M$ predictions: all tokens of every window but its first. A model that chose evenly between $n$ tokens would have
perplexity $n$. Only runs measured on the very same windows are shown side by side.
"""


def lanes_finding(maps: list[ModelMap]) -> str:
    """Return the finding of outcomes against Gini."""
    sentences = []
    for shown in maps:
        lanes = {lane.outcome: lane for lane in outcome_lanes([shown])}
        positive, negative = lanes["positive"], lanes["negative"]
        if positive.gini.size and negative.gini.size:
            more = "more" if positive.median > negative.median else "less"
            sentences.append(
                f"In {shown.label} the {positive.gini.size:,} layers with a positive rate have {more} concentrated "
                f"scores than the {negative.gini.size:,} with a negative one."
            )
        elif shown.layers:
            sentences.append(f"In {shown.label} only one sign occurs.")
    return " ".join(sentences) or "No layer was searched yet."
