"""One layer at all targets: how the rows' sparsities spread, and the paths of rows."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from app.services.runs.layer import METHOD_LABELS
from app.ui.common import explanations
from app.ui.common.cards import View, card, theme
from app.ui.common.diagnosis import diagnosis
from app.ui.layer.cards import MAX_LINES
from diagnostics.distributions import RowNumbers, distributions
from diagnostics.figures.distributions import ROW_SPARSITY, ridges_figure
from diagnostics.figures.targets import target_paths_figure
from diagnostics.figures.theme import series_styles
from diagnostics.format import change, percent
from diagnostics.targets import TargetPaths, target_paths

if TYPE_CHECKING:
    from app.ui.layer.more import ShownLayer
    from trim.runs.diagnosis_shapes import TargetCounts

HIGHEST = 0.9  # beyond it rows reach their caps, and all ridges would be squeezed


COST = (
    "The run's text is read up to this layer, with the blocks before it pruned; then TRIM and the optimum prune the "
    "layer at 13 targets."
)


def targets_section(shown: ShownLayer) -> None:
    """Show the rows of a layer at targets from 30 to 90%, under each of the shown methods."""
    if shown.live is not None:
        study, outcome = shown.live
        found = study.all_targets(outcome)
        low = found.curve.targets <= HIGHEST + 1e-9
        methods = [each.method for each in shown.view.learned] or list(found.counts)
        _card(
            [_followed(each, found.curve.targets[low], found.counts[each][low], shown) for each in methods],
            shown,
        )
        return
    run, name = shown.stored

    def show(found: list[TargetCounts]) -> None:
        _card(
            [
                _followed(each["method"], np.array(each["targets"]), np.array(each["counts"]), shown)
                for each in found
            ],
            shown,
        )

    diagnosis(run, "targets", "How do the rows spread at other targets?", COST, show, layer=name)


def _followed(method: str, targets: np.ndarray, counts: np.ndarray, shown: ShownLayer) -> TargetPaths:
    return target_paths(method, METHOD_LABELS[method], targets, counts, shown.view.columns)


def _card(found: list[TargetPaths], shown: ShownLayer) -> None:
    variants = {}
    for paths in found:
        formula = (
            explanations.OPTIMAL_FORMULA if paths.method == "optimal" else explanations.ROW_SPARSITY_FORMULA
        )
        more = f", {paths.label}" if len(found) > 1 else ""
        variants[f"Ridges{more}"] = partial(_ridges, paths, formula)
        variants[f"Rows{more}"] = partial(_paths, paths, shown.rows[:MAX_LINES], formula)
    card("all_targets", variants, file_name=shown.file_name, bind="query-params", brief=True)


def _ridges(paths: TargetPaths, formula: str) -> View:
    sets = [
        RowNumbers(f"{target:.0%}", sparsity, columns=paths.columns)
        for target, sparsity in zip(paths.targets, paths.row_sparsity, strict=True)
    ]
    (style,) = series_styles([paths.method])
    figure = ridges_figure(
        distributions(sets),
        ROW_SPARSITY,
        theme(),
        title=f"How do rows spread as {paths.label} prunes more?",
        colour=style.colour,
    )
    figure.update_yaxes(title_text="layer target")
    return View(
        figure,
        targets_finding(paths),
        formula,
        f"Distributions of the row sparsities at layer targets from 30%, {paths.label}",
        partial(_numbers, paths),
        has_key=True,
    )


def _paths(paths: TargetPaths, rows: list[int], formula: str) -> View:
    return View(
        target_paths_figure(paths, rows or extremes(paths), theme()),
        targets_finding(paths),
        formula,
        f"Row sparsity against the layer target, {paths.label}",
        partial(_numbers, paths),
        has_key=True,
    )


def extremes(paths: TargetPaths) -> list[int]:
    """Return the least, the median and the most pruned row at the target where rows differ most."""
    widest = int((paths.bands[4] - paths.bands[0]).argmax())
    order = np.argsort(paths.counts[widest], kind="stable")
    return sorted({int(order[0]), int(order[len(order) // 2]), int(order[-1])})


def _numbers(paths: TargetPaths) -> dict[str, np.ndarray]:
    shares = {
        f"row_sparsity_at_{target:.0%}": each
        for target, each in zip(paths.targets, paths.row_sparsity, strict=True)
    }
    return {"row": np.arange(paths.counts.shape[1]), **shares}


def targets_finding(paths: TargetPaths) -> str:
    """Describe where rows differ most, whether they keep their order, and how many give weights back."""
    widths = paths.bands[4] - paths.bands[0]
    widest = int(widths.argmax())
    if widths[widest] == 0:
        return "At every target nine rows in ten lose the same share."
    sentence = (
        f"Rows differ most at a layer target of {percent(paths.targets[widest], 0)}: nine in ten lose "
        f"{percent(paths.bands[0][widest])} to {percent(paths.bands[4][widest])}."
    )
    if np.isfinite(paths.order[0]):
        sentence += (
            f" Their order at {percent(paths.targets[0], 0)} and {percent(paths.targets[-1], 0)}: Spearman "
            f"{change(float(paths.order[0]))}."
        )
    given = paths.given_back
    return sentence + (
        " No row loses less at a higher target."
        if given == 0
        else f" {percent(given)} of the rows lose less at some higher target."
    )
