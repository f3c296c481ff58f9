"""The selected rows in a table, one of them in detail, and the picture of the mask."""

from functools import partial

import numpy as np
import streamlit as st
import torch

import trim
from app.services.layer.optimum import prices_of_row
from app.services.layer.study import Outcome, Study
from app.ui.common import explanations
from app.ui.common.cards import View, card, theme
from app.ui.layer import words
from app.ui.layer.cards import row_numbers
from diagnostics.allocation import RowAllocation, pool_mask
from diagnostics.concentration import lorenz_curves
from diagnostics.figures.concentration import lorenz_figure
from diagnostics.figures.mask import mask_figure
from diagnostics.figures.row_detail import row_paths_figure, row_prices_figure, row_scores_figure
from diagnostics.figures.similarity import cosine_figure
from diagnostics.row_detail import row_paths, row_prices, row_scores
from diagnostics.similarity import cosine_statistics

COLUMN_NAMES = {
    "row": "Row",
    "gini": "Gini",
    "weight_norm": "‖W‖",
    "x": "x of the search",
    "uniform_count": "pruned, uniform",
    "uniform_row_sparsity": "row sparsity, uniform",
    "uniform_cosine": "cosine, uniform",
    "sensitivity": "sensitivity",
    "trim_count": "pruned, TRIM",
    "trim_row_sparsity": "row sparsity, TRIM",
    "trim_cosine": "cosine, TRIM",
    "optimal_count": "pruned, Optimal",
    "optimal_row_sparsity": "row sparsity, Optimal",
    "optimal_cosine": "cosine, Optimal",
}


def row_table(study: Study, outcome: Outcome, rows: list[int]) -> None:
    """The selected rows as a table."""
    if not rows:
        st.info(
            "No rows selected. Select bars or points in a chart with the box tool, type row numbers above, or pick "
            "some from the list; the other charts then highlight them, and one row can be looked at in detail here.",
            icon=":material/touch_app:",
        )
        return
    numbers = row_numbers(study, outcome)
    table = {COLUMN_NAMES[name]: values[rows] for name, values in numbers.items()}
    share = st.column_config.NumberColumn(format="percent")
    st.dataframe(
        table,
        hide_index=True,
        height=min(38 + 35 * len(rows), 300),
        column_config={name: share for key, name in COLUMN_NAMES.items() if key.endswith("_row_sparsity")},
    )


def row_inspector(study: Study, outcome: Outcome, rows: list[int], file_name: str) -> None:
    """One row: its scores and where they are cut, its Lorenz curve, its cosine, and how its counts were reached."""
    row = st.selectbox("Row to look into", rows, key="inspected_row")
    left, right = st.columns(2)
    with left:
        scores = row_scores(row, study.score[row], outcome.allocations)
        score_view = View(
            row_scores_figure(scores, theme()),
            words.row_scores_seen(scores),
            explanations.SCORE_FORMULA[study.key.score],
            f"Scores of row {row} in ascending order, with the borders between pruned and kept",
            lambda: {"score": np.sort(study.score[row])},
        )
        card("row_scores", {"Scores": lambda: score_view}, file_name=file_name)
    with right:
        (curve,) = lorenz_curves(study.score, [row])
        lorenz_view = View(
            lorenz_figure([curve], theme()),
            words.lorenz_seen(True),
            explanations.LORENZ_FORMULA,
            f"Lorenz curve of the scores of row {row}",
            lambda: {"share_of_weights": curve.population, "share_of_score": curve.share},
        )
        card("row_lorenz", {"Lorenz": lambda: lorenz_view}, file_name=file_name)
    shown = {allocation.method for allocation in outcome.allocations}
    cards = [card for method, card in (("trim", _path_card), ("optimal", _price_card)) if method in shown]
    if len(cards) == 1:
        cards.insert(0, _cosine_card)
    for place, show in zip(st.columns(2), cards, strict=True):
        with place:
            show(study, outcome, row, file_name)
    if _cosine_card not in cards:
        _cosine_card(study, outcome, row, file_name)


