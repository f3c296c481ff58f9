"""The cards of one layer, drawn from its view: the same for a layer computed now and for one that a run stored."""

from collections.abc import Callable

import numpy as np
import plotly.graph_objects as go
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.services.runs.layer import LayerView, SearchView
from app.ui.common import explanations
from app.ui.common.cards import View, card, fact, theme
from app.ui.common.selection import Source, on_chart, rows_for
from app.ui.common.text import plain
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

MOST_LINES = 6  # rows drawn as lines of their own; more cannot be told apart
# Title, target, numbers and the four charts are seen at once on a screen of 1280 × 720.
_ABOVE_THE_FOLD = """
<style>
@media (min-width: 900px) {
[data-testid=stMainBlockContainer] { padding: 0.75rem 2rem 2rem; }
[data-testid=stHeader] { background: transparent; pointer-events: none; }
[data-testid=stHeader] * { pointer-events: auto; }
[data-testid=stMainBlockContainer] h1 { font-size: 1.5rem; padding: 0; }
.st-key-seen { flex-wrap: nowrap; height: 1.75rem; }
.st-key-seen p { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.st-key-coming { flex-wrap: nowrap; }
.st-key-seen > :first-child, .st-key-coming > :first-child { min-width: 0; flex: 1 1 0; }
.st-key-seen button { min-height: 1.5rem; padding: 0; }
.st-key-fold [class*=st-key-head-] { flex-wrap: nowrap; justify-content: space-between; }
.st-key-fold [class*=st-key-head-] p { font-size: 0.95rem; white-space: nowrap; }
}
.st-key-fold { gap: 0.4rem; }
.st-key-fold [data-testid=stVerticalBlock] { gap: 0.4rem; }
.st-key-fold [data-testid=stMetric], .st-key-fold [data-testid=stMetric] > div { padding: 0.2rem 0.4rem; }
.st-key-fold [data-testid=stMetricValue] { font-size: 1.2rem; }
.st-key-fold [class*=st-key-card-] { padding: 0.3rem 0.7rem; }
.st-key-fold [class*=st-key-head-] button { min-height: 1.5rem; padding: 0; }
</style>
"""


def above_the_fold() -> DeltaGenerator:
    """Return a container in which numbers and compact charts are close together, at the top of the page."""
    st.html(_ABOVE_THE_FOLD)
    return st.container(key="fold")


def four_cards(view: LayerView, rows: list[int], layer_name: str, file_name: str) -> None:
    """Draw concentration, similarity, row sparsity and search, two by two.

    Args:
        view: of the layer.
        rows: the selected ones.
        layer_name: of the downloads, without the target.
        file_name: of the downloads, with the target.
    """
    above, below = st.columns(2), st.columns(2)
    # The card that depends least on the target comes last: the others need not wait for it.
    with above[1]:
        similarity_card(view, rows, file_name)
    with below[0]:
        row_sparsity_card(view, rows, file_name)
    with below[1]:
        search_card(view, rows, file_name)
    with above[0]:
        concentration_card(view, rows, layer_name)


def summary(view: LayerView) -> None:
    """Show the layer quality of each allocation at exact counts, and what the search did."""
    *metrics, rate_column, sparsity_column = st.columns([7] * len(view.allocations) + [5, 5.5])
    uniform = view.qualities["uniform"]
    for column, allocation in zip(metrics, view.allocations, strict=True):
        method, quality = allocation.method, view.qualities[allocation.method]
        label = f"Layer quality, {'uniform' if method == 'uniform' else plain(allocation.label)}"
        explained = text.quality_help(view, method)
        if method == "uniform":
            fact(column, label, f"{quality:.5g}", view.quality_measure, help=explained)
        else:
            column.metric(
                label,
                f"{quality:.5g}",
                f"{quality - uniform:+.2g} vs uniform",
                border=True,
                height="stretch",
                help=explained,
            )
    search = view.search
    fact(
        rate_column,
        "Learning rate",
        "not searched"
        if search is None
        else "none"
        if search.learning_rate is None
        else f"{search.learning_rate:+g}",
        None
        if search is None
        else f"{int(search.trace.tried.sum())} tried"
        + (": stays uniform" if search.learning_rate is None else ""),
        help="Positive: rows that keep their quality give more weights. Negative: rows that lose it do.",
    )
    weights = view.rows * view.columns
    fact(
        sparsity_column,
        "Layer sparsity",
        f"{view.pruned / weights:.2%}",
        f"{view.pruned:,} pruned",
        help=f"{view.pruned:,} of the layer's {weights:,} weights, under every allocation shown here.",
    )
    if warning := text.dead_rows_seen(view):
        st.caption(warning)


