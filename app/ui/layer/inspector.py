"""The selected rows in a table, one of them in detail, and the picture of the mask."""

from collections.abc import Callable
from functools import partial

import numpy as np
import streamlit as st

from app.services.runs.layer import LayerView
from app.ui.common import explanations
from app.ui.common.cards import View, card, theme
from app.ui.common.text import literal
from app.ui.layer import text
from app.ui.layer.cards import paths_view, row_numbers
from diagnostics.allocation import RowAllocation, pool_mask
from diagnostics.figures.mask import mask_figure
from diagnostics.figures.row_detail import row_prices_figure, row_scores_figure
from diagnostics.figures.similarity import cosine_figure
from diagnostics.row_detail import row_scores
from diagnostics.similarity import cosine_statistics
from trim.errors import RunError
from trim.row_parts import row_labels

COLUMN_NAMES = {
    "row": "Row",
    "gini": "Gini",
    "weight_norm": "‖W‖",
    "x": "x of the search",
    "sensitivity": "sensitivity",
}
ALLOCATION_COLUMNS = {"row_sparsity": "pruned", "cosine": "cosine"}


def row_table(view: LayerView, rows: list[int]) -> None:
    """Show the selected rows as a table."""
    if not rows:
        st.info(
            "No rows selected. Click or box some in a chart of the overview, or type their numbers under Select rows.",
            icon=":material/touch_app:",
        )
        return
    names = COLUMN_NAMES | {
        f"{each.method}_{ending}": f"{words}, {'uniform' if each.method == 'uniform' else each.label}"
        for each in view.allocations
        for ending, words in ALLOCATION_COLUMNS.items()
    }
    numbers = row_numbers(view)
    parts = np.array(row_labels(view.parts, view.rows))
    named = {"Part": parts[rows]} if view.parts else {}
    share, four = (st.column_config.NumberColumn(format=form) for form in ("percent", "%.4f"))
    st.dataframe(
        named | {names[key]: values[rows] for key, values in numbers.items() if key in names},
        hide_index=True,
        height=min(38 + 35 * len(rows), 300),
        column_config={
            names[key]: share if key == "x" or key.endswith("_row_sparsity") else four
            for key in numbers
            if key in names and key not in ("row", "sensitivity")
        },
    )


def row_inspector(view: LayerView, rows: list[int], file_name: str) -> None:
    """Show one row: its scores and where they are cut, its cosine, and the path to its counts."""
    row = st.selectbox("Row", rows, key="inspected_row")
    cards: list[Callable[[], None]] = []
    if view.score is not None:
        cards.append(partial(_scores_card, view, view.score, row, file_name))
    cards.append(partial(_cosine_card, view, row, file_name))
    shown = {each.method for each in view.allocations}
    if "trim" in shown:
        cards.append(partial(_path_card, view, row, file_name))
    if "optimal" in shown and view.prices is not None:
        cards.append(partial(_price_card, view, row, file_name))
    for start in range(0, len(cards), 2):
        pair = cards[start : start + 2]
        for column, draw in zip(st.columns(len(pair)), pair, strict=True):
            with column:
                draw()
    if view.score is None:
        st.caption(text.NO_ROW_SCORE)


def _scores_card(view: LayerView, score: np.ndarray, row: int, file_name: str) -> None:
    scores = row_scores(row, score[row], view.allocations)

    def drawn() -> View:
        return View(
            row_scores_figure(scores, theme()),
            text.row_scores_finding(scores),
            explanations.SCORE_FORMULA[view.score_name],
            f"Scores of row {row} in ascending order, with the borders between pruned and kept",
            lambda: {"score": np.sort(score[row])},
        )

    card("row_scores", {"Scores": drawn}, file_name=file_name, brief=True)


def _cosine_card(view: LayerView, row: int, file_name: str) -> None:
    sparsity, curves = view.sparsity_grid, view.cosine_curves
    statistics = cosine_statistics(curves, sparsity, view.target, view.cosines, [row])

    def drawn() -> View:
        return View(
            cosine_figure(statistics, theme()),
            text.row_cosine_finding(view, row),
            explanations.COSINE_FORMULA,
            f"Cosine similarity of row {row} against its sparsity, with the bands of all rows",
            lambda: {"row_sparsity": sparsity, "cosine": curves[row]},
        )

    card("row_cosine", {"Cosine": drawn}, file_name=file_name, brief=True)


def _path_card(view: LayerView, row: int, file_name: str) -> None:
    search = view.search
    if search is None or search.learning_rate is None:
        with st.container(border=True, height="stretch"):
            st.markdown("**How was its count under TRIM reached?**")
            st.caption(text.row_stays_finding(view, row))
        return
    card("row_path", {"Path": lambda: paths_view(view, search, [row])}, file_name=file_name, brief=True)


def _price_card(view: LayerView, row: int, file_name: str) -> None:
    assert view.prices is not None, "only a layer computed now has prices"
    prices = view.prices(row)

    def drawn() -> View:
        return View(
            row_prices_figure(prices, text.price_unit(view), theme()),
            text.row_prices_finding(prices),
            explanations.OPTIMAL_FORMULA,
            f"Price of a further weight of row {row} against its sparsity",
            lambda: {
                "from_row_sparsity": prices.row_sparsity[:-1],
                "to_row_sparsity": prices.row_sparsity[1:],
                "price": prices.prices,
            },
            has_key=True,
        )

    card("row_prices", {"Prices": drawn}, file_name=file_name, brief=True)


def mask_section(view: LayerView, rows: list[int], file_name: str) -> None:
    """Show which weights are kept, under each allocation with a mask, side by side."""
    masked = [each for each in view.allocations if each.method in view.masks]
    st.markdown("**Which weights does the layer keep?**")
    for column, allocation in zip(st.columns(len(masked)), masked, strict=True):
        with column:
            try:
                keep = view.masks[allocation.method]()
            except RunError as error:
                st.info(literal(error), icon=":material/info:")
                continue
            drawn = partial(_mask, keep, allocation, rows)
            label = literal(allocation.label)
            card(
                f"mask_{allocation.method}",
                {"Mask": drawn},
                file_name=file_name,
                brief=True,
                title=f"**{label}**",
            )
    if len(masked) < len(view.allocations):
        st.caption(text.OWN_MASK)


def _mask(keep: np.ndarray, allocation: RowAllocation, rows: list[int]) -> View:
    return View(
        mask_figure(pool_mask(keep), rows, theme()),
        text.mask_finding(allocation),
        explanations.MASK_FORMULA,
        f"Share of the weights kept over the matrix, {allocation.label}",
        lambda: {"row": np.arange(len(keep)), "pruned": np.asarray(allocation.counts)},
    )
