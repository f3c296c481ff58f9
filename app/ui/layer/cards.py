"""The charts of one layer beyond its four linked ones, for live and stored layers alike."""

import dataclasses
from collections.abc import Callable
from functools import partial

import numpy as np
import plotly.graph_objects as go
import streamlit as st

from app.services.runs.layer import LayerView, SearchView
from app.ui.common import explanations
from app.ui.common.cards import View, card, theme
from app.ui.common.text import literal
from app.ui.layer import text
from diagnostics.allocation import row_scatter, row_sparsity_statistics
from diagnostics.concentration import gini_of_kept, gini_statistics, lorenz_curves
from diagnostics.figures.allocation import row_sparsity_ecdf, row_sparsity_histogram, sorted_row_sparsity
from diagnostics.figures.concentration import gini_histogram, lorenz_figure
from diagnostics.figures.iterations import iteration_figure, landscape_figure
from diagnostics.figures.learning_rate import rate_figure
from diagnostics.figures.row_detail import row_paths_figure
from diagnostics.figures.scatter import row_scatter_figure
from diagnostics.figures.similarity import cosine_figure, cosine_histogram
from diagnostics.learning_rate import LearningRateTrace
from diagnostics.row_detail import row_paths
from diagnostics.similarity import PERCENTILES, cosine_distribution, cosine_statistics

_WITHOUT_PIN = "The pinned layer is not drawn here; the Compare page draws both."
# Scatters of rows whose kept weights were changed, by the names of `LayerView.changes`.
CHANGES = {
    "row_error_masked": "Against the mask's error",
    "row_error": "Against error",
    "row_moved": "Against move",
}
MAX_LINES = 6  # rows drawn as lines of their own; more cannot be told apart


def concentration_card(view: LayerView, rows: list[int], file_name: str) -> None:
    """Show how concentrated the score is: Gini, Lorenz curves, and the Gini of the kept scores."""
    variants = {"Gini": lambda: gini_view(view, rows)}
    if (score := view.score) is not None:
        variants = {
            "Lorenz curves": lambda: _lorenz(view, score, rows),
            "Gini after pruning": lambda: _gini_after(view, score),
        } | variants
    card(
        "gini",
        variants,
        file_name=file_name,
        missing=None if score is not None else text.NO_SCORE,
        bind="query-params",
        brief=True,
    )


def gini_view(view: LayerView, rows: list[int]) -> View:
    """Draw how concentrated the rows' scores are."""
    return View(
        gini_histogram(view.gini, rows, theme()),
        text.gini_finding(view),
        explanations.GINI_FORMULA,
        "Histogram of the Gini coefficients of the rows' scores",
        lambda: {"row": np.arange(view.rows), "gini": view.coefficients},
    )


def _lorenz(view: LayerView, score: np.ndarray, rows: list[int]) -> View:
    curves = lorenz_curves(score, rows[:MAX_LINES] or _extremes(view.coefficients))
    return View(
        lorenz_figure(curves, theme()),
        text.lorenz_finding(curves, bool(rows)),
        explanations.LORENZ_FORMULA,
        "Lorenz curves of the scores of single rows",
        lambda: (
            {"share_of_weights": curves[0].population}
            | {f"share_of_score_row_{curve.row}": curve.share for curve in curves}
        ),
    )


