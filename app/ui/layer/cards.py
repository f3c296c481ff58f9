"""The views of one layer, each made from a study and an outcome."""

import numpy as np

from app.services.layer.study import Outcome, Study
from app.ui.common import explanations
from app.ui.common.cards import View, card, theme
from app.ui.common.selection import Source, on_chart, rows_for
from app.ui.layer import words
from diagnostics.allocation import row_scatter, row_sparsity_statistics
from diagnostics.concentration import gini_of_kept, gini_statistics, lorenz_curves
from diagnostics.figures.allocation import row_sparsity_ecdf, row_sparsity_histogram, sorted_row_sparsity
from diagnostics.figures.concentration import gini_histogram, lorenz_figure
from diagnostics.figures.iterations import iteration_figure, landscape_figure
from diagnostics.figures.learning_rate import rate_figure
from diagnostics.figures.scatter import row_scatter_figure
from diagnostics.figures.similarity import cosine_figure, cosine_histogram
from diagnostics.learning_rate import LearningRateTrace
from diagnostics.similarity import PERCENTILES, cosine_distribution, cosine_statistics

MOST_LINES = 6  # rows drawn as lines of their own; more cannot be told apart


def concentration_card(study: Study, outcome: Outcome, rows: list[int], file_name: str) -> None:
    """How concentrated the score is: Gini histogram, the Lorenz curves it condenses, and what pruning leaves."""
    coefficients = study.gini.coefficients[0]
    source = Source("gini", study.key)
    marked = rows_for(source, rows)

    def histogram() -> View:
        return View(
            gini_histogram(study.gini, marked, theme()),
            words.gini_seen(study),
            explanations.GINI_FORMULA,
            "Histogram of the Gini coefficients of the rows' scores",
            lambda: {"row": np.arange(study.rows), "gini": coefficients},
        )

    def lorenz() -> View:
        shown = rows[:MOST_LINES] or _extremes(coefficients)
        curves = lorenz_curves(study.score, shown)
        return View(
            lorenz_figure(curves, theme()),
            words.lorenz_seen(bool(rows)),
            explanations.LORENZ_FORMULA,
            "Lorenz curves of the scores of single rows",
            lambda: (
                {"share_of_weights": curves[0].population}
                | {f"share_of_score_row_{curve.row}": curve.share for curve in curves}
            ),
        )

    def kept() -> View:
        left = {
            allocation.method: gini_of_kept(study.score, allocation.counts)
            for allocation in outcome.allocations
        }
        return View(
            gini_histogram(gini_statistics(left), (), theme()),
            words.kept_seen(outcome),
            explanations.GINI_FORMULA,
            f"Histograms of the Gini coefficients of the scores that {_methods(outcome)} keep",
            lambda: (
                {"row": np.arange(study.rows)}
                | {f"gini_kept_{name}": values for name, values in left.items()}
            ),
        )

    def rows_of(points: list[dict]) -> np.ndarray:
        bars = [point["point_index"] for point in points if point["curve_number"] == 0]
        return study.gini.histogram.members(coefficients, bars)

    callback = on_chart(source, marked, rows_of)
    card(
        "gini",
        {"Gini": histogram, "Lorenz curves": lorenz, "Gini after pruning": kept},
        file_name=file_name,
        on_select=callback,
        selectable=frozenset({"Gini"}),
    )