def concentration_card(view: LayerView, rows: list[int], file_name: str) -> None:
    """Show how concentrated the score is: Gini histogram, the Lorenz curves it condenses, and what pruning leaves."""
    coefficients, histogram = view.coefficients, view.gini.histogram
    source = Source("gini", view.layer_key)
    marked = rows_for(source, rows)

    def of_rows() -> View:
        return View(
            gini_histogram(view.gini, marked, theme()),
            text.gini_seen(view),
            explanations.GINI_FORMULA,
            "Histogram of the Gini coefficients of the rows' scores",
            lambda: {"row": np.arange(view.rows), "gini": coefficients},
        )

    def rows_of(points: list[dict]) -> np.ndarray:
        bars = [point["point_index"] for point in points if point["curve_number"] == 0]
        return histogram.members(coefficients, bars)

    variants = {"Gini": of_rows}
    if (score := view.score) is not None:
        variants["Lorenz curves"] = lambda: _lorenz(view, score, rows)
        variants["Gini after pruning"] = lambda: _gini_after(view, score)
    card(
        "gini",
        variants,
        file_name=file_name,
        on_select=on_chart(source, marked, rows_of),
        selectable=frozenset({"Gini"}),
        missing=None if score is not None else text.NO_SCORE,
        compact=True,
    )


def _lorenz(view: LayerView, score: np.ndarray, rows: list[int]) -> View:
    curves = lorenz_curves(score, rows[:MOST_LINES] or _extremes(view.coefficients))
    return View(
        lorenz_figure(curves, theme()),
        text.lorenz_seen(bool(rows)),
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
        gini_histogram(gini_statistics(left), (), theme()),
        text.kept_seen(view),
        explanations.GINI_FORMULA,
        f"Histograms of the Gini coefficients of the scores that {_methods(view)} keep",
        lambda: (
            {"row": np.arange(view.rows)} | {f"gini_kept_{name}": values for name, values in left.items()}
        ),
    )


def similarity_card(view: LayerView, rows: list[int], file_name: str) -> None:
    """Show how fast rows lose their output."""
    sparsity = view.sparsity_grid

    def bands() -> View:
        statistics = cosine_statistics(
            view.cosine_curves, sparsity, view.target, view.cosines, rows[:MOST_LINES]
        )
        return View(
            cosine_figure(statistics, theme()),
            text.cosine_seen(view),
            explanations.COSINE_FORMULA,
            "Percentile bands of the rows' cosine similarity to their dense output, against row sparsity",
            lambda: (
                {"row_sparsity": sparsity}
                | {f"percentile_{p}": band for p, band in zip(PERCENTILES, statistics.bands, strict=True)}
                | {f"row_{curve.row}": curve.cosine for curve in statistics.curves}
            ),
        )

    def after() -> View:
        distribution = cosine_distribution(view.cosines, view.dead_rows)
        return View(
            cosine_histogram(distribution, theme()),
            text.cosine_after_seen(distribution),
            explanations.COSINE_FORMULA,
            f"Histograms of the cosines that {_methods(view)} leave the rows",
            lambda: row_numbers(view),
        )

    variants = {"Against sparsity": bands, "After pruning": after}
    card("cosine", variants, file_name=file_name, compact=True)


