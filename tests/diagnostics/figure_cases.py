"""One of each figure, and how tests read them."""

import json
import re

import numpy as np

from diagnostics.allocation import RowAllocation, pool_mask, row_scatter, row_sparsity_statistics
from diagnostics.concentration import gini, gini_statistics, lorenz_curves
from diagnostics.figures.allocation import row_sparsity_ecdf, row_sparsity_histogram, sorted_row_sparsity
from diagnostics.figures.concentration import gini_histogram, lorenz_figure
from diagnostics.figures.diagnoses import (
    BlockErrorLine,
    block_error_figure,
    cost_scatter_figure,
    token_scatter_figure,
)
from diagnostics.figures.gap import gap_loss_figure, gap_quality_figure, gap_scatter_figure, gap_share_figure
from diagnostics.figures.iterations import iteration_figure, landscape_figure
from diagnostics.figures.learning_rate import rate_figure
from diagnostics.figures.mask import mask_figure
from diagnostics.figures.row_detail import row_paths_figure, row_prices_figure, row_scores_figure
from diagnostics.figures.scatter import row_scatter_figure
from diagnostics.figures.signal import rate_draws_figure, row_signal_figure
from diagnostics.figures.similarity import cosine_figure
from diagnostics.gap import GapCurve, allocation_gap
from diagnostics.learning_rate import LearningRateTrace
from diagnostics.row_detail import row_paths, row_prices, row_scores
from diagnostics.similarity import AllocatedCosine, cosine_statistics, sparsity_grid

RATES = np.array([0.01, 0.02, 0.04, 0.08, 0.12, 0.16, -0.01, -0.02, -0.04])


def allocation(counts, columns=50, method="trim"):
    return RowAllocation(method, method, np.asarray(counts), columns)


def search_trace(**changes):
    quality = 0.9 + 0.01 * np.sin(np.outer(100 * RATES, np.arange(11)))
    quality[:, 0] = 0.9
    tried = np.arange(9) < 3
    given = {
        "rates": RATES,
        "quality": quality,
        "row_variance": np.full((9, 11), 1e-3),
        "tried": tried,
        "chosen": 1,
        "published": quality + 1e-4,
    }
    return LearningRateTrace(**(given | changes))