def _cosine_card(study: Study, outcome: Outcome, row: int, file_name: str) -> None:
    target = outcome.result.settings.target_sparsity
    sparsity = study.grid / study.columns
    statistics = cosine_statistics(study.cosine, sparsity, target, outcome.cosines, [row])
    view = View(
        cosine_figure(statistics, theme()),
        words.row_cosine_seen(outcome, row),
        explanations.COSINE_FORMULA,
        f"Cosine similarity of row {row} against its sparsity, before the bands of all rows",
        lambda: {"row_sparsity": sparsity, "cosine": study.cosine[row]},
    )
    card("row_cosine", {"Cosine": lambda: view}, file_name=file_name)


def _price_card(study: Study, outcome: Outcome, row: int, file_name: str) -> None:
    best = outcome.optimum
    lengths, asked = prices_of_row(study.hulls, best, row)
    prices = row_prices(row, lengths, asked, best.price, int(best.counts[row]), study.columns)
    view = View(
        row_prices_figure(prices, words.COST[best.row_weights], theme()),
        words.row_prices_seen(prices),
        explanations.OPTIMAL_FORMULA,
        f"Price of a further weight of row {row} against its sparsity",
        lambda: {
            "from_row_sparsity": prices.row_sparsity[:-1],
            "to_row_sparsity": prices.row_sparsity[1:],
            "price": prices.prices,
        },
    )
    card("row_prices", {"Prices": lambda: view}, file_name=file_name)


def _path_card(study: Study, outcome: Outcome, row: int, file_name: str) -> None:
    result = outcome.result
    if result.learning_rate is None:
        with st.container(border=True, height="stretch"):
            st.markdown("**How was its count under TRIM reached?**")
            st.caption(
                f"No learning rate beat uniform, so the row keeps the layer's target of "
                f"{result.settings.target_sparsity:.0%}: {int(result.counts[row])} of its weights are pruned."
            )
        return
    place = result.trace.rates.index(result.learning_rate)
    kept = result.trace.best_iteration(result.learning_rate)
    x = result.trace.row_sparsity[place].T.cpu().numpy()
    paths = row_paths(
        x,
        (result.counts / outcome.allocations[0].columns).cpu().numpy(),
        [row],
        learning_rate=result.learning_rate,
        kept_iteration=kept,
        target=result.settings.target_sparsity,
        cap=result.settings.max_row_sparsity,
    )
    view = View(
        row_paths_figure(paths, theme()),
        words.row_path_seen(outcome, kept, row),
        explanations.ROW_SPARSITY_FORMULA,
        f"x of row {row} through the iterations",
        lambda: {"iteration": np.arange(x.shape[1]), "x": x[row]},
    )
    card("row_path", {"Path": lambda: view}, file_name=file_name)


def mask_pictures(study: Study, outcome: Outcome, rows: list[int], file_name: str) -> None:
    """Which weights stay, under each allocation that is shown, side by side."""

    def view(allocation: RowAllocation) -> View:
        counts = torch.from_numpy(allocation.counts).to(study.curves.ranks.device)
        keep = trim.keep_mask(study.curves.ranks, counts).cpu().numpy()
        return View(
            mask_figure(pool_mask(keep), rows, theme()),
            words.mask_seen(allocation),
            explanations.MASK_FORMULA,
            f"Share of the weights kept over the matrix, {allocation.label}",
            lambda: {"row": np.arange(study.rows), "pruned": np.asarray(allocation.counts)},
        )

    columns = st.columns(len(outcome.allocations))
    for column, allocation in zip(columns, outcome.allocations, strict=True):
        with column:
            st.markdown(f"**{allocation.label}**")
            card(f"mask_{allocation.method}", {"Mask": partial(view, allocation)}, file_name=file_name)
