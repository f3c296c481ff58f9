"""An expert's rows next to those of the same layer in the other experts of its block."""

from collections.abc import Iterable
from functools import partial

import numpy as np
import streamlit as st

from app.ui.common import explanations
from app.ui.common.cards import View, card, theme
from app.ui.common.text import literal
from app.ui.common.waiting import NothingToShow
from app.ui.layer.more import ShownLayer
from app.ui.layer.related import related_views
from diagnostics.figures.distributions import COSINE, GINI, ROW_SPARSITY, RowQuantity
from diagnostics.figures.heads import heads_figure
from diagnostics.figures.theme import series_styles
from diagnostics.heads import HeadNumbers, by_head
from trim.errors import RunError
from trim.names import expert_number, experts_of

LIVE_EXPERTS = 8  # each must be swept first
FORMULA = r"""
All rows of one layer of all experts; the share of the differences that is between experts:

$$
\frac{\sum_e n_e (\bar s_e - \bar s)^2}{\sum_i (s_i - \bar s)^2}
$$

$\bar s_e$: mean of the $n_e$ rows of expert $e$. Rows dealt to $E$ experts at random would reach $(E-1)/(n-1)$ on
average, of $n$ rows in all. Row 5 of one expert has nothing to do with row 5 of another.
"""


def experts_card(shown: ShownLayer) -> None:
    """Show sparsity, Gini and cosine of the rows of all experts of the block; live, of eight neighbouring ones."""
    name, method = shown.view.name, shown.view.own.method

    def chosen(layers: Iterable[str]) -> list[str]:
        experts = experts_of(name, layers)
        if shown.live is None:
            return experts
        first = min(experts.index(name), max(0, len(experts) - LIVE_EXPERTS))
        return experts[first : first + LIVE_EXPERTS]

    try:
        views = related_views(shown, chosen)
    except NothingToShow:
        return
    except RunError as error:
        st.info(literal(error), icon=":material/info:")
        return
    if len(views) < 2:
        st.info("The other experts of this block are not in this run.", icon=":material/info:")
        return
    numbers = {
        "Sparsity": (ROW_SPARSITY, [view.own.row_sparsity for view in views.values()]),
        "Gini": (GINI, [view.coefficients for view in views.values()]),
        "Cosine": (COSINE, [view.cosines[-1].cosine for view in views.values()]),
    }
    names, index = [expert_number(each) for each in views], list(views).index(name)

    def drawn(quantity: RowQuantity, values: list[np.ndarray]) -> View:
        found = by_head(shown.view.own.label, np.concatenate(values), names)
        style = series_styles(["score" if quantity is GINI else method])
        return View(
            heads_figure([found], style, quantity, theme(), groups="expert", marked=index),
            experts_finding(found, quantity, index),
            FORMULA + explanations.COSINE_FORMULA * (quantity is COSINE),
            f"{quantity.name} by expert",
            lambda: {
                "expert": np.repeat(np.array(names), [len(each) for each in values]),
                "row": np.concatenate([np.arange(len(each)) for each in values]),
                quantity.name.replace(" ", "_"): np.concatenate(values),
            },
            has_key=True,
        )

    card(
        "experts",
        {label: partial(drawn, *number) for label, number in numbers.items()},
        file_name=shown.file_name,
        bind="query-params",
        brief=True,
    )


def experts_finding(found: HeadNumbers, quantity: RowQuantity, index: int) -> str:
    """Describe an expert's rank among the others, and the share of the variance that is between experts."""
    if found.between is None:
        return f"The {quantity.name} is the same in all rows of all experts."
    finite = np.flatnonzero(np.isfinite(found.means))
    order = finite[np.argsort(-found.means[finite], kind="stable")].tolist()
    high, low = order[0], order[-1]

    def mean(each: int) -> str:
        return quantity.format(float(found.means[each]))

    own = (
        f"Expert {found.names[index]}: mean {mean(index)}, place {order.index(index) + 1} of {len(order)}. "
        if index in order
        else f"Expert {found.names[index]} has none. "
    )
    ends = (
        f"{own}Highest in expert {found.names[high]} ({mean(high)}), lowest in {found.names[low]} ({mean(low)})"
        if mean(high) != mean(low)
        else f"All {len(order)} experts have the same mean, {mean(high)}"
    )
    return (
        f"{ends}; {found.between:.0%} of the differences between rows are between experts, where chance would leave "
        f"{found.chance:.1%}."
    )