def all_figures(rows, columns, selected=(), label="TRIM", theme="light"):
    """Return one of each figure, for a layer of this shape."""
    rng = np.random.default_rng(0)
    scores = rng.lognormal(size=(rows, min(columns, 64)))
    coefficients = gini(scores)
    counts = rng.integers(0, columns + 1, rows)
    uniform = RowAllocation("uniform", "uniform", np.full(rows, columns // 2), columns)
    trim = RowAllocation("trim", label, counts, columns)
    distributions = row_sparsity_statistics([uniform, trim])
    sparsity = sparsity_grid(columns) / columns
    cosine = np.sqrt(1 - sparsity ** rng.uniform(2, 9, (rows, 1)))
    places = [
        AllocatedCosine(a.method, a.label, a.row_sparsity, rng.random(rows))
        for a in distributions.allocations
    ]
    paths = np.cumsum(rng.normal(0, 0.01, (rows, 11)), axis=1) + 0.5
    row = selected[0] if selected else 0
    trace = search_trace()
    # The same counts on other rows: a gap is between allocations of one total.
    optimal = RowAllocation("optimal", "optimal", counts[::-1].copy(), columns)
    gap = allocation_gap(trim, optimal, uniform_quality=0.5, reached_quality=0.6, best_quality=0.9)
    over_targets = GapCurve.of([0.5, 0.7], [(0.5, 0.6, 0.9)] * 2, [(4.0, 3.0, 2.0)] * 2, "cosim_flat")
    return {
        "gap quality": gap_quality_figure(over_targets, theme),
        "gap loss": gap_loss_figure(over_targets, theme),
        "gap share": gap_share_figure(over_targets, theme),
        **{
            f"gap {quantity}": gap_scatter_figure(
                row_scatter(gap.reached, quantity, 0.1 + rng.random(rows), selected, gap.excess),
                selected,
                theme,
            )
            for quantity in ("output_norm", "gini", "sensitivity")
        },
        **diagnosed_figures(rng, label, theme),
        "row signal": row_signal_figure(rng.random((3, rows)), "row sparsity", selected, theme),
        "rate draws": rate_draws_figure([None, 0.01, 0.01], theme),
        "gini": gini_histogram(gini_statistics({label: coefficients}), selected, theme),
        "gini of two": gini_histogram(
            gini_statistics({"wanda": coefficients, label: coefficients}), selected, theme
        ),
        "lorenz": lorenz_figure(lorenz_curves(scores, selected), theme),
        "cosine": cosine_figure(cosine_statistics(cosine, sparsity, 0.5, places, selected), theme),
        "histogram": row_sparsity_histogram(distributions, selected, theme),
        "sorted": sorted_row_sparsity(distributions, selected, theme),
        "ecdf": row_sparsity_ecdf(distributions, theme),
        **{
            f"scatter {quantity}": row_scatter_figure(
                [row_scatter(trim, quantity, rng.random(rows), selected)], selected, theme
            )
            for quantity in ("gini", "weight_norm", "cosine")
        },
        "rate": rate_figure(trace, theme),
        "iteration": iteration_figure(trace, theme),
        "landscape": landscape_figure(trace, theme),
        "mask": mask_figure(pool_mask(rng.random((rows, columns)) < 0.5), selected, theme),
        "row scores": row_scores_figure(
            row_scores(row, rng.random(columns), distributions.allocations), theme
        ),
        "row prices": row_prices_figure(
            row_prices(row, np.full(4, columns // 4), np.geomspace(1e-3, 10, 4), 0.2, columns // 2, columns),
            "output error",
            theme,
        ),
        "row paths": row_paths_figure(
            row_paths(
                paths,
                trim.row_sparsity,
                selected or [0],
                learning_rate=0.01,
                kept_iteration=3,
                target=0.5,
                cap=0.95,
            ),
            theme,
        ),
    }


def diagnosed_figures(rng, label, theme):
    blocks = np.arange(4)
    numbers = dict.fromkeys(("error", "low", "high", "cosine", "carried", "added"), rng.random(4))
    lines = [BlockErrorLine(each, "trim", blocks, **numbers) for each in (label, "second")]
    return {
        "layer cost": cost_scatter_figure(
            [label, "1.b", "1.c", "1.d"],
            np.array([0.3, 0.2, np.nan, 0.4]),
            np.array([0.1, -0.1, 0.3, np.nan]),
            np.array([np.nan, 0.1, 0.1, 0.1]),
            "median Gini",
            theme,
        ),
        **{f"blocks {name}": block_error_figure(lines, name, theme) for name in ("error", "cosine", "added")},
        "tokens": token_scatter_figure(
            np.array([1.0, 2.0, np.inf]), np.array([2.0, 1.0, 1.0]), [label] * 3, theme
        ),
    }


def subtitle(figure):
    return figure.layout.title.subtitle.text.replace("<br>", " ")


def traces(figure, name):
    return [trace for trace in figure.data if trace.name == name]


def visible_texts(figure):
    found = []

    def walk(value):
        if isinstance(value, dict):
            for item in value.values():
                walk(item)
        elif isinstance(value, list):
            for item in value:
                walk(item)
        elif isinstance(value, str):
            found.append(value)

    walk(json.loads(figure.to_json()))
    return found


def sparsities_of(figure):
    """Return the words before "sparsity" in what a reader sees."""
    found = (re.findall(r"([\w']+)(?:\s|<br>)+sparsit", text) for text in visible_texts(figure))
    return {word.lower() for words in found for word in words}
