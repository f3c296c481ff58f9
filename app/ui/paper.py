"""The paper's figures from our own runs: what each shows, a finding from our numbers, and the differences.

The paper: Beck, Rudman, Eickhoff, arXiv 2505.16743. Texts about it state only what its figures and abstract state.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from app.services.results.sweep_curves import curves, texts
from app.services.results.tables import model_map
from app.services.runs.layer import LayerView
from app.services.server.lru import SharedCache
from app.ui.common import explanations
from app.ui.common.cards import View, theme
from app.ui.common.curves import curves_text, curves_view
from app.ui.common.explanations import MAP_FORMULAS
from diagnostics.allocation import row_sparsity_statistics
from diagnostics.distributions import RowNumbers, distributions
from diagnostics.figures.allocation import sorted_row_sparsity
from diagnostics.figures.concentration import gini_histogram
from diagnostics.figures.distributions import GINI, ridges_figure
from diagnostics.figures.masks import masks_figure
from diagnostics.figures.outcome_gini import outcome_gini_figure
from diagnostics.figures.perplexity import PerplexityCurve
from diagnostics.figures.similarity import cosine_figure
from diagnostics.format import number, percent
from diagnostics.model_map import OutcomeLane, outcome_lanes
from diagnostics.similarity import PERCENTILES, CosineStatistics, cosine_statistics
from trim.runs.folder import Run
from trim.sweeps.folder import Sweep

FIRST_SPARSITY = 0.7  # the lowest sparsity in the paper's figure 2
KEYS = "k_proj"
MIN_LAYERS_PER_SIGN = 10
FIGURE_CACHE_SIZE = 64
_redrawn: SharedCache[Hashable, "Redrawn | None"] = SharedCache(FIGURE_CACHE_SIZE)


@dataclass(frozen=True, eq=False)
class Redrawn:
    """A figure of the paper and ours next to it.

    Attributes:
        title: the figure's title.
        paper: what the paper's figure shows.
        differs: how our figure differs, and why.
        views: our figures, each with its finding.
    """

    title: str
    paper: str
    differs: str
    views: dict[str, Callable[[], View]]


def redrawn(made_of: Hashable, draw: Callable[[], Redrawn | None]) -> Redrawn | None:
    """Return a figure from the cache of all readers, or draw it.

    Args:
        made_of: a key: the figure's name, and everything that it depends on.
        draw: one of the functions below, which returns None if the figure cannot be drawn.
    """
    return _redrawn.get(made_of, draw)


def figure_1(layer: LayerView) -> Redrawn:
    """Draw uniform and row-wise sparsity of a small matrix."""
    from app.services.layer import lessons  # imports torch

    uniform, trim = lessons.three_allocations(0.5)[:2]
    sparsity = layer.own.row_sparsity
    counts = [", ".join(map(str, matrix.counts)) for matrix in (uniform, trim)]
    statistics = row_sparsity_statistics(layer.allocations)
    low, high = np.percentile(sparsity, [5, 95])

    def drawn() -> View:
        finding = (
            f"By row, uniform takes {counts[0]} of 8 weights, and TRIM {counts[1]}; both take half of all."
        )
        return View(
            masks_figure((uniform, trim), theme()),
            finding,
            explanations.ROW_SPARSITY_FORMULA,
            "Masks of uniform and TRIM on a small layer",
            lambda: {"row": np.arange(4), "uniform_pruned": uniform.counts, "trim_pruned": trim.counts},
        )

    def real() -> View:
        finding = (
            f"In {layer.name} 90% of the rows lie between {percent(low)} and {percent(high)} row "
            f"sparsity, the extremes "
            f"at {percent(sparsity.min())} and {percent(sparsity.max())}, at a layer sparsity of "
            f"{percent(layer.own.layer_sparsity)}."
        )
        return View(
            sorted_row_sparsity(statistics, (), theme()),
            finding,
            explanations.ROW_SPARSITY_FORMULA,
            "Row sparsities in ascending order",
            lambda: {"row": np.arange(layer.rows), "row_sparsity": sparsity},
        )

    return Redrawn(
        "Uniform against row-wise sparsity",
        "A drawing. On the left Wanda, which prunes every output dimension (row) by the layer's sparsity T; on the "
        "right TRIM, which gives each row a sparsity of its own. The layer's sparsity is the same.",
        "The paper draws an idea; this is computed, by the library, on a layer of four rows. In a real layer the rows "
        f"move less than such drawings suggest: here by {100 * float(np.std(sparsity)):.1f} percentage points "
        "(standard deviation).",
        {"Small layer": drawn, "Real layer": real},
    )


def figure_2(sweeps: Sequence[Sweep]) -> Redrawn | None:
    """Draw perplexity from 70% to 80% model sparsity; None: nothing was measured there."""
    for text in texts(sweeps):
        found, dense = curves(sweeps, text)
        shown = [cut for curve in found if (cut := _from(curve, FIRST_SPARSITY)) is not None]
        if shown:
            break
    else:
        return None
    finding = curves_text(shown, dense)
    saved = _saved(shown)

    def view() -> View:
        return curves_view(
            shown, dense, text, f"{finding} {saved}", "Perplexity against model sparsity from 70%"
        )

    return Redrawn(
        "Perplexity from 70% to 80%",
        "Perplexity against model sparsity for several methods, from 70 to 80%. The abstract says: at 80% TRIM reduces "
        "perplexity by 48% for Qwen2.5-14B and by over 90% for OPT-13B, compared to baseline methods.",
        "Another model, far smaller, and another text than the paper's WikiText-2, so only the order of methods can be "
        "compared, not the numbers. The optimal method is ours and not in the paper; where it says refitted, "
        "the kept weights are changed as well, which TRIM and Wanda do not.",
        {"Curves": view},
    )


def _from(curve: PerplexityCurve, least: float) -> PerplexityCurve | None:
    kept = [index for index, sparsity in enumerate(curve.sparsity) if sparsity >= least]
    if len(kept) < 2:
        return None
    columns = (curve.sparsity, curve.perplexity, curve.least, curve.most)
    return PerplexityCurve(
        curve.label, curve.method, *(tuple(line[index] for index in kept) for line in columns)
    )


def _saved(shown: list[PerplexityCurve]) -> str:
    """Describe what TRIM gains over uniform at the highest sparsity at which both are drawn."""
    ends = {curve.method: (curve.sparsity[-1], curve.perplexity[-1]) for curve in shown}
    if "trim" not in ends or "uniform" not in ends or ends["trim"][0] != ends["uniform"][0]:
        return ""
    change = ends["trim"][1] / ends["uniform"][1] - 1
    verb = "lowers" if change < 0 else "raises"
    return f"At {percent(ends['trim'][0], 0)} TRIM {verb} uniform's perplexity by {percent(abs(change), 0)}."


def figure_3a(layer: LayerView) -> Redrawn:
    """Draw the Gini histogram of one layer."""
    (summary,) = layer.gini.summaries
    gini = layer.coefficients
    finding = (
        f"{layer.name}: the median row has a Gini of {number(summary.median, 3)}, half of the rows lie between "
        f"{number(summary.lower_quartile, 3)} and {number(summary.upper_quartile, 3)}, the largest is "
        f"{number(np.nanmax(gini), 3)}."
    )

    def view() -> View:
        return View(
            gini_histogram(layer.gini, (), theme()),
            finding,
            explanations.GINI_FORMULA,
            "Gini histogram",
            lambda: {"row": np.arange(layer.rows), "gini": gini},
        )

    above = int((gini > summary.upper_quartile + 3 * (summary.upper_quartile - summary.lower_quartile)).sum())
    return Redrawn(
        "How concentrated the rows are",
        "A histogram of the Gini coefficients of a layer's rows (output dimensions).",
        f"Another model. Here {above:,} of {layer.rows:,} rows lie far to the right of the rest (more than three times "
        "the middle half's width above it); choose other layers above to see how that changes.",
        {"Gini": view},
    )


def figure_3b(layer: LayerView) -> Redrawn:
    """Draw cosine against row sparsity."""
    statistics = cosine_statistics(layer.cosine_curves, layer.sparsity_grid, layer.own.layer_sparsity)
    at_half, at_most = (_bands_at(statistics, share) for share in (0.5, 0.9))
    finding = (
        f"At 50% row sparsity 90% of the rows keep a cosine between {number(at_half[0], 2)} and "
        f"{number(at_half[1], 2)}; at 90% "
        f"between {number(at_most[0], 2)} and {number(at_most[1], 2)}."
    )

    def view() -> View:
        return View(
            cosine_figure(statistics, theme()),
            finding,
            explanations.COSINE_FORMULA,
            "Cosine against row sparsity",
            lambda: (
                {"row_sparsity": statistics.sparsity}
                | {f"percentile_{p}": band for p, band in zip(PERCENTILES, statistics.bands, strict=True)}
            ),
        )

    wider = at_most[1] - at_most[0] > at_half[1] - at_half[0]
    return Redrawn(
        "How fast rows lose their output",
        "The cosine similarity between rows' pruned and dense outputs, against sparsity.",
        "Another model. Ours draws bands of all rows, at 33 stored sparsities. Here the rows "
        f"{'drift apart as sparsity grows' if wider else 'stay about as far apart at 90% as at 50%'}.",
        {"Cosine": view},
    )


def _bands_at(statistics: CosineStatistics, share: float) -> tuple[float, float]:
    low, high = (float(np.interp(share, statistics.sparsity, statistics.bands[index])) for index in (0, 4))
    return low, high


def figure_3c(runs: list[Run]) -> Redrawn:
    """Draw the sign of the learning rate against Gini, of one or two models."""
    lanes = outcome_lanes([model_map(run) for run in runs])
    counts = {
        outcome: sum(lane.gini.size for lane in lanes if lane.outcome == outcome)
        for outcome in ("positive", "negative", "none")
    }
    finding = " ".join(_lane_text(run.name, [lane for lane in lanes if lane.run == run.name]) for run in runs)

    def view() -> View:
        sizes = [lane.gini.size for lane in lanes]
        return View(
            outcome_gini_figure(lanes, theme()),
            finding,
            MAP_FORMULAS["outcome"],
            "Learning-rate outcome of every layer against its median Gini",
            lambda: {
                "layer": np.array([name for lane in lanes for name in lane.names], dtype=str),
                "outcome": np.repeat([lane.outcome for lane in lanes], sizes),
                "median_gini": np.concatenate([lane.gini for lane in lanes]),
            },
        )

    differs = "The paper compares two models. "
    differs += (
        "Here are two runs as well. "
        if len(runs) > 1
        else "Here is one; a second can be chosen above once it is pruned. "
    )
    if min(counts["positive"], counts["negative"]) < MIN_LAYERS_PER_SIGN:
        differs += (
            f"With {counts['negative']} layers of negative and {counts['positive']} of positive rate, ours cannot tell "
            "whether the Gini decides the sign. The step Sign of Learn shows how it can."
        )
    return Redrawn(
        "The learning rate's sign against the Gini",
        "The sign of the learning rate that TRIM chose in a layer, against the Gini, for two models.",
        differs,
        {"Outcome": view},
    )


def _lane_text(name: str, lanes: list[OutcomeLane]) -> str:
    parts = [
        f"{lane.gini.size} {'stayed uniform' if lane.outcome == 'none' else lane.outcome}"
        + (f" (median Gini {number(lane.median, 3)})" if lane.gini.size else "")
        for lane in sorted(lanes, key=lambda lane: -lane.gini.size)
    ]
    return f"{name}: of {sum(lane.gini.size for lane in lanes)} layers {', '.join(parts)}."


def figure_4(run: Run) -> Redrawn | None:
    """Draw Gini histograms of the key projections of all blocks; None: the model has none of that name."""
    names = [name for name in run.layers if name.endswith(f".{KEYS}")]
    if not names:
        return None
    coefficients = {name.partition(".")[0]: run.array(name, "gini") for name in names}
    found = distributions([RowNumbers(f"block {block}", values) for block, values in coefficients.items()])
    medians = found.quartiles[:, 1]
    typical = float(np.nanmedian(medians))
    odd = int(np.nanargmax(np.abs(medians - typical)))
    finding = (
        f"The blocks' medians lie between {number(np.nanmin(medians), 3)} and "
        f"{number(np.nanmax(medians), 3)}. Farthest from the "
        f"rest is block {list(coefficients)[odd]} with {number(medians[odd], 3)}; the typical block "
        f"has {number(typical, 3)}."
    )

    def view() -> View:
        return View(
            ridges_figure(found, GINI, theme(), title="Are the rows alike in every block?"),
            finding,
            explanations.GINI_FORMULA,
            f"Gini histograms of the key projections of {len(names)} blocks",
            lambda: {
                "block": np.repeat(list(coefficients), [len(values) for values in coefficients.values()]),
                "gini": np.concatenate(list(coefficients.values())),
            },
        )

    rows = len(next(iter(coefficients.values())))
    return Redrawn(
        "Gini of the key projections in all blocks",
        "Gini histograms of the key projection (K-proj), for all blocks.",
        f"Another model, with {rows:,} rows to a key projection. Ours are one above the other on one axis, so that "
        "blocks can be compared.",
        {"Blocks": view},
    )
