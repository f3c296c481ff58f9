"""The views of a layer that come from what a run stored, without its model."""

from collections.abc import Hashable

import numpy as np
import streamlit as st

from app.services.runs.layer import StoredLayer
from app.ui.common import explanations
from app.ui.common.cards import View, card, theme
from app.ui.common.selection import Source, on_chart, rows_for
from app.ui.common.text import plain
from app.ui.layer import stored_words
from app.ui.layer.cards import MOST_LINES, rate_numbers
from app.ui.layer.inspector import COLUMN_NAMES
from diagnostics.allocation import row_scatter, row_sparsity_statistics
from diagnostics.figures.allocation import row_sparsity_ecdf, row_sparsity_histogram, sorted_row_sparsity
from diagnostics.figures.concentration import gini_histogram
from diagnostics.figures.iterations import iteration_figure
from diagnostics.figures.learning_rate import rate_figure
from diagnostics.figures.row_detail import row_paths_figure
from diagnostics.figures.scatter import row_scatter_figure
from diagnostics.figures.similarity import cosine_figure, cosine_histogram
from diagnostics.row_detail import row_paths
from diagnostics.similarity import PERCENTILES, cosine_distribution, cosine_statistics
from trim.runs.record import SearchRecord


def concentration_card(layer: StoredLayer, key: Hashable, rows: list[int], file_name: str) -> None:
    """Gini histogram of the rows' scores."""
    coefficients = layer.gini.coefficients[0]
    source = Source("gini", key)
    marked = rows_for(source, rows)
    view = View(
        gini_histogram(layer.gini, marked, theme()),
        stored_words.gini_seen(layer),
        explanations.GINI_FORMULA,
        "Histogram of the Gini coefficients of the rows' scores",
        lambda: {"row": np.arange(layer.rows), "gini": coefficients},
    )

    def rows_of(points: list[dict]) -> np.ndarray:
        bars = [point["point_index"] for point in points if point["curve_number"] == 0]
        return layer.gini.histogram.members(coefficients, bars)

    callback = on_chart(source, marked, rows_of)
    card(
        "gini",
        {"Gini": lambda: view},
        file_name=file_name,
        on_select=callback,
        selectable=frozenset({"Gini"}),
    )


def similarity_card(layer: StoredLayer, rows: list[int], file_name: str) -> None:
    """How fast rows lose their output, at the sparsities that the run stored."""
    statistics = cosine_statistics(
        layer.cosine_curves, layer.sparsity_grid, layer.record.sparsity, layer.cosines, rows[:MOST_LINES]
    )

    def bands() -> View:
        return View(
            cosine_figure(statistics, theme()),
            stored_words.cosine_seen(layer),
            explanations.COSINE_FORMULA,
            "Percentile bands of the rows' cosine similarity to their dense output, against row sparsity",
            lambda: (
                {"row_sparsity": layer.sparsity_grid}
                | {f"percentile_{p}": band for p, band in zip(PERCENTILES, statistics.bands, strict=True)}
                | {f"row_{curve.row}": curve.cosine for curve in statistics.curves}
            ),
        )

    def after() -> View:
        distribution = cosine_distribution(layer.cosines, layer.record.dead_rows)
        return View(
            cosine_histogram(distribution, theme()),
            stored_words.cosine_after_seen(distribution),
            explanations.COSINE_FORMULA,
            "Histograms of the cosines that pruning leaves the rows",
            lambda: row_numbers(layer),
        )

    card("cosine", {"Against sparsity": bands, "After pruning": after}, file_name=file_name)


def row_sparsity_card(layer: StoredLayer, key: Hashable, rows: list[int], file_name: str) -> None:
    """What sparsity each row got, against uniform, and what goes with it."""
    statistics = row_sparsity_statistics(layer.allocations)
    own = layer.allocations[-1]
    source = Source("row_sparsity", key)
    marked = rows_for(source, rows)

    def view(figure, seen: str) -> View:
        return View(
            figure,
            seen,
            stored_words.allocation_formula(layer),
            f"Row sparsities under {' and under '.join(each.label for each in layer.allocations)}",
            lambda: row_numbers(layer),
        )

    def against(quantity: str, values: np.ndarray) -> View:
        scatter = row_scatter(own, quantity, values, rows)
        return view(row_scatter_figure(scatter, rows, theme()), explanations.scatter_seen(scatter))

    def rows_of(points: list[dict]) -> np.ndarray:
        bars = [
            point["point_index"] for point in points if point["curve_number"] == len(layer.allocations) - 1
        ]
        return statistics.histogram.members(own.row_sparsity, bars)

    seen = stored_words.row_sparsity_seen(layer)
    callback = on_chart(source, marked, rows_of)
    card(
        "row_sparsity",
        {
            "Histogram": lambda: view(row_sparsity_histogram(statistics, marked, theme()), seen),
            "Sorted": lambda: view(sorted_row_sparsity(statistics, rows, theme()), seen),
            "ECDF": lambda: view(row_sparsity_ecdf(statistics, theme()), seen),
            "Against Gini": lambda: against("gini", layer.gini.coefficients[0]),
            "Against weight norm": lambda: against("weight_norm", layer.record.weight_norm),
            "Against cosine": lambda: against("cosine", layer.cosines[0].cosine),
        },
        file_name=file_name,
        on_select=callback,
        selectable=frozenset({"Histogram"}),
    )