def _extremes(coefficients: np.ndarray) -> list[int]:
    """The rows with the lowest, the middle and the highest Gini."""
    order = np.argsort(coefficients, kind="stable")[: np.isfinite(coefficients).sum()]
    return sorted({int(order[0]), int(order[len(order) // 2]), int(order[-1])}) if len(order) else []


def similarity_card(study: Study, outcome: Outcome, rows: list[int], file_name: str) -> None:
    """How fast rows lose their output."""
    sparsity = study.grid / study.columns
    target = outcome.result.settings.target_sparsity
    statistics = cosine_statistics(study.cosine, sparsity, target, outcome.cosines, rows[:MOST_LINES])

    def bands() -> View:
        return View(
            cosine_figure(statistics, theme()),
            words.cosine_seen(study, outcome),
            explanations.COSINE_FORMULA,
            "Percentile bands of the rows' cosine similarity to their dense output, against row sparsity",
            lambda: (
                {"row_sparsity": sparsity}
                | {f"percentile_{p}": band for p, band in zip(PERCENTILES, statistics.bands, strict=True)}
                | {f"row_{curve.row}": curve.cosine for curve in statistics.curves}
            ),
        )

    def after() -> View:
        distribution = cosine_distribution(outcome.cosines, study.curves.dead_rows.cpu().numpy())
        return View(
            cosine_histogram(distribution, theme()),
            words.cosine_after_seen(distribution),
            explanations.COSINE_FORMULA,
            f"Histograms of the cosines that {_methods(outcome)} leave the rows",
            lambda: row_numbers(study, outcome),
        )

    card("cosine", {"Against sparsity": bands, "After pruning": after}, file_name=file_name)


def row_sparsity_card(study: Study, outcome: Outcome, rows: list[int], file_name: str) -> None:
    """What sparsity each row got, and what goes with it."""
    statistics = row_sparsity_statistics(outcome.allocations)
    learned = outcome.allocations[1:]
    weights = outcome.optimum.row_weights
    source = Source(
        "row_sparsity", (study.key, outcome.result.settings, weights, tuple(each.method for each in learned))
    )
    marked = rows_for(source, rows)

    def view(figure, seen: str) -> View:
        return View(
            figure,
            seen,
            words.row_sparsity_formula(outcome),
            f"Row sparsities under {_methods(outcome)}",
            lambda: row_numbers(study, outcome),
        )

    def histogram() -> View:
        figure = row_sparsity_histogram(statistics, marked, theme())
        return view(figure, words.row_sparsity_seen(outcome))

    def ranked() -> View:
        figure = sorted_row_sparsity(statistics, rows, theme())
        return view(figure, words.row_sparsity_seen(outcome))

    def distribution() -> View:
        return view(row_sparsity_ecdf(statistics, theme()), words.row_sparsity_seen(outcome))

    def against(quantity: str, values: np.ndarray) -> View:
        # One allocation in a cloud of points: of two, the optimum, which moves rows further.
        scatter = row_scatter(learned[-1], quantity, values, rows)
        return view(row_scatter_figure(scatter, rows, theme()), explanations.scatter_seen(scatter))

    def rows_of(points: list[dict]) -> np.ndarray:
        # Not by uniform's bars, which are one or two for all rows.
        found = []
        for number, allocation in enumerate(learned, start=1):
            bars = [point["point_index"] for point in points if point["curve_number"] == number]
            found.append(statistics.histogram.members(allocation.row_sparsity, bars))
        return np.unique(np.concatenate(found))

    callback = on_chart(source, marked, rows_of)
    card(
        "row_sparsity",
        {
            "Histogram": histogram,
            "Sorted": ranked,
            "ECDF": distribution,
            "Against Gini": lambda: against("gini", study.gini.coefficients[0]),
            "Against weight norm": lambda: against("weight_norm", study.weight_norm),
            "Against cosine": lambda: against("cosine", outcome.cosines[0].cosine),
        },
        file_name=file_name,
        on_select=callback,
        selectable=frozenset({"Histogram"}),
    )


def _methods(outcome: Outcome) -> str:
    return " and ".join(allocation.label for allocation in outcome.allocations)


def row_numbers(study: Study, outcome: Outcome) -> dict[str, np.ndarray]:
    """Every row of the layer, one number per column of a table."""
    numbers = {
        "row": np.arange(study.rows),
        "gini": study.gini.coefficients[0],
        "weight_norm": study.weight_norm,
        "x": outcome.result.row_sparsity.cpu().numpy(),
    }
    if outcome.optimum.sensitivity is not None:
        numbers["sensitivity"] = outcome.optimum.sensitivity.cpu().numpy()
    for allocation, cosine in zip(outcome.allocations, outcome.cosines, strict=True):
        numbers[f"{allocation.method}_count"] = np.asarray(allocation.counts)
        numbers[f"{allocation.method}_row_sparsity"] = allocation.row_sparsity
        numbers[f"{allocation.method}_cosine"] = cosine.cosine
    return numbers


def rate_numbers(trace: LearningRateTrace) -> dict[str, np.ndarray]:
    """The numbers of a search's charts, one line for each rate and iteration."""
    rates, iterations = trace.quality.shape
    return {
        "learning_rate": np.repeat(trace.rates, iterations),
        "iteration": np.tile(np.arange(iterations), rates),
        "layer_quality_at_floor_counts": trace.quality.ravel(),
        "row_quality_variance": trace.row_variance.ravel(),
        "tried": np.repeat(trace.tried, iterations),
    }


def learning_rate_card(outcome: Outcome, file_name: str) -> None:
    """Which rates were tried, how each went, and the whole landscape."""
    trace = outcome.trace

    def view(draw, alt: str) -> View:
        return View(
            draw(trace, theme()),
            words.rate_seen(outcome),
            explanations.RATE_FORMULA,
            alt,
            lambda: rate_numbers(trace),
        )

    card(
        "rate",
        {
            "Rates": lambda: view(rate_figure, "Best layer quality of each learning rate, tried or not"),
            "Iterations": lambda: view(iteration_figure, "Layer quality and row variance at each iteration"),
            "Landscape": lambda: view(landscape_figure, "Gain over uniform by learning rate and iteration"),
        },
        file_name=file_name,
    )
