"""The rows of attention's projections by head, or the columns of its output."""

from functools import partial

import numpy as np
import streamlit as st

from app.services.runs.layer import LayerView
from app.ui.common import explanations
from app.ui.common.cards import View, card, theme
from app.ui.common.text import literal
from app.ui.layer import text
from diagnostics.concentration import gini
from diagnostics.figures.distributions import COSINE, GINI, ROW_SPARSITY, RowQuantity
from diagnostics.figures.heads import heads_figure
from diagnostics.figures.theme import series_styles
from diagnostics.format import percent
from diagnostics.heads import WHOLE, HeadNumbers, by_head
from diagnostics.numeric import level
from trim.errors import RunError
from trim.models.heads import LayerHeads

COLUMN_SPARSITY = RowQuantity(
    "column sparsity",
    "How much of each column is pruned?",
    "column sparsity (share of the column's weights pruned)",
    ROW_SPARSITY.tick_format,
)
COLUMN_GINI = RowQuantity(
    "Gini", GINI.question, "Gini of the column's scores (0 = spread evenly)", GINI.tick_format
)
FORMULA = r"""
Rows that follow each other belong to one head; of the projection of attention's output, columns do. With grouped
queries several query heads share one head of keys and values. The share of the differences that is between heads:

$$
\frac{\sum_h n_h (\bar s_h - \bar s)^2}{\sum_i (s_i - \bar s)^2}
$$

$\bar s_h$: mean of the $n_h$ rows of head $h$. Rows dealt to $H$ heads at random would reach $(H-1)/(D-1)$ on average.
"""


def heads_card(view: LayerView, file_name: str) -> None:
    """Show sparsity, Gini and cosine of a layer's rows, or columns, by head."""
    heads = view.heads
    assert heads is not None, "the list of views asks"
    found, missing = _numbers(view, heads)
    if not found:
        st.info(literal(missing), icon=":material/info:")
        return
    of = heads.axis.removesuffix("s")

    def drawn(quantity: RowQuantity, values: dict[str, np.ndarray]) -> View:
        labels = {each.method: each.label for each in view.allocations} | {"score": view.score_name}
        sets = [by_head(labels[method], each[heads.order], heads.names) for method, each in values.items()]
        return View(
            heads_figure(
                sets, series_styles(list(values)), quantity, theme(), of="row" if of == "row" else "column"
            ),
            heads_finding(sets, quantity, of),
            FORMULA + (explanations.COSINE_FORMULA if quantity is COSINE else ""),
            f"{quantity.name} by attention head",
            lambda: {
                of: heads.order,
                "head": np.repeat(np.array(heads.names), heads.size),
                **{
                    f"{quantity.name.replace(' ', '_')}_{method}": each[heads.order]
                    for method, each in values.items()
                },
            },
            has_key=True,
        )

    card(
        "heads",
        {name: partial(drawn, *numbers) for name, numbers in found.items()},
        file_name=file_name,
        missing=missing or None,
        bind="query-params",
        brief=True,
    )


def _numbers(
    view: LayerView, heads: LayerHeads
) -> tuple[dict[str, tuple[RowQuantity, dict[str, np.ndarray]]], str]:
    """Return the available numbers by their labels in the control, and why others are missing."""
    if heads.axis == "rows":
        shown = view.learned or view.allocations
        return {
            "Sparsity": (
                ROW_SPARSITY,
                {each.method: level(each.row_sparsity, view.columns) for each in shown},
            ),
            "Gini": (GINI, {"score": view.coefficients}),
            "Cosine": (COSINE, {each.method: each.cosine for each in view.cosines}),
        }, ""
    found: dict[str, tuple[RowQuantity, dict[str, np.ndarray]]] = {}
    masks, missing = {}, "A head's columns have no output of their own, and so no cosine."
    try:
        masks = {
            each.method: 1 - view.masks[each.method]().mean(axis=0)
            for each in view.allocations
            if each.method in view.masks
        }
    except RunError as error:
        missing = str(error)
    if masks:
        found["Sparsity"] = COLUMN_SPARSITY, masks
    if view.score is not None:
        found["Gini"] = COLUMN_GINI, {"score": gini(view.score.T)}
    else:
        missing += f" {text.NO_COLUMN_SCORE}"
    return found, missing


def heads_finding(sets: list[HeadNumbers], quantity: RowQuantity, of: str) -> str:
    """Describe the highest and lowest heads, the variance between heads, and whether a head was pruned completely."""
    several = len(sets) > 1
    sentences = []
    for each in sets:
        begin = f"{each.label}: " if several else ""
        if each.between is None:
            sentences.append(f"{begin}all {of}s are equal.")
            continue
        names = [name.partition(" (")[0] for name in each.names]
        high, low = int(np.nanargmax(each.means)), int(np.nanargmin(each.means))
        sentences.append(
            f"{begin}highest in {names[high]} (mean {quantity.format(float(each.means[high]))}), lowest in "
            f"{names[low]} ({quantity.format(float(each.means[low]))}); {percent(each.between, 0)} of the differences "
            f"between {of}s are between heads, where chance would leave {percent(each.chance)}."
        )
        if "sparsity" in quantity.name:
            whole = [name for name, mean in zip(names, each.means, strict=True) if mean >= WHOLE]
            sentences.append(
                f"Pruned nearly whole, to {percent(WHOLE, 0)} or more: {', '.join(whole)}."
                if whole
                else f"No head loses {percent(WHOLE, 0)} of its weights or more."
            )
    text = " ".join(sentences)
    return text[:1].upper() + text[1:]