def learning_rate_card(layer: StoredLayer, rows: list[int], file_name: str) -> None:
    """TRIM's search: rates, iterations, and the way of selected rows; where TRIM did not search, it says so."""
    trace, search = layer.trace, layer.record.search
    if trace is None or search is None:
        with st.container(border=True, height="stretch", key="card-rate"):
            st.markdown("**Which learning rates beat uniform?**")
            st.info(
                f"None was tried: this layer's rows were set by {plain(layer.label)}, which searches for no learning "
                "rate.",
                icon=":material/info:",
            )
        return

    def view(draw, alt: str) -> View:
        return View(
            draw(trace, theme()),
            stored_words.rate_seen(search),
            explanations.RATE_FORMULA,
            alt,
            lambda: rate_numbers(trace),
        )

    variants = {
        "Rates": lambda: view(rate_figure, "Best layer quality of each learning rate that was tried"),
        "Iterations": lambda: view(iteration_figure, "Layer quality and row variance at each iteration"),
    }
    if rows and (rate := search.learning_rate) is not None:
        variants["Selected rows"] = lambda: _paths(layer, search, rate, rows[:MOST_LINES])
    card("rate", variants, file_name=file_name)


def _paths(layer: StoredLayer, search: SearchRecord, rate: float, rows: list[int]) -> View:
    x = search.row_sparsity.T
    paths = row_paths(
        x,
        layer.allocations[-1].row_sparsity,
        rows,
        learning_rate=rate,
        kept_iteration=search.best_iteration,
        target=layer.record.budget,
        cap=layer.cap,
    )
    return View(
        row_paths_figure(paths, theme()),
        f"Iteration {search.best_iteration} was kept; the exact projection then makes whole weights of x.",
        explanations.ROW_SPARSITY_FORMULA,
        f"x of rows {', '.join(map(str, rows))} through the iterations",
        lambda: {"iteration": np.arange(x.shape[1])} | {f"x_row_{row}": x[row] for row in rows},
    )


def row_numbers(layer: StoredLayer) -> dict[str, np.ndarray]:
    """Every row of the layer, one number per column of a table."""
    record = layer.record
    numbers = {"row": np.arange(layer.rows), "gini": record.gini, "weight_norm": record.weight_norm}
    if record.sensitivity is not None:
        numbers["sensitivity"] = record.sensitivity
    for allocation, cosine in zip(layer.allocations, layer.cosines, strict=True):
        numbers[f"{allocation.method}_count"] = np.asarray(allocation.counts)
        numbers[f"{allocation.method}_row_sparsity"] = allocation.row_sparsity
        numbers[f"{allocation.method}_cosine"] = cosine.cosine
    return numbers


def row_table(layer: StoredLayer, rows: list[int]) -> None:
    """The selected rows as a table."""
    if not rows:
        st.info(
            "No rows selected. Select bars in a chart with the box tool, type row numbers above, or pick some from the "
            "list; the other charts then highlight them.",
            icon=":material/touch_app:",
        )
        return
    table = {_column(layer, name): values[rows] for name, values in row_numbers(layer).items()}
    shares = {name: st.column_config.NumberColumn(format="percent") for name in table if "sparsity" in name}
    st.dataframe(table, hide_index=True, height=min(38 + 35 * len(rows), 300), column_config=shares)


def _column(layer: StoredLayer, name: str) -> str:
    if name in COLUMN_NAMES:
        return COLUMN_NAMES[name]
    words = {"count": "pruned", "row_sparsity": "row sparsity", "cosine": "cosine"}
    for ending, word in words.items():
        if name == f"{layer.method}_{ending}":
            return f"{word}, {layer.label}"
    return name