def _extremes(coefficients: np.ndarray) -> list[int]:
    """Return the rows with the lowest, the middle and the highest Gini."""
    order = np.argsort(coefficients, kind="stable")[: np.isfinite(coefficients).sum()]
    return sorted({int(order[0]), int(order[len(order) // 2]), int(order[-1])}) if len(order) else []


def _gini_after(view: LayerView, score: np.ndarray) -> View:
    left = {each.method: gini_of_kept(score, each.counts) for each in view.allocations}
    return View(
        gini_histogram(
            gini_statistics(left),
            (),
            theme(),
            names=[each.label for each in view.allocations],
            title="How concentrated is the score that is kept?",
        ),
        text.kept_finding(view),
        explanations.GINI_FORMULA,
        f"Histograms of the Gini coefficients of the scores that {_methods(view)} keep",
        lambda: (
            {"row": np.arange(view.rows)} | {f"gini_kept_{name}": values for name, values in left.items()}
        ),
    )


def similarity_card(view: LayerView, rows: list[int], file_name: str) -> None:
    """Show how fast the rows' outputs turn away with sparsity."""

    def after() -> View:
        distribution = cosine_distribution(view.cosines, view.dead_rows)
        return View(
            cosine_histogram(distribution, theme()),
            text.cosine_after_finding(distribution),
            explanations.COSINE_FORMULA,
            f"Histograms of the cosines that {_methods(view)} leave the rows",
            lambda: row_numbers(view),
        )

    card(
        "cosine",
        {"After pruning": after, "Against sparsity": lambda: cosine_view(view, rows)},
        file_name=file_name,
        bind="query-params",
        brief=True,
    )


def cosine_view(view: LayerView, rows: list[int]) -> View:
    """Draw the cosines against row sparsity."""
    sparsity = view.sparsity_grid
    statistics = cosine_statistics(view.cosine_curves, sparsity, view.target, view.cosines, rows[:MAX_LINES])
    return View(
        cosine_figure(statistics, theme()),
        text.cosine_finding(view),
        explanations.COSINE_FORMULA,
        "Percentile bands of the rows' cosine similarity to their dense output, against row sparsity",
        lambda: (
            {"row_sparsity": sparsity}
            | {f"percentile_{p}": band for p, band in zip(PERCENTILES, statistics.bands, strict=True)}
            | {f"row_{row}": curve for row, curve in statistics.curves.items()}
        ),
    )


def row_sparsity_card(view: LayerView, rows: list[int], file_name: str) -> None:
    """Show the distribution of row sparsities, and properties of rows that correlate with them."""
    statistics = row_sparsity_statistics(view.allocations)

    def drawn(figure: go.Figure, finding: str) -> View:
        return _row_sparsities(view, figure, finding)

    def against(quantity: str, values: np.ndarray) -> View:
        scatters = [row_scatter(each, quantity, values, rows) for each in view.learned or view.allocations]
        finding = " ".join(
            explanations.scatter_finding(scatter, several=len(scatters) > 1) for scatter in scatters
        )
        return drawn(row_scatter_figure(scatters, rows, theme()), finding)

    finding = text.row_sparsity_finding(view)
    changed = {CHANGES[key]: (key, values) for key, values in view.changes.items()}
    card(
        "row_sparsity",
        {
            "Against Gini": lambda: against("gini", view.coefficients),
            "Against weight norm": lambda: against("weight_norm", view.weight_norm),
            "Against cosine": lambda: against("cosine", view.cosines[0].cosine),
            **{label: partial(against, *pair) for label, pair in changed.items()},
            "Sorted": lambda: drawn(sorted_row_sparsity(statistics, rows, theme()), finding),
            "ECDF": lambda: drawn(row_sparsity_ecdf(statistics, theme()), finding),
            "Histogram": lambda: row_sparsity_view(view, rows),
        },
        file_name=file_name,
        bind="query-params",
        brief=True,
    )


def row_sparsity_view(view: LayerView, rows: list[int]) -> View:
    """Draw how the rows' sparsities are distributed."""
    statistics = row_sparsity_statistics(view.allocations)
    return _row_sparsities(
        view, row_sparsity_histogram(statistics, rows, theme()), text.row_sparsity_finding(view)
    )


def _row_sparsities(view: LayerView, figure: go.Figure, finding: str) -> View:
    return View(
        figure,
        finding,
        text.row_sparsity_formula(view),
        f"Row sparsities under {_methods(view)}",
        lambda: row_numbers(view),
    )


def search_card(view: LayerView, rows: list[int], file_name: str) -> None:
    """Show the result of each rate, and the paths of selected rows."""
    search = view.search
    if search is None:
        st.info(
            f"Nothing was searched: this layer's rows were set by {literal(view.own.label)}.",
            icon=":material/info:",
        )
        return
    variants = {
        "Landscape": lambda: _searched(
            search, landscape_figure, "Gain over uniform by learning rate and iteration"
        ),
        "Iterations": lambda: _searched(
            search,
            iteration_figure,
            "Layer quality and row variance at each iteration",
            text.published_finding(search),
        ),
        "Rates": lambda: rate_view(search),
    }
    if rows and search.learning_rate is not None and any(each.method == "trim" for each in view.allocations):
        variants["Selected rows"] = lambda: paths_view(view, search, rows[:MAX_LINES])
    card("rate", variants, file_name=file_name, bind="query-params", brief=True)


def rate_view(search: SearchView) -> View:
    """Draw the layer quality of each learning rate."""
    return _searched(
        search, rate_figure, "Layer quality of each learning rate", text.published_finding(search)
    )


def _searched(search: SearchView, draw: Callable[..., go.Figure], alt: str, crosses: str = "") -> View:
    return View(
        draw(search.trace, theme()),
        text.rate_finding(search) + crosses,
        explanations.RATE_FORMULA,
        alt,
        lambda: rate_numbers(search.trace),
    )


def linked_view(name: str, view: LayerView, rows: list[int], pinned: bool) -> View:
    """Draw one of the four linked charts as a figure of its own."""
    search = view.search
    if name == "rate" and search is not None:
        drawn = rate_view(search)
    else:
        draw = {"gini": gini_view, "cosine": cosine_view, "row_sparsity": row_sparsity_view}[name]
        drawn = draw(view, rows)
    if pinned:
        return dataclasses.replace(drawn, finding=f"{drawn.finding} {_WITHOUT_PIN}")
    return drawn


def paths_view(view: LayerView, search: SearchView, rows: list[int]) -> View:
    """Draw how rows' x moved through the iterations of the chosen rate."""
    rate = search.learning_rate
    assert rate is not None, "without a rate no row has a path"
    paths = row_paths(
        search.x,
        view.allocation("trim").row_sparsity,
        rows,
        learning_rate=rate,
        kept_iteration=search.kept_iteration,
        target=view.target,
        cap=view.caps["trim"],
    )
    return View(
        row_paths_figure(paths, theme()),
        text.row_path_finding(view, search, rows[0]) if len(rows) == 1 else text.paths_finding(search),
        explanations.ROW_SPARSITY_FORMULA,
        f"x of {'row' if len(rows) == 1 else 'rows'} {', '.join(map(str, rows))} through the iterations",
        lambda: {"iteration": np.arange(search.x.shape[1])} | {f"x_row_{row}": search.x[row] for row in rows},
        has_key=True,
    )


def _methods(view: LayerView) -> str:
    return " and ".join(each.label for each in view.allocations)


def row_numbers(view: LayerView) -> dict[str, np.ndarray]:
    """List every row of the layer, one number per column of a table."""
    numbers = {"row": np.arange(view.rows), "gini": view.coefficients, "weight_norm": view.weight_norm}
    if view.search is not None:
        numbers["x"] = view.search.kept_x
    if view.sensitivity is not None:
        numbers["sensitivity"] = view.sensitivity
    numbers |= view.changes
    for allocation, cosine in zip(view.allocations, view.cosines, strict=True):
        numbers[f"{allocation.method}_count"] = np.asarray(allocation.counts)
        numbers[f"{allocation.method}_row_sparsity"] = allocation.row_sparsity
        numbers[f"{allocation.method}_cosine"] = cosine.cosine
    return numbers


def rate_numbers(trace: LearningRateTrace) -> dict[str, np.ndarray]:
    """Return the numbers of a search's charts, one line for each rate and iteration."""
    rates, iterations = trace.quality.shape
    readings = {"layer_quality_at_floor_counts": trace.quality.ravel()}
    if trace.published is not None:
        readings = {
            "layer_quality": trace.quality.ravel(),
            "layer_quality_at_floor_counts": trace.published.ravel(),
        }
    return {
        "learning_rate": np.repeat(trace.rates, iterations),
        "iteration": np.tile(np.arange(iterations), rates),
        **readings,
        "row_quality_variance": trace.row_variance.ravel(),
        "tried": np.repeat(trace.tried, iterations),
    }
