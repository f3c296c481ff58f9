"""Why TRIM helps a layer or does not, in a few sentences with the layer's own numbers."""

import numpy as np

from app.services.layer.shipped import Gains
from app.services.runs.layer import LayerView
from diagnostics.format import between, change, number, percent
from diagnostics.numeric import rank_correlation

WEAK = 0.1  # a rank correlation below it is too weak to guide TRIM


def why(view: LayerView, gains: Gains | None, live: bool) -> dict[str, object] | None:
    """Return the explanation for the component: a label, terms with their sentences, and links to other layers.

    Args:
        view: the layer, with all its allocations.
        gains: the gains of all layers of its model, if they were measured under the same settings.
        live: whether other layers can be opened from here.
    """
    if view.search is None or "trim" not in view.qualities or not np.isfinite(view.qualities["trim"]):
        return None
    gain = view.qualities["trim"] - view.qualities["uniform"]
    rate = view.search.learning_rate
    if rate is None:
        label, term = "Why no gain", "TRIM changes nothing here"
    elif gain > 0:
        label, term = "Why it helps", f"TRIM gains {change(gain)}"
    else:
        label, term = "Why it loses", f"TRIM loses {number(-gain, 2)}"
    facts = [(term, _qualities(view)), ("Rows differ", _rows(view, rate))]
    if "optimal" in view.qualities:
        facts.append(_guide(view, rate))
    if gains is not None:
        facts.append(_among(view, gains))
    return {"label": label, "facts": facts, "ways": _ways(view, gains) if live else []}


def _qualities(view: LayerView) -> str:
    target, quality = percent(view.target, 0), view.qualities
    pruned = f"With every row pruned to {target} (uniform), layer quality is {number(quality['uniform'], 5)}"
    if view.search is not None and view.search.learning_rate is None:
        sentence = f"{pruned}, and no learning rate does better."
    else:
        sentence = f"{pruned}; with TRIM it is {number(quality['trim'], 5)}."
    if "optimal" in quality:
        sentence += f" The optimal allocation reaches {number(quality['optimal'], 5)}"
        gain, most = quality["trim"] - quality["uniform"], quality["optimal"] - quality["uniform"]
        sentence += f": TRIM makes {percent(gain / most, 0)} of that gain." if 0 < gain < most else "."
    return sentence


def _rows(view: LayerView, rate: float | None) -> str:
    live = view.cosines[0].cosine[~view.dead_rows]
    if not live.size:
        return "No row has any output on this text."
    kept = f"At the same sparsity, they keep a cosine of {between(number(live.min(), 3), number(live.max(), 3))}."
    if rate is None:
        return f"{kept} Neither pruning those harder that keep more (η > 0) nor those that keep less (η < 0) helps."
    sparsity = view.allocation("trim").row_sparsity
    which = "more (η > 0)" if rate > 0 else "less (η < 0)"
    return (
        f"{kept} TRIM prunes those harder that keep {which}: rows lose "
        f"{between(percent(sparsity.min()), percent(sparsity.max()))} of their weights."
    )


def _guide(view: LayerView, rate: float | None) -> tuple[str, str]:
    """Describe whether the optimum, which knows each row's error, moves weights the same way."""
    taken = view.allocation("optimal").counts - view.allocation("uniform").counts
    found = rank_correlation(view.cosines[0].cosine, taken)
    if found is None:
        if np.ptp(view.allocation("optimal").counts) <= 1:
            return "The optimum", "It prunes the same share of every row."
        return "The optimum", "It cannot go by the cosine, in which no two rows differ."
    written = f"(rank correlation of cosine and pruned weights {change(found.coefficient)})"
    if abs(found.coefficient) < WEAK:
        return (
            "The cosine is a poor guide",
            f"The optimum does not go by it {written}: rows of high and of low cosine can spare weights.",
        )
    which = "higher" if found.coefficient > 0 else "lower"
    way = f"prunes rows of {which} cosine harder {written}."
    if rate is None:
        return "The optimum goes by it", f"It {way}"
    if (found.coefficient > 0) == (rate > 0):
        return "The optimum leans the same way", f"It, too, {way}"
    return "The optimum disagrees", f"It {way}"


def _among(view: LayerView, gains: Gains) -> tuple[str, str]:
    target = percent(gains.target, 0)
    if view.name == gains.most.layer:
        return "Best of its model", f"At {target}, no other of {gains.layers} layers gains as much."
    most = gains.most
    return (
        "Best of its model",
        f"At {target}, {most.layer} gains most of {gains.layers} layers: {change(most.gain)}.",
    )


def _ways(view: LayerView, gains: Gains | None) -> list[tuple[str, str, str]]:
    """Return links to other layers: the value that the component sends, and the label of its button."""
    examples = () if gains is None else ((gains.most.layer, "Most gain"), (gains.least.layer, "No gain"))
    ways = [("layer", name, f"{words}: {name}") for name, words in examples if name != view.name]
    return [*ways, ("opened", "layers", "All layers")]