def row_sparsity_card(view: LayerView, rows: list[int], file_name: str) -> None:
    """Show the sparsity of each row, and what goes with it."""
    statistics = row_sparsity_statistics(view.allocations)
    source = Source("row_sparsity", (view.key, tuple(each.method for each in view.allocations)))
    marked = rows_for(source, rows)

    def drawn(figure: go.Figure, seen: str) -> View:
        return View(
            figure,
            seen,
            text.row_sparsity_formula(view),
            f"Row sparsities under {_methods(view)}",
            lambda: row_numbers(view),
        )

    def against(quantity: str, values: np.ndarray) -> View:
        # One allocation in a cloud of points: of two, the optimum, which moves rows further.
        scatter = row_scatter(view.own, quantity, values, rows)
        return drawn(row_scatter_figure(scatter, rows, theme()), explanations.scatter_seen(scatter))

    # Not by uniform's bars, which are one or two for all rows, unless there are no others.
    histogram = statistics.histogram
    selectable = [
        (number, each.row_sparsity)
        for number, each in enumerate(view.allocations)
        if each.method != "uniform" or len(view.allocations) == 1
    ]

    def rows_of(points: list[dict]) -> np.ndarray:
        found = [
            histogram.members(
                sparsity, [point["point_index"] for point in points if point["curve_number"] == number]
            )
            for number, sparsity in selectable
        ]
        return np.unique(np.concatenate(found))

    seen = text.row_sparsity_seen(view)
    card(
        "row_sparsity",
        {
            "Histogram": lambda: drawn(row_sparsity_histogram(statistics, marked, theme()), seen),
            "Sorted": lambda: drawn(sorted_row_sparsity(statistics, rows, theme()), seen),
            "ECDF": lambda: drawn(row_sparsity_ecdf(statistics, theme()), seen),
            "Against Gini": lambda: against("gini", view.coefficients),
            "Against weight norm": lambda: against("weight_norm", view.weight_norm),
            "Against cosine": lambda: against("cosine", view.cosines[0].cosine),
        },
        file_name=file_name,
        on_select=on_chart(source, marked, rows_of),
        selectable=frozenset({"Histogram"}),
        compact=True,
    )


def search_card(view: LayerView, rows: list[int], file_name: str) -> None:
    """Show which rates TRIM tried, how each went, the landscape, and the paths of selected rows."""
    search = view.search
    if search is None:
        with st.container(border=True, height="stretch", key="card-rate"):
            st.markdown("**Which learning rates beat uniform?**")
            st.info(
                f"None was tried: this layer's rows were set by {plain(view.own.label)}, which searches for no "
                "learning rate.",
                icon=":material/info:",
            )
        return
    trace = search.trace

    def drawn(draw: Callable[..., go.Figure], alt: str, crosses: str = "") -> View:
        return View(
            draw(trace, theme()),
            text.rate_seen(search) + crosses,
            explanations.RATE_FORMULA,
            alt,
            lambda: rate_numbers(trace),
        )

    variants = {
        "Rates": lambda: drawn(
            rate_figure, "Layer quality of each learning rate", text.published_seen(search)
        ),
        "Iterations": lambda: drawn(
            iteration_figure, "Layer quality and row variance at each iteration", text.published_seen(search)
        ),
        "Landscape": lambda: drawn(landscape_figure, "Gain over uniform by learning rate and iteration"),
    }
    if rows and search.learning_rate is not None and any(each.method == "trim" for each in view.allocations):
        variants["Selected rows"] = lambda: paths_view(view, search, rows[:MOST_LINES])
    card("rate", variants, file_name=file_name, compact=True)


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
        text.row_path_seen(view, search, rows[0]) if len(rows) == 1 else text.paths_seen(search),
        explanations.ROW_SPARSITY_FORMULA,
        f"x of {'row' if len(rows) == 1 else 'rows'} {', '.join(map(str, rows))} through the iterations",
        lambda: {"iteration": np.arange(search.x.shape[1])} | {f"x_row_{row}": search.x[row] for row in rows},
    )


def _methods(view: LayerView) -> str:
    return " and ".join(each.label for each in view.allocations)


def row_numbers(view: LayerView) -> dict[str, np.ndarray]:
    """Every row of the layer, one number per column of a table."""
    numbers = {"row": np.arange(view.rows), "gini": view.coefficients, "weight_norm": view.weight_norm}
    if view.search is not None:
        numbers["x"] = view.search.kept_x
    if view.sensitivity is not None:
        numbers["sensitivity"] = view.sensitivity
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
